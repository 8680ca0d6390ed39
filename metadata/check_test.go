package metadata_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// sentences are what Check finds, each of which must say what and why.
func sentences(t *testing.T, store *metadata.Postgres) (all []string) {
	t.Helper()
	found, err := store.Check(t.Context())
	require.NoError(t, err)
	for _, f := range found {
		assert.NotEmpty(t, f.Setting)
		assert.NotEmpty(t, f.Value, f.Setting)
		assert.NotEmpty(t, f.Want, f.Setting)
		assert.NotEmpty(t, f.Why, f.Setting)
		all = append(all, f.String())
	}
	return all
}

// What has nothing to find fault with also works.
func TestCheckFindsNothingWhereAllIsAsConfigured(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		d.exec(t, `CREATE DOMAIN email AS varchar(80) CHECK (VALUE <> ''); CREATE DOMAIN object AS jsonb; CREATE SCHEMA "my app"; CREATE SCHEMA "app$1";
			CREATE TABLE domains (id email PRIMARY KEY, metadata object);
			CREATE TABLE scoped (tenant bigint, id int, doc jsonb, n bigint, at timestamptz, PRIMARY KEY (id) INCLUDE (doc), UNIQUE (tenant, id));
			CREATE TABLE filled (id text PRIMARY KEY, metadata jsonb, serial bigserial, ident int GENERATED ALWAYS AS IDENTITY, twice text NOT NULL GENERATED ALWAYS AS (id) STORED, late text NOT NULL);
			CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.late := 'x'; RETURN NEW; END $$;
			CREATE TRIGGER fill BEFORE INSERT ON filled FOR EACH ROW EXECUTE FUNCTION fill();
			CREATE VIEW views AS SELECT id AS name, metadata FROM domains WHERE id <> 'hidden'`)
		for name, o := range map[string]metadata.Options{
			"default":    {},
			"by schema":  {Table: metadata.Table{Schema: "my app", Tokens: metadata.DefaultTokens}},
			"tokens":     {Table: metadata.Table{Tokens: "my tokens"}},
			"odd schema": {Table: metadata.Table{Schema: "app$1"}},
			"in Go":      {MergeInGo: true},
			"domains":    {Table: metadata.Table{Name: "domains", Create: true}},
			"scoped":     {Table: metadata.Table{Name: "scoped", IDType: metadata.BigInt, Column: "doc", Version: "n", UpdatedAt: "at", Create: true, Scope: []metadata.Scope{{Column: "tenant", Type: metadata.BigInt, Value: "7"}}}},
			"filled":     {Table: metadata.Table{Name: "filled", Create: true}},
			"view":       {Table: metadata.Table{Name: "views", ID: "name", Create: true}},
		} {
			store := d.migrated(t, &o)
			assert.Empty(t, sentences(t, store), name)
			_, err := store.Merge(t.Context(), "1", raw(`{"n":{"m":1}}`))
			assert.NoError(t, err, name)
			assert.NoError(t, store.Delete(t.Context(), "1"), name)
		}
		store := d.store(t, nil)
		store.Close()
		_, err := store.Check(t.Context())
		assert.ErrorIs(t, err, metadata.ErrClosed)
	})
}

// Of each table that is not as configured it says so, and what to do; and that does it,
// where it is SQL.
func TestCheckFindsWhatIsNotAsConfigured(t *testing.T) {
	const table = `CREATE TABLE t (id text PRIMARY KEY, metadata jsonb)`
	create := metadata.Table{Name: "t", Create: true}
	with := func(change func(*metadata.Table)) metadata.Table {
		table := create
		change(&table)
		return table
	}
	version := with(func(t *metadata.Table) { t.Version = "v" })
	for name, c := range map[string]struct {
		ddl   string
		table metadata.Table
		want  string // of the first finding
		works bool   // for now, or mostly
	}{
		"default table":       {`SELECT 1`, metadata.Table{}, `table "lockstore_metadata" is missing from the search path (public), want Migrate, or`, false},
		"no schema":           {`SELECT 1`, metadata.Table{Schema: "none"}, `table "none"."lockstore_metadata" is missing, want Migrate, or`, false},
		"table":               {`CREATE TABLE other.t (id text PRIMARY KEY, metadata jsonb)`, create, `table "t" is missing from the search path (public), want CREATE TABLE, or another Table.Name; or the Table.Schema that is meant, of other: every`, false},
		"index for a table":   {`CREATE TABLE u (id text); CREATE INDEX t ON u (id)`, create, `table "t" is no table or view, want`, false},
		"sequence":            {`CREATE SEQUENCE t`, create, `table "t" is no table or view, want`, false},
		"id":                  {`CREATE TABLE t (name text PRIMARY KEY, metadata jsonb)`, create, `column "id" of table "t" is missing, want another column`, false},
		"id of another type":  {`CREATE TABLE t (id uuid PRIMARY KEY, metadata jsonb)`, create, `column "id" of table "t" is of type uuid, want Table.IDType UUID`, false},
		"text for a number":   {table, with(func(t *metadata.Table) { t.IDType = metadata.BigInt }), `column "id" of table "t" is of type text, want Table.IDType Text`, false},
		"unfit id":            {`CREATE TABLE t (id char(8) PRIMARY KEY, metadata jsonb)`, create, `column "id" of table "t" is of type character, in which values may be equal that are written otherwise, want`, false},
		"rules":               {table + `; CREATE RULE nothing AS ON UPDATE TO t DO INSTEAD NOTHING`, create, `table "t" is with rules, or`, false},
		"scope":               {table, with(func(t *metadata.Table) { t.Scope = []metadata.Scope{{Column: "tenant", Value: "a"}} }), `column "tenant" of table "t" is missing, want another column`, false},
		"column":              {`CREATE TABLE t (id text PRIMARY KEY)`, create, `column "metadata" of table "t" is missing, want ALTER TABLE "public"."t" ADD COLUMN "metadata" jsonb, or another Table.Column`, false},
		"json":                {`CREATE TABLE t (id text PRIMARY KEY, metadata json)`, create, `column "metadata" of table "t" is of type json, want ALTER TABLE "public"."t" ALTER COLUMN "metadata" TYPE jsonb: every write`, false},
		"generated":           {`CREATE TABLE t (id text PRIMARY KEY, metadata jsonb GENERATED ALWAYS AS ('{}') STORED)`, create, `column "metadata" of table "t" is generated, want`, false},
		"version":             {table, version, `column "v" of table "t" is missing, want ALTER TABLE "public"."t" ADD COLUMN "v" bigint`, false},
		"version as text":     {`CREATE TABLE t (id text PRIMARY KEY, metadata jsonb, v text)`, version, `column "v" of table "t" is of type text, want ALTER TABLE "public"."t" ALTER COLUMN "v" TYPE bigint`, false},
		"small version":       {`CREATE TABLE t (id text PRIMARY KEY, metadata jsonb, v int)`, version, `column "v" of table "t" is of type integer, want ALTER TABLE "public"."t" ALTER COLUMN "v" TYPE bigint`, true},
		"time without a zone": {`CREATE TABLE t (id text PRIMARY KEY, metadata jsonb, at timestamp(3))`, with(func(t *metadata.Table) { t.UpdatedAt = "at" }), `column "at" of table "t" is of type timestamp(3) without time zone, want ALTER TABLE "public"."t" ALTER COLUMN "at" TYPE timestamptz`, true},
		"no key":              {`CREATE TABLE t (id text NOT NULL, metadata jsonb)`, create, `table "t" is without a unique index of "id", want CREATE UNIQUE INDEX ON "public"."t" ("id"): two`, true},
		"key of more":         {`CREATE TABLE t (id text, part int DEFAULT 1, metadata jsonb, PRIMARY KEY (id, part))`, create, `table "t" is without a unique index of "id", want`, true},
		"partial key":         {`CREATE TABLE t (id text, metadata jsonb); CREATE UNIQUE INDEX ON t (id) WHERE id <> 'a'; CREATE UNIQUE INDEX ON t (lower(id)); CREATE INDEX ON t (id)`, create, `table "t" is without a unique index of "id", want`, true},
		"deferrable key":      {`CREATE TABLE t (id text PRIMARY KEY DEFERRABLE, metadata jsonb)`, create, `index "t_pkey" of table "t" is deferrable, want NOT DEFERRABLE: writes of documents that are missing fail`, false},
		"view of no key":      {`CREATE TABLE b (id text, metadata jsonb); CREATE VIEW t AS SELECT * FROM b`, create, `table "t" is without a unique index`, true},
		"view of two tables":  {`CREATE TABLE b (id text PRIMARY KEY, metadata jsonb); CREATE VIEW t AS SELECT a.* FROM b AS a, b AS c`, create, `table "t" is a view that the server does not update by itself, want`, false},
		"unlogged":            {`CREATE UNLOGGED TABLE t (id text PRIMARY KEY, metadata jsonb)`, create, `table "t" is unlogged, want ALTER TABLE "public"."t" SET LOGGED: a crash`, true},
		"required column":     {`CREATE TABLE t (id text PRIMARY KEY, metadata jsonb, email text NOT NULL)`, create, `column "email" of table "t" is NOT NULL without a default, want ALTER TABLE "public"."t" ALTER COLUMN "email" SET DEFAULT …, or no Table.Create: writes of documents that are missing fail`, false},
		"generated id":        {`CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, metadata jsonb)`, with(func(t *metadata.Table) { t.IDType = metadata.BigInt }), `column "id" of table "t" is generated always, want GENERATED BY DEFAULT, or no Table.Create`, false},
	} {
		t.Run(name, func(t *testing.T) {
			d := overPgx(t)
			d.exec(t, `CREATE SCHEMA other; `+c.ddl)
			store := d.store(t, &metadata.Options{Table: c.table})
			if c.table.Name != "" {
				require.NoError(t, store.Migrate(t.Context()))
			}
			before := sentences(t, store)
			require.NotEmpty(t, before)
			assert.True(t, strings.HasPrefix(before[0], c.want), before[0])
			write := func() error { _, err := store.Merge(t.Context(), "7", raw(`{"n":1}`)); return err }
			if err := write(); c.works {
				assert.NoError(t, err)
			} else {
				assert.Error(t, err)
			}
			found, err := store.Check(t.Context())
			require.NoError(t, err)
			if fix, _, _ := strings.Cut(found[0].Want, ", or "); strings.HasPrefix(fix, "ALTER") || strings.HasPrefix(fix, "CREATE UNIQUE") {
				fix = strings.ReplaceAll(fix, "…", "'none'")
				if strings.HasSuffix(fix, "TYPE jsonb") || strings.HasSuffix(fix, "TYPE bigint") {
					column := strings.Fields(fix)[5]
					fix += " USING " + column + "::text::" + fix[strings.LastIndex(fix, " ")+1:]
				}
				d.exec(t, fix)
				assert.NotContains(t, sentences(t, store), before[0])
				d.Pool().Reset() // of prepared statements
				assert.NoError(t, write())
			}
		})
	}
}

func TestCheckFindsAnotherMergeFunction(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		store := d.migrated(t, nil)
		for name, c := range map[string]struct{ ddl, want string }{
			"missing": {`DROP FUNCTION lockstore_merge_patch`, "missing from the search path (public), want Migrate, or what Table.DDL returns; or MergeInGo"},
			"another": {`DROP FUNCTION lockstore_merge_patch; CREATE FUNCTION lockstore_merge_patch(target jsonb, patch jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT target || patch'`, "not this release's, want"},
			"altered": {`ALTER FUNCTION lockstore_merge_patch SECURITY DEFINER`, "not this release's, want"},
		} {
			d.exec(t, c.ddl)
			found := sentences(t, store)
			if assert.Len(t, found, 1, name) {
				assert.Contains(t, found[0], `function "lockstore_merge_patch"(jsonb, jsonb) is `+c.want, name)
			}
			assert.Empty(t, sentences(t, d.store(t, &metadata.Options{MergeInGo: true})), "needs none")
			d.exec(t, `DROP FUNCTION IF EXISTS lockstore_merge_patch`)
			require.NoError(t, store.Migrate(t.Context()))
			assert.Empty(t, sentences(t, store), name)
		}
	})
}

// A role that lacks privileges is told each, as the SQL that grants it; with all of them
// granted it finds nothing, and everything works.
func TestCheckFindsWhatTheRoleMayNotDo(t *testing.T) {
	for name, table := range map[string]metadata.Table{
		"default":      {Schema: "app"},
		"tokens":       {Schema: "app", Tokens: metadata.DefaultTokens},
		"host's":       {Schema: "app", Name: "users", Version: "v", Tokens: "tokens"},
		"host's, path": {Name: "users", Version: "v", Create: true},
	} {
		t.Run(name, func(t *testing.T) {
			db, ctx := pgtest.New(t), t.Context()
			admin := db.Pool()
			_, err := admin.Exec(ctx, `CREATE SCHEMA app; CREATE TABLE app.users (id text PRIMARY KEY, metadata jsonb, v bigint);
				ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC; INSERT INTO app.users VALUES ('a', '{}', 1)`)
			require.NoError(t, err)
			open := func(role bool) *metadata.Postgres {
				config := admin.Config()
				if role {
					config = asRole(t, db).Config()
				}
				config.ConnConfig.RuntimeParams["search_path"] = "app, public"
				return onPool(db, newPool(t, config)).store(t, &metadata.Options{Table: table})
			}
			require.NoError(t, open(false).Migrate(ctx))
			store := open(true)
			write := func() error { _, err := store.Merge(ctx, "a", raw(`{"n":1}`)); return err }
			if table.Tokens != "" {
				n := 0
				write = func() error {
					n++
					_, err := store.Once(fmt.Sprint(n)).Merge(ctx, "a", raw(`{"n":%d}`, n))
					return err
				}
			}
			require.Error(t, write())
			if table.Schema == "" { // a path finds nothing in a schema that the role may not use
				assert.Contains(t, sentences(t, store)[0], "missing from the search path (public)")
				_, err := admin.Exec(ctx, "GRANT USAGE ON SCHEMA app TO "+workerOf(t, db))
				require.NoError(t, err)
			}
			found, err := store.Check(ctx)
			require.NoError(t, err)
			require.NotEmpty(t, found)
			for _, f := range found {
				assert.Equal(t, "not granted", f.Value, f.String())
				_, err := admin.Exec(ctx, f.Want)
				require.NoError(t, err, f.Want)
			}
			assert.Empty(t, sentences(t, store))
			assert.NoError(t, write())
			if table.Create || table.Name == "" {
				assert.NoError(t, store.Delete(ctx, "a"))
				assert.NoError(t, write())
			}
		})
	}
}

// Of a table of tokens that is not as Migrate makes it, Check says what to do; and that does
// it.
func TestCheckFindsATableOfTokensThatIsNotAsItShouldBe(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		store := d.store(t, withTokens(metadata.Options{}))
		require.NoError(t, d.store(t, nil).Migrate(t.Context()))
		found := sentences(t, store)
		require.Len(t, found, 1)
		assert.Contains(t, found[0], `table "lockstore_once" is missing`)
		require.NoError(t, store.Migrate(t.Context()))
		for change, want := range map[string]string{
			`ALTER TABLE lockstore_once DROP COLUMN digest`:                              `column "digest" of table "lockstore_once" is missing`,
			`ALTER TABLE lockstore_once ALTER COLUMN version TYPE int`:                   `column "version" of table "lockstore_once" is of type integer`,
			`ALTER TABLE lockstore_once DROP CONSTRAINT lockstore_once_pkey`:             `table "lockstore_once" is without a unique index`,
			`ALTER TABLE lockstore_once ADD COLUMN mine text NOT NULL`:                   `column "mine" of table "lockstore_once" is NOT NULL`,
			`ALTER TABLE lockstore_once SET UNLOGGED`:                                    `table "lockstore_once" is not permanent`,
			`DROP TABLE lockstore_once; CREATE VIEW lockstore_once AS SELECT 1 AS token`: `table "lockstore_once" is no table`,
		} {
			d.exec(t, change)
			found := sentences(t, store)
			if assert.NotEmpty(t, found, change) {
				assert.Contains(t, found[0], want)
			}
			d.exec(t, `DO $$ BEGIN DROP VIEW lockstore_once; EXCEPTION WHEN wrong_object_type THEN DROP TABLE lockstore_once; END $$`)
			require.NoError(t, store.Migrate(t.Context()))
			assert.Empty(t, sentences(t, store))
		}
	})
}

func TestCheckFindsStrangersAndReadOnlySessions(t *testing.T) {
	d, ctx := overPgx(t), t.Context()
	pool := asRole(t, d.DB, "ALL ON SCHEMA public")
	onPool(d.DB, pool).migrated(t, nil)
	stranger := workerOf(t, d.DB)
	for owner, want := range map[string]int{"": 2, stranger: 0} {
		found := sentences(t, d.store(t, &metadata.Options{Table: metadata.Table{Owner: owner}}))
		assert.Len(t, found, want, "%q: %v", owner, found)
		for _, f := range found {
			assert.Contains(t, f, "owned by "+stranger+", want Table.Owner")
		}
	}
	d.exec(t, "CREATE SCHEMA theirs AUTHORIZATION "+stranger)
	inTheirs := &metadata.Options{Table: metadata.Table{Schema: "theirs"}}
	onPool(d.DB, pool).migrated(t, inTheirs)
	if found := sentences(t, d.store(t, inTheirs)); assert.Len(t, found, 1, "%v", found) {
		assert.Contains(t, found[0], `schema "theirs" is owned by `+stranger)
	}

	config := pool.Config()
	config.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on"
	readOnly := onPool(d.DB, newPool(t, config)).store(t, nil)
	found, err := readOnly.Check(ctx)
	require.NoError(t, err)
	if assert.Len(t, found, 1) {
		assert.Equal(t, lock.Finding{Setting: "transaction_read_only", Value: "on", Want: found[0].Want, Why: found[0].Why}, found[0])
	}
	_, err = readOnly.Merge(ctx, "a", raw(`{}`))
	assert.ErrorIs(t, err, metadata.ErrReadOnly)
}

func TestCheckFindsRowsThatNobodyMaySee(t *testing.T) {
	d, ctx := overPgx(t), t.Context()
	owner := d.migrated(t, nil)
	_, err := owner.Merge(ctx, "a", raw(`{}`))
	require.NoError(t, err)
	d.exec(t, "ALTER TABLE lockstore_metadata ENABLE ROW LEVEL SECURITY")
	assert.Empty(t, sentences(t, owner), "a superuser sees all")
	theirs := onPool(d.DB, asRole(t, d.DB, "ALL ON lockstore_metadata")).store(t, nil)
	_, err = theirs.Get(ctx, "a")
	require.ErrorIs(t, err, metadata.ErrNotFound)
	if found := sentences(t, theirs); assert.Len(t, found, 1) {
		assert.Contains(t, found[0], `table "lockstore_metadata" is under row-level security without a policy, want ALTER TABLE "public"."lockstore_metadata" DISABLE ROW LEVEL SECURITY, or policies`)
	}
	d.exec(t, "CREATE POLICY all_of_them ON lockstore_metadata USING (true)")
	assert.Empty(t, sentences(t, theirs))
}
