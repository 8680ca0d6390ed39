package metadata_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// Tables as hosts have them, with triggers, constraints, policies, views and names of their own.

// A constraint, generated column or index whose expression parses a value of the document
// reports an error of SQL, and quotes the value. It is the write that is refused, and no other.
func TestDataThatIsSQLToTheTableIsRefusedAlone(t *testing.T) {
	for name, c := range map[string]struct{ ddl, bad string }{
		"tsquery in a generated column": {`CREATE TABLE docs (id text PRIMARY KEY, metadata jsonb NOT NULL DEFAULT '{}', q tsquery GENERATED ALWAYS AS (to_tsquery('simple', metadata->>'q')) STORED)`, canary + " x"},
		"jsonpath in a CHECK":           {`CREATE TABLE docs (id text PRIMARY KEY, metadata jsonb NOT NULL DEFAULT '{}' CHECK ((metadata->>'q')::jsonpath IS NOT NULL OR NOT metadata ? 'q'))`, "$.a " + canary},
		"regclass in a CHECK":           {`CREATE TABLE docs (id text PRIMARY KEY, metadata jsonb NOT NULL DEFAULT '{}' CHECK ((metadata->>'q')::regclass IS NOT NULL OR NOT metadata ? 'q'))`, `"` + canary + `"`},
		"tsquery in an index":           {`CREATE TABLE docs (id text PRIMARY KEY, metadata jsonb NOT NULL DEFAULT '{}'); CREATE INDEX ON docs (to_tsquery('simple', metadata->>'q'))`, canary + " x"},
		"long word (54000)":             {`CREATE TABLE docs (id text PRIMARY KEY, metadata jsonb NOT NULL DEFAULT '{}', q tsquery GENERATED ALWAYS AS ((metadata->>'q')::tsquery) STORED)`, strings.Repeat("x", 3000) + canary},
	} {
		t.Run(name, func(t *testing.T) {
			d := overPgx(t)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			d.exec(t, c.ddl+`; INSERT INTO docs (id) VALUES ('a'), ('b'), ('c')`)
			store := d.migrated(t, &metadata.Options{Table: metadata.Table{Name: "docs"}})
			bad := json.RawMessage(fmt.Sprintf(`{"q":%s}`, must(json.Marshal(c.bad))))
			_, err := store.Merge(ctx, "a", bad)
			require.Error(t, err)
			assert.ErrorIs(t, err, metadata.ErrRejected, "Merge: %.200v", err)
			assert.NotContains(t, err.Error(), canary, "Merge leaks")
			results, err := store.MergeMany(ctx, []metadata.Patch{{ID: "a", Patch: raw(`{"n":1}`)}, {ID: "b", Patch: bad}, {ID: "c", Patch: raw(`{"n":1}`)}})
			require.Error(t, err)
			assert.NoError(t, results[0].Err, "a fails though only b is bad")
			assert.NoError(t, results[2].Err, "c fails though only b is bad")
		})
	}
}

// The same for a batch of one document.
func TestDataThatIsSQLToTheTableIsRefusedAloneInABatch(t *testing.T) {
	d := overPgx(t)
	ctx := t.Context()
	d.exec(t, `CREATE TABLE docs (id text PRIMARY KEY, metadata jsonb NOT NULL DEFAULT '{}', q tsquery GENERATED ALWAYS AS (to_tsquery('simple', metadata->>'q')) STORED); INSERT INTO docs (id) VALUES ('a')`)
	store := d.migrated(t, &metadata.Options{Table: metadata.Table{Name: "docs"}})
	host, err := d.Pool().Begin(ctx)
	require.NoError(t, err)
	defer host.Rollback(ctx)
	_, err = host.Exec(ctx, "SELECT FROM docs WHERE id = 'a' FOR UPDATE")
	require.NoError(t, err)
	var writes []pending
	writes = append(writes, begin(func() (metadata.Document, error) { return store.Merge(ctx, "a", raw(`{"first":1}`)) }))
	waitForRow(t, d)
	for i := range 6 {
		patch := `{"k%d":1}`
		if i == 3 {
			patch = `{"q":"bad query", "k%d":1}`
		}
		writes = append(writes, lineUp(ctx, merging(store, fmt.Sprintf(patch, i))))
	}
	require.NoError(t, host.Rollback(ctx))
	for i, w := range writes {
		err := w.wait(t, fmt.Sprint(i)).err
		if i == 4 {
			assert.ErrorIs(t, err, metadata.ErrRejected)
		} else {
			assert.NoError(t, err, "%d fails though only the bad one is bad", i)
		}
	}
}

// A trigger can raise any code: it is the data that it refuses.
func TestTriggerRefusesWithAnyCode(t *testing.T) {
	for name, raise := range map[string]string{
		"42P01": `EXECUTE format('INSERT INTO %I DEFAULT VALUES', 'kind_' || (NEW.metadata->>'q'));`,
		"55000": `RAISE EXCEPTION 'no' USING ERRCODE = '55000';`,
		"XX000": `RAISE EXCEPTION 'no' USING ERRCODE = 'XX000';`,
		"P0001": `RAISE EXCEPTION 'no';`,
	} {
		t.Run(name, func(t *testing.T) {
			d := overPgx(t)
			ctx := t.Context()
			d.exec(t, `CREATE TABLE docs (id text PRIMARY KEY, metadata jsonb NOT NULL DEFAULT '{}'); INSERT INTO docs (id) VALUES ('a'), ('b'), ('c');
				CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.metadata ? 'q' THEN `+raise+` END IF; RETURN NEW; END $$;
				CREATE TRIGGER f BEFORE UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION f()`)
			store := d.migrated(t, &metadata.Options{Table: metadata.Table{Name: "docs"}})
			results, err := store.MergeMany(ctx, []metadata.Patch{{ID: "a", Patch: raw(`{"n":1}`)}, {ID: "b", Patch: raw(`{"q":%q}`, canary)}, {ID: "c", Patch: raw(`{"n":1}`)}})
			assert.Error(t, err)
			assert.NotContains(t, results[1].Err.Error(), canary)
			assert.ErrorIs(t, results[1].Err, metadata.ErrRejected)
			assert.NoError(t, results[0].Err, "a fails, though only b is refused")
			assert.NoError(t, results[2].Err, "c fails, though only b is refused")
		})
	}
}

// A policy that asks about a role that the document names.
func TestErrorOfAPolicyShowsNoValue(t *testing.T) {
	d := overPgx(t)
	ctx := t.Context()
	d.exec(t, `CREATE TABLE docs (id text PRIMARY KEY, metadata jsonb NOT NULL DEFAULT '{}'); INSERT INTO docs VALUES ('a', '{"role":"`+canary+`"}');
		ALTER TABLE docs ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON docs USING (pg_has_role(metadata->>'role', 'MEMBER'))`)
	require.NoError(t, d.store(t, &metadata.Options{Table: metadata.Table{Name: "docs"}}).Migrate(ctx))
	store := onPool(d.DB, asRole(t, d.DB, "ALL ON docs")).store(t, &metadata.Options{Table: metadata.Table{Name: "docs"}})
	_, err := store.Get(ctx, "a")
	require.Error(t, err)
	assert.NotContains(t, err.Error(), canary)
}

// Partitions by inheritance: a trigger puts the new row into a child, and returns NULL.
func TestTriggerThatPutsNewRowsElsewhere(t *testing.T) {
	d := overPgx(t)
	d.exec(t, `CREATE TABLE docs (id text PRIMARY KEY, metadata jsonb NOT NULL DEFAULT '{}', version bigint);
		CREATE TABLE docs_new (PRIMARY KEY (id)) INHERITS (docs);
		CREATE FUNCTION redirect() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO docs_new VALUES (NEW.*); RETURN NULL; END $$;
		CREATE TRIGGER redirect BEFORE INSERT ON docs FOR EACH ROW EXECUTE FUNCTION redirect()`)
	store := d.migrated(t, &metadata.Options{Table: metadata.Table{Name: "docs", Version: "version", Create: true}})
	for name, do := range creations(t, d, store) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		_, err := do(ctx, name, `{"n":1}`)
		cancel()
		_, getting := store.Get(t.Context(), name)
		switch name {
		case "MergeMany":
			assert.NoError(t, errors.Join(err, getting))
		case "In": // the host decides whether to go on
			assert.ErrorIs(t, err, lock.ErrBusy)
		default:
			assert.ErrorIs(t, err, metadata.ErrRejected, name)
			assert.ErrorIs(t, getting, metadata.ErrNotFound, name)
		}
	}
}

// The rows of two partitions can have the same ctid.
func TestYoungTokensStayWhereTheirTableIsPartitioned(t *testing.T) {
	d := overPgx(t)
	ctx := t.Context()
	d.exec(t, `CREATE TABLE lockstore_once (token uuid PRIMARY KEY, digest uuid NOT NULL, version bigint NOT NULL, at timestamptz NOT NULL) PARTITION BY HASH (token);
		CREATE TABLE once_0 PARTITION OF lockstore_once FOR VALUES WITH (MODULUS 2, REMAINDER 0);
		CREATE TABLE once_1 PARTITION OF lockstore_once FOR VALUES WITH (MODULUS 2, REMAINDER 1);
		CREATE INDEX ON lockstore_once (at)`)
	store := d.migrated(t, withTokens(metadata.Options{KeepTokens: time.Hour}))
	incremented := func(token string) metadata.Document {
		doc, err := store.Once(token).Update(ctx, "a", increment)
		require.NoError(t, err)
		return doc
	}
	for i := range 64 {
		incremented(fmt.Sprint("young ", i))
	}
	// Those of one partition become old, and lie where the young of the other lie.
	d.exec(t, `UPDATE once_0 SET at = at - interval '2 days'`)
	d.exec(t, `VACUUM FULL once_0`)
	// The young ones, of the other partition, were made less than KeepTokens ago.
	rows, err := d.Pool().Query(ctx, "SELECT token::text FROM once_1")
	require.NoError(t, err)
	keys, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	for i := range 64 { // which remove what is old
		incremented(fmt.Sprint("later ", i))
	}
	var left int
	require.NoError(t, d.Pool().QueryRow(ctx, "SELECT count(*) FROM once_1 WHERE token::text = ANY ($1)", keys).Scan(&left))
	assert.Equal(t, len(keys), left, "tokens that are seconds old, with KeepTokens of 1h")
	made := 0
	for i := range 64 {
		if !incremented(fmt.Sprint("young ", i)).Repeated {
			made++
		}
	}
	assert.LessOrEqual(t, made, 64-len(keys), "writes that were made again")
}

// Names that look like places of the statements, in each option.
func TestNamesThatLookLikePlaces(t *testing.T) {
	for _, name := range []string{"{text}", "{=}", "{at}", "{row}", "$1", "{1}", "a{-}b"} {
		d := overPgx(t)
		table := metadata.Table{Schema: "s " + name, Name: "t " + name, ID: "i " + name, Column: "c " + name, Version: "v " + name, UpdatedAt: "u " + name, Create: true, Tokens: "o " + name,
			Scope: []metadata.Scope{{Column: "x " + name, Value: "v"}}}
		d.exec(t, fmt.Sprintf(`CREATE SCHEMA "s %[1]s"; CREATE TABLE "s %[1]s"."t %[1]s" ("i %[1]s" text, "x %[1]s" text, "c %[1]s" jsonb, "v %[1]s" bigint, "u %[1]s" timestamptz, PRIMARY KEY ("i %[1]s", "x %[1]s"))`, name))
		store := d.migrated(t, &metadata.Options{Table: table})
		assert.Empty(t, sentences(t, store))
		_, err := store.Merge(t.Context(), "a", raw(`{"n":1}`))
		assert.NoError(t, err, name)
		for operation, do := range allOf(t, d, store) {
			assert.NoError(t, do(t.Context()), "%s: %s", name, operation)
		}
	}
}

// A type of the host's, before PostgreSQL's own in the search path.
func TestTypeOfTheHostInTheSearchPath(t *testing.T) {
	db := pgtest.New(t)
	config := db.Pool().Config()
	config.ConnConfig.RuntimeParams["search_path"] = "public, pg_catalog"
	config.ConnConfig.RuntimeParams["statement_timeout"] = "10s"
	d := onPool(db, newPool(t, config))
	d.exec(t, `CREATE TABLE float8 (id text PRIMARY KEY, metadata jsonb); INSERT INTO float8 VALUES ('a', '{}')`)
	store := d.migrated(t, &metadata.Options{Table: metadata.Table{Name: "float8", Create: true}})
	assert.Empty(t, sentences(t, store))
	for operation, do := range allOf(t, d, store) {
		assert.NoError(t, do(t.Context()), operation)
	}
}

// A view that the server updates, except for the column of the document.
func TestViewWhoseColumnIsAnExpression(t *testing.T) {
	d := overPgx(t)
	ctx := t.Context()
	d.exec(t, `CREATE TABLE base (id text PRIMARY KEY, metadata jsonb, version bigint); INSERT INTO base VALUES ('a', '{}', 0);
		CREATE VIEW docs AS SELECT id, coalesce(metadata, '{}') AS metadata, version FROM base`)
	store := d.migrated(t, &metadata.Options{Table: metadata.Table{Name: "docs", Version: "version"}})
	found := sentences(t, store)
	_, err := store.Merge(ctx, "a", raw(`{"n":1}`))
	assert.ErrorIs(t, err, metadata.ErrSchema)
	assert.NotEmpty(t, found, "Check finds nothing, and every write fails")
}

// A trigger that stores NULL, which is an empty document.
func TestTriggerThatStoresNull(t *testing.T) {
	d := overPgx(t)
	ctx := t.Context()
	d.exec(t, `CREATE TABLE docs (id text PRIMARY KEY, metadata jsonb); INSERT INTO docs VALUES ('a', '{"n":1}');
		CREATE FUNCTION blank() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.metadata ? 'blank' THEN NEW.metadata := NULL; END IF; RETURN NEW; END $$;
		CREATE TRIGGER blank BEFORE UPDATE OR INSERT ON docs FOR EACH ROW EXECUTE FUNCTION blank()`)
	store := d.migrated(t, &metadata.Options{Table: metadata.Table{Name: "docs", Create: true}})
	for name, do := range creations(t, d, store) {
		for _, id := range []string{"a", "new " + name} {
			doc, err := do(ctx, id, `{"blank":1}`)
			require.NoError(t, err, name)
			stored, err := store.Get(ctx, id)
			require.NoError(t, err, name)
			assert.Equal(t, string(stored.Metadata), string(doc.Metadata), "%s: %s", name, id)
		}
	}
}

// What a unique index refuses is told with its name, also where a document is created.
func TestUniqueIndexIsNamedAlsoWhereADocumentIsCreated(t *testing.T) {
	d := overPgx(t)
	ctx := t.Context()
	d.exec(t, `CREATE TABLE docs (id text PRIMARY KEY, metadata jsonb NOT NULL DEFAULT '{}'); CREATE UNIQUE INDEX docs_handle ON docs ((metadata->>'handle'))`)
	store := d.migrated(t, &metadata.Options{Table: metadata.Table{Name: "docs", Create: true}})
	_, err := store.Merge(ctx, "a", raw(`{"handle":"ada"}`))
	require.NoError(t, err)
	_, err = store.Merge(ctx, "old", raw(`{"handle":"bob"}`))
	require.NoError(t, err)
	_, err = store.Merge(ctx, "old", raw(`{"handle":"ada"}`))
	var rejected *metadata.RejectedError
	require.ErrorAs(t, err, &rejected)
	assert.Equal(t, [2]string{"23505", "docs_handle"}, [2]string{rejected.SQLState, rejected.Constraint}, "an existing document")
	for name, do := range creations(t, d, store) {
		_, err = do(ctx, "new "+name, `{"handle":"ada"}`)
		require.ErrorAs(t, err, &rejected, name)
		assert.Equal(t, [2]string{"23505", "docs_handle"}, [2]string{rejected.SQLState, rejected.Constraint}, "%s of a new document: %v", name, err)
	}
}

// A trigger that gives versions counts commits, not patches: those that share one have its version.
func TestVersionsOfATriggerThatCounts(t *testing.T) {
	for name, body := range map[string]string{"old plus one": `NEW.version := OLD.version + 1;`, "sequence": `NEW.version := nextval('seq');`} {
		t.Run(name, func(t *testing.T) {
			d := overPgx(t)
			ctx := t.Context()
			d.exec(t, `CREATE SEQUENCE seq START 100; CREATE TABLE docs (id text PRIMARY KEY, metadata jsonb NOT NULL DEFAULT '{}', version bigint NOT NULL DEFAULT 0); INSERT INTO docs (id) VALUES ('a');
				CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN `+body+` RETURN NEW; END $$;
				CREATE TRIGGER f BEFORE UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION f()`)
			store := d.migrated(t, &metadata.Options{Table: metadata.Table{Name: "docs", Version: "version"}})
			host, err := d.Pool().Begin(ctx)
			require.NoError(t, err)
			defer host.Rollback(ctx)
			_, err = host.Exec(ctx, "SELECT FROM docs WHERE id = 'a' FOR UPDATE")
			require.NoError(t, err)
			writes := []pending{begin(func() (metadata.Document, error) { return store.Merge(ctx, "a", raw(`{"first":1}`)) })}
			waitForRow(t, d)
			for i := range 4 {
				writes = append(writes, lineUp(ctx, merging(store, fmt.Sprintf(`{"k%d":1}`, i))))
			}
			require.NoError(t, host.Rollback(ctx))
			last := int64(0)
			for i, w := range writes {
				got := w.wait(t, fmt.Sprint(i))
				require.NoError(t, got.err)
				assert.GreaterOrEqual(t, got.doc.Version, last)
				last = got.doc.Version
			}
			doc, err := store.Get(ctx, "a")
			require.NoError(t, err)
			assert.Equal(t, doc.Version, last, "which is that of the row")
		})
	}
}

// A scope that the column's type shortens, or a trigger changes, is that of another tenant.
func TestNewDocumentStaysInItsScope(t *testing.T) {
	for name, c := range map[string]struct{ ddl, value string }{
		"varchar(3)": {`CREATE TABLE docs (tenant varchar(3), id text, metadata jsonb, PRIMARY KEY (tenant, id))`, "abc "},
		"trigger": {`CREATE TABLE docs (tenant text, id text, metadata jsonb, PRIMARY KEY (tenant, id));
			CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.tenant := lower(NEW.tenant); RETURN NEW; END $$;
			CREATE TRIGGER f BEFORE INSERT ON docs FOR EACH ROW EXECUTE FUNCTION f()`, "ABC"},
	} {
		t.Run(name, func(t *testing.T) {
			d := overPgx(t)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			d.exec(t, c.ddl)
			of := func(value string) *metadata.Postgres {
				return d.migrated(t, &metadata.Options{Table: metadata.Table{Name: "docs", Create: true, Scope: []metadata.Scope{{Column: "tenant", Value: value}}}})
			}
			mine, theirs := of(c.value), of("abc")
			for op, do := range creations(t, d, mine) {
				_, err := do(ctx, op, `{"n":1}`)
				assert.ErrorIs(t, err, metadata.ErrRejected, op)
				_, err = theirs.Get(ctx, op)
				assert.ErrorIs(t, err, metadata.ErrNotFound, "%s is in the scope of another", op)
			}
		})
	}
}

// Rows of a child table, and a second store on another column of the same rows.
func TestInheritedRowsAndTwoStoresOfOneRow(t *testing.T) {
	d := overPgx(t)
	ctx := t.Context()
	d.exec(t, `CREATE TABLE docs (id int PRIMARY KEY, one jsonb, two jsonb, v bigint); CREATE TABLE child (extra text, PRIMARY KEY (id)) INHERITS (docs); INSERT INTO child (id) VALUES (1), (2)`)
	of := func(column string) *metadata.Postgres {
		return d.migrated(t, &metadata.Options{Table: metadata.Table{Name: "docs", IDType: metadata.BigInt, Column: column, Version: "v"}})
	}
	one, two := of("one"), of("two")
	n := int64(0)
	for i := range 3 {
		for name, s := range map[string]*metadata.Postgres{"one": one, "two": two} {
			doc, err := s.Merge(ctx, "1", raw(`{"%s":%d}`, name, i))
			require.NoError(t, err)
			n++
			assert.Equal(t, n, doc.Version)
			r, err := s.MergeMany(ctx, []metadata.Patch{{ID: "1", Patch: raw(`{"m":%d}`, i)}, {ID: "2", Patch: raw(`{"m":%d}`, i)}})
			require.NoError(t, err)
			n++
			assert.Equal(t, n, r[0].Document.Version)
			doc, err = s.IfVersion(n).Replace(ctx, "1", raw(`{"r":%d}`, n))
			require.NoError(t, err)
			n++
			assert.Equal(t, n, doc.Version)
			assert.Equal(t, fmt.Sprintf(`{"r": %d}`, n-1), string(doc.Metadata))
		}
	}
}
