package metadata_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// allOf are all that a store does with the document a.
func allOf(t *testing.T, d *database, store *metadata.Postgres) map[string]func(context.Context) error {
	patch := raw(`{"n":1}`)
	merge := func(ctx context.Context) error { _, err := store.Merge(ctx, "a", patch); return err }
	in := func(do func(*metadata.Tx, context.Context) error) func(context.Context) error {
		return func(ctx context.Context) error {
			return d.inTx(ctx, func(tx any) error { return do(store.In(tx), ctx) })
		}
	}
	locker := newLocker(t, d.Pool())
	return map[string]func(context.Context) error{
		"Merge":   merge,
		"Get":     func(ctx context.Context) error { _, err := store.Get(ctx, "a"); return err },
		"GetMany": func(ctx context.Context) error { _, err := store.GetMany(ctx, "a"); return err },
		"Replace": func(ctx context.Context) error { _, err := store.Replace(ctx, "a", patch); return err },
		"MergeMany": func(ctx context.Context) error {
			_, err := store.MergeMany(ctx, []metadata.Patch{{ID: "a", Patch: patch}})
			return err
		},
		"Update": func(ctx context.Context) error {
			_, err := store.Update(ctx, "a", func(metadata.Document) (json.RawMessage, error) { return patch, nil })
			return err
		},
		"Find":      func(ctx context.Context) error { _, err := find(ctx, store, `{}`, nil); return err },
		"In, Merge": in(func(tx *metadata.Tx, ctx context.Context) error { _, err := tx.Merge(ctx, "a", patch); return err }),
		"In, Get":   in(func(tx *metadata.Tx, ctx context.Context) error { _, err := tx.Get(ctx, "a"); return err }),
		"under a hold": func(ctx context.Context) error {
			return lock.Do(ctx, locker, store.Key("a"), merge)
		},
	}
}

// inTx runs do in a transaction of the host's, and commits if it returns nil.
func (d *database) inTx(ctx context.Context, do func(tx any) error) error {
	return pgx.BeginFunc(ctx, d.Pool(), func(tx pgx.Tx) error { return do(tx) })
}

// A table in which one row answers to several ids would give it several locks, and one
// whose rows cannot be locked loses merges: every operation refuses it, and says why.
func TestTableThatCannotKeepDocumentsIsRefused(t *testing.T) {
	const base = `CREATE TABLE t (id text PRIMARY KEY, metadata jsonb); INSERT INTO t VALUES ('a', '{}');`
	eachDriver(t, func(t *testing.T, d *database) {
		d.exec(t, `CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
			CREATE DOMAIN padded AS char(8); CREATE DOMAIN twice AS padded;
			CREATE FUNCTION instead() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
				UPDATE t SET metadata = NEW.metadata WHERE id = OLD.id; RETURN NEW; END $$`)
		for name, c := range map[string]struct{ ddl, table, column string }{
			"nondeterministic collation": {`CREATE TABLE t (id text COLLATE ci PRIMARY KEY, metadata jsonb)`, "t", "id"},
			"char(n)":                    {`CREATE TABLE t (id char(8) PRIMARY KEY, metadata jsonb)`, "t", "id"},
			"domains over char(n)":       {`CREATE TABLE t (id twice PRIMARY KEY, metadata jsonb)`, "t", "id"},
			"citext":                     {`CREATE EXTENSION citext; CREATE TABLE t (id citext PRIMARY KEY, metadata jsonb)`, "t", "id"},
			"name":                       {`CREATE TABLE t (id name PRIMARY KEY, metadata jsonb)`, "t", "id"},
			"scope":                      {`CREATE TABLE t (id text, tenant text COLLATE ci, metadata jsonb, PRIMARY KEY (tenant, id))`, "t", "tenant"},
			"INSTEAD OF trigger":         {base + `CREATE VIEW v AS SELECT * FROM t; CREATE TRIGGER instead INSTEAD OF UPDATE ON v FOR EACH ROW EXECUTE FUNCTION instead()`, "v", ""},
			"view of such a view":        {base + `CREATE VIEW v AS SELECT * FROM t; CREATE TRIGGER instead INSTEAD OF UPDATE ON v FOR EACH ROW EXECUTE FUNCTION instead(); CREATE VIEW w AS SELECT * FROM v`, "w", ""},
			"DO INSTEAD rule":            {base + `CREATE RULE nothing AS ON UPDATE TO t DO INSTEAD NOTHING`, "t", ""},
			"DO ALSO rule":               {base + `CREATE RULE notice AS ON UPDATE TO t DO ALSO NOTIFY t`, "t", ""},
		} {
			var installable bool
			require.NoError(t, d.Pool().QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'citext')").Scan(&installable))
			if name == "citext" && !installable {
				continue
			}
			d.exec(t, c.ddl)
			table := metadata.Table{Name: c.table, Create: true}
			if c.column == "tenant" {
				table.Scope = []metadata.Scope{{Column: "tenant", Value: "one"}}
			}
			store := d.migrated(t, &metadata.Options{Table: table})
			for operation, do := range allOf(t, d, store) {
				err := do(t.Context())
				var unfit *metadata.TableError
				if assert.ErrorAs(t, err, &unfit, "%s, %s", name, operation) {
					assert.ErrorIs(t, err, metadata.ErrSchema)
					assert.Equal(t, [2]string{c.table, c.column}, [2]string{unfit.Table, unfit.Column}, name)
					assert.NotEmpty(t, unfit.Reason)
				}
			}
			d.exec(t, `DROP TABLE t CASCADE; DROP EXTENSION IF EXISTS citext`)
		}
	})
}

func TestTablesThatKeepDocuments(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		d.exec(t, `CREATE COLLATION und (provider = icu, locale = 'und'); CREATE DOMAIN email AS varchar(80) CHECK (VALUE <> '')`)
		for table, ddl := range map[string]string{
			"texts":       `CREATE TABLE texts (id text PRIMARY KEY, metadata jsonb)`,
			"varchars":    `CREATE TABLE varchars (id varchar(80) PRIMARY KEY, metadata jsonb)`,
			"domains":     `CREATE TABLE domains (id email PRIMARY KEY, metadata jsonb)`,
			"collations":  `CREATE TABLE collations (id text COLLATE und PRIMARY KEY, metadata jsonb)`,
			"partitioned": `CREATE TABLE partitioned (id text PRIMARY KEY, metadata jsonb) PARTITION BY HASH (id); CREATE TABLE part PARTITION OF partitioned FOR VALUES WITH (MODULUS 1, REMAINDER 0)`,
			"views":       `CREATE TABLE base (id text PRIMARY KEY, metadata jsonb); CREATE VIEW views AS SELECT * FROM base WHERE id <> 'hidden'`,
		} {
			d.exec(t, ddl)
			store := d.migrated(t, &metadata.Options{Table: metadata.Table{Name: table, Create: true}})
			assert.Empty(t, sentences(t, store), table)
			_, err := store.Merge(t.Context(), "a", raw(`{"n":0}`))
			require.NoError(t, err)
			for operation, do := range allOf(t, d, store) {
				assert.NoError(t, do(t.Context()), "%s, %s", table, operation)
			}
		}
	})
}

// A statement's WITH query hides a table of the same name. So the names of all begin with an
// underscore, and a host's table, of any other name, is found.
func TestTableMayHaveTheNameOfAQuery(t *testing.T) {
	statements, err := os.ReadFile("testdata/statements.sql")
	require.NoError(t, err)
	names := []string{}
	for _, q := range regexp.MustCompile(`(?:WITH|\)|,)\s+(\w+) AS (?:MATERIALIZED )?\(`).FindAllSubmatch(statements, -1) {
		name, isMarked := strings.CutPrefix(string(q[1]), "_")
		assert.True(t, isMarked, name)
		names = append(names, name)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	require.Subset(t, names, []string{"condition", "doc", "new", "ours", "server", "share", "stored", "wait"})
	eachDriver(t, func(t *testing.T, d *database) {
		for _, table := range names {
			d.exec(t, fmt.Sprintf(`CREATE TABLE %q (id text PRIMARY KEY, metadata jsonb, version bigint, updated_at timestamptz)`, table))
			store := d.migrated(t, &metadata.Options{Table: metadata.Table{Name: table, Version: "version", UpdatedAt: "updated_at", Create: true, Tokens: table + " tokens"}})
			do := allOf(t, d, store)
			do["Once"] = func(ctx context.Context) error {
				_, err := store.Once("t").Merge(ctx, "once", raw(`{"n":1}`))
				return err
			}
			do["Once, Replace"] = func(ctx context.Context) error {
				_, err := store.Once("u").Replace(ctx, "once", raw(`{"n":1}`))
				return err
			}
			do["Watch"] = func(ctx context.Context) error {
				for doc, err := range store.Watch(ctx, "a") {
					if doc.Metadata == nil {
						return cmp.Or(err, metadata.ErrNotFound)
					}
					return err
				}
				return errors.New("nothing is told")
			}
			require.NoError(t, do["Merge"](t.Context()), table)
			for operation, do := range do {
				assert.NoError(t, do(t.Context()), "%s, %s", table, operation)
			}
			assert.NoError(t, store.Delete(t.Context(), "a"), table)
		}
	})
}

// What a host's own table costs over the default one is one question.
func TestTableIsLookedAtOnce(t *testing.T) {
	eachTraced(t, func(t *testing.T, d *database, tr *tracer) {
		d.exec(t, `CREATE TABLE docs (id text PRIMARY KEY, metadata jsonb); INSERT INTO docs VALUES ('a', '{}')`)
		asked := 0
		_, err := d.migrated(t, nil).Merge(t.Context(), "a", raw(`{}`))
		require.NoError(t, err)
		for _, c := range []struct {
			name string
			want int
		}{{"", 0}, {"docs", 1}} {
			store := d.store(t, &metadata.Options{Table: metadata.Table{Name: c.name}})
			asked = 0
			for range 3 {
				tr.once(sending, "pg_rewrite", func() { asked++ })
				do := allOf(t, d, store)
				require.NoError(t, do["Merge"](t.Context()), "on a traced connection")
				for _, do := range do {
					require.NoError(t, do(t.Context()))
				}
			}
			assert.Equal(t, c.want, asked, c.name)
		}
	})
}

// The question is asked on a connection that its caller waits for, for no longer than it
// waits for one otherwise.
func TestLookingAtTheTableWaitsNoLongerThanItsCaller(t *testing.T) {
	db := pgtest.New(t)
	_, err := db.Pool().Exec(t.Context(), `CREATE TABLE docs (id text PRIMARY KEY, metadata jsonb)`)
	require.NoError(t, err)
	config := db.Pool().Config()
	config.MaxConns = 1
	pool, sql := newPool(t, config), stdlib.OpenDB(*config.ConnConfig)
	defer sql.Close()
	sql.SetMaxOpenConns(1)
	defer must(pool.Acquire(t.Context())).Release()
	defer must(sql.Conn(t.Context())).Close()
	o := &metadata.Options{Table: metadata.Table{Name: "docs"}}
	for driver, store := range map[string]*metadata.Postgres{"pgx": must(metadata.NewPostgres(pool, o)), "sqlx": must(metadata.NewPostgres(sql, o))} {
		defer store.Close()
		for name, do := range map[string]func(context.Context) error{
			"Get":     func(ctx context.Context) error { _, err := store.Get(ctx, "a"); return err },
			"GetMany": func(ctx context.Context) error { _, err := store.GetMany(ctx, "a"); return err },
			"Merge":   func(ctx context.Context) error { _, err := store.Merge(ctx, "a", raw(`{}`)); return err },
			"Check":   func(ctx context.Context) error { _, err := store.Check(ctx); return err },
			"Find":    func(ctx context.Context) error { _, err := find(ctx, store, `{}`, nil); return err },
		} {
			ctx, cancel := context.WithCancelCause(t.Context())
			left := errors.New("left")
			ended := make(chan error, 1)
			go func() { ended <- do(ctx) }()
			cancel(left)
			select {
			case err := <-ended:
				assert.ErrorIs(t, err, context.Canceled, "%s: %s", driver, name)
				assert.ErrorIs(t, err, left, "%s: %s", driver, name)
			case <-time.After(5 * time.Second):
				assert.Fail(t, "it waits still", "%s: %s", driver, name)
			}
		}
	}
}

// A column that is NULL is an empty document, for every reader.
func TestRowsWithoutADocumentAreFound(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		d.exec(t, `CREATE TABLE rows (id text PRIMARY KEY, metadata jsonb); INSERT INTO rows VALUES ('a', NULL), ('b', '{"n": 1}'), ('c', '[]'), ('d', NULL)`)
		store := d.migrated(t, &metadata.Options{Table: metadata.Table{Name: "rows"}})
		for contained, want := range map[string][]string{
			`{ }`: {"a {}", `b {"n": 1}`, "d {}"}, `{"n":1}`: {`b {"n": 1}`}, `[]`: {"c []"}, `null`: nil,
		} {
			docs, err := find(t.Context(), store, contained, &metadata.FindOptions{PageSize: 1})
			require.NoError(t, err)
			var got []string
			for _, doc := range docs {
				got = append(got, doc.ID+" "+string(doc.Metadata))
			}
			assert.Equal(t, want, got, contained)
		}
	})
}

func TestSpellingsOfAnIDShareNothing(t *testing.T) {
	const lower, upper = "7f3f9a3e-0000-4000-8000-00000000000a", "7F3F9A3E-0000-4000-8000-00000000000A"
	eachDriver(t, func(t *testing.T, d *database) {
		ctx := t.Context()
		d.exec(t, `CREATE TABLE docs (id uuid PRIMARY KEY, metadata jsonb)`)
		opts := &metadata.Options{Table: metadata.Table{Name: "docs", IDType: metadata.UUID, Create: true}}
		store, memory := d.migrated(t, opts), must(metadata.NewMemory(nil, opts))
		results, err := store.MergeMany(ctx, []metadata.Patch{{ID: lower, Patch: raw(`{"n":1}`)}, {ID: upper, Patch: raw(`{"m":1}`)}})
		require.NoError(t, err)
		assert.Equal(t, metadata.Document{ID: lower, Metadata: raw(`{"m": 1, "n": 1}`)}, results[1].Document)
		_, err = memory.Merge(ctx, upper, raw(`{"m":1}`))
		require.NoError(t, err)
		doc, err := memory.Merge(ctx, lower, raw(`{"n":1}`))
		require.NoError(t, err)
		assert.Equal(t, results[1].Document, doc)
		assert.Equal(t, store.Key(lower), store.Key(upper))

		found, err := store.GetMany(ctx, lower, upper)
		require.NoError(t, err)
		require.Len(t, found, 2)
		found[lower].Metadata[0] = 'x'
		assert.Equal(t, `{"m": 1, "n": 1}`, string(found[upper].Metadata))
	})
}

func TestScopesThatLeaveNoRoomForIDsAreRefused(t *testing.T) {
	var scopes []metadata.Scope
	for i := range 6 {
		scopes = append(scopes, metadata.Scope{Column: fmt.Sprint(strings.Repeat("c", 60), i), Value: "v"})
	}
	for n := range scopes {
		table := metadata.Table{Name: strings.Repeat("t", 63), Schema: strings.Repeat("s", 63), ID: "id", Scope: scopes[:n+1]}
		store, err := metadata.NewMemory(nil, &metadata.Options{Table: table})
		if err == nil {
			assert.NoError(t, store.Key(strings.Repeat("x", metadata.MaxIDLen)).Err())
		} else {
			assert.ErrorIs(t, err, metadata.ErrInvalidOptions)
		}
		assert.Equal(t, n == 5, err != nil, "%d scopes: %v", n+1, err)
	}
}
