package metadata_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
	"example.com/lockstore/metadata/internal/jsonb/jsonbtest"
	"example.com/lockstore/pgtest"
)

func TestMigrateByManyAtOnce(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		const schema = `odd "$$ $lockstore$ $lockstore_body$`
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				store := d.store(t, &metadata.Options{Namespace: lock.Namespace(fmt.Sprint("app", i%4)), Table: metadata.Table{Schema: schema}})
				assert.NoError(t, store.Migrate(t.Context()))
				assert.NoError(t, store.Migrate(t.Context()))
			})
		}
		wg.Wait()
		store := d.store(t, &metadata.Options{Table: metadata.Table{Schema: schema}})
		doc, err := store.Merge(t.Context(), "a", raw(`{"b":{"c":null}}`))
		require.NoError(t, err)
		assert.Equal(t, `{"b": {}}`, string(doc.Metadata))
		doc, err = store.Merge(t.Context(), "a", raw(`{"b":{"c":1}}`))
		require.NoError(t, err)
		assert.Equal(t, `{"b": {"c": 1}}`, string(doc.Metadata))
	})
}

func TestMigrateNeedsNoSuperuser(t *testing.T) {
	db := pgtest.New(t)
	d := &database{DB: db}
	role := "plain_" + strings.ToLower(db.Name())
	d.exec(t, `CREATE ROLE `+role+` LOGIN PASSWORD 'plain'; CREATE SCHEMA plain AUTHORIZATION `+role+`;
		REVOKE CREATE ON DATABASE `+db.Name()+` FROM PUBLIC, `+role)
	t.Cleanup(func() { d.exec(t, "DROP OWNED BY "+role+"; DROP ROLE "+role) })
	config := db.Pool().Config()
	config.ConnConfig.User, config.ConnConfig.Password = role, "plain"
	pool := newPool(t, config)
	store := onPool(db, pool).migrated(t, &metadata.Options{Table: metadata.Table{Schema: "plain"}})
	require.NoError(t, store.Migrate(t.Context()))
	_, err := store.Merge(t.Context(), "a", raw(`{}`))
	assert.NoError(t, err)
}

func TestDDLForTheHostsMigrationTool(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		for name, table := range map[string]metadata.Table{
			"default": {}, "in a schema": {Schema: "theirs"}, "host's": {Name: "users"},
		} {
			t.Run(name, func(t *testing.T) {
				up, down, err := table.DDL()
				require.NoError(t, err)
				assert.Equal(t, table.Name == "", strings.Contains(up, "CREATE TABLE"))
				assert.Equal(t, table.Name == "", strings.Contains(down, "DROP TABLE"))
				for range 2 {
					d.exec(t, "DROP TABLE IF EXISTS users; CREATE TABLE users (id text PRIMARY KEY, metadata jsonb)")
					d.exec(t, up)
					d.exec(t, up)
					_, err = d.store(t, &metadata.Options{Table: table}).Merge(t.Context(), "a", raw(`{}`))
					if table.Name == "" {
						require.NoError(t, err)
					} else {
						require.ErrorIs(t, err, metadata.ErrNotFound)
					}
					d.exec(t, down)
					d.exec(t, down)
				}
			})
		}
	})
	_, _, err := metadata.Table{Name: "\x00"}.DDL()
	assert.ErrorIs(t, err, metadata.ErrInvalidOptions)
}

func TestWhatIsMissingInTheDatabase(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		d.exec(t, "CREATE TABLE there (id uuid PRIMARY KEY, metadata jsonb, plain text)")
		const id = "7f3f9a3e-0000-4000-8000-00000000000a"
		for name, table := range map[string]metadata.Table{
			"default table": {},
			"table":         {Name: "nowhere", IDType: metadata.UUID},
			"schema":        {Schema: "nowhere", Name: "there", IDType: metadata.UUID},
			"id":            {Name: "there", ID: "nowhere", IDType: metadata.UUID},
			"column":        {Name: "there", Column: "nowhere", IDType: metadata.UUID},
			"version":       {Name: "there", Version: "nowhere", IDType: metadata.UUID},
			"function":      {Name: "there", IDType: metadata.UUID},
			"type of id":    {Name: "there"},
			"jsonb column":  {Name: "there", Column: "plain", IDType: metadata.UUID},
		} {
			t.Run(name, func(t *testing.T) {
				_, err := d.store(t, &metadata.Options{Table: table}).Merge(t.Context(), id, raw(`{"a":1}`))
				assert.ErrorIs(t, err, metadata.ErrSchema)
				assert.ErrorContains(t, err, "Migrate")
			})
		}
	})
}

func TestMergeFunctionPassesTheTableOfTheRFC(t *testing.T) {
	d := overPgx(t)
	d.migrated(t, nil)
	for _, c := range jsonbtest.RFC7396() {
		var got string
		require.NoError(t, d.Pool().QueryRow(t.Context(), "SELECT lockstore_merge_patch($1::text::jsonb, $2::text::jsonb)::text",
			string(c.Target), string(c.Patch)).Scan(&got))
		assert.JSONEq(t, string(c.Result), got, "%s with %s", c.Target, c.Patch)
	}
}

// strangers make objects where Migrate would make its own, before it does.
var strangers = map[string]struct {
	table   metadata.Table
	objects string
	kind    string
}{
	"table":            {metadata.Table{Schema: "shared"}, `SET ROLE mallory; CREATE TABLE shared.lockstore_metadata (id text PRIMARY KEY, metadata jsonb, version bigint, updated_at timestamptz)`, "table"},
	"table in path":    {metadata.Table{}, `SET ROLE mallory; CREATE TABLE shared.lockstore_metadata (id text PRIMARY KEY, metadata jsonb, version bigint, updated_at timestamptz)`, "table"},
	"view":             {metadata.Table{Schema: "shared"}, `SET ROLE mallory; CREATE VIEW shared.lockstore_metadata AS SELECT 1`, "table"},
	"function":         {metadata.Table{Schema: "shared"}, `SET ROLE mallory; CREATE FUNCTION shared.lockstore_merge_patch(jsonb, jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1'`, "function"},
	"another function": {metadata.Table{Schema: "shared"}, `SET ROLE mallory; CREATE FUNCTION shared.lockstore_merge_patch(json, jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $2'`, "function"},
	"function in path": {metadata.Table{Name: "users"}, `SET ROLE mallory; CREATE FUNCTION shared.lockstore_merge_patch(jsonb, jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1'`, "function"},
	"own schema": {metadata.Table{Name: "users"}, `SET ROLE mallory; CREATE SCHEMA app; CREATE SCHEMA postgres; GRANT USAGE ON SCHEMA app, postgres TO PUBLIC;
		CREATE FUNCTION app.lockstore_merge_patch(jsonb, jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1'; CREATE FUNCTION postgres.lockstore_merge_patch(jsonb, jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1'`, "schema"},
	"schema": {metadata.Table{Schema: "hers"}, `SET ROLE mallory; CREATE SCHEMA hers; GRANT ALL ON SCHEMA hers TO PUBLIC`, "schema"},
}

func TestMigrateRefusesWhatAStrangerMade(t *testing.T) {
	t.Parallel() // it mostly waits
	for name, c := range strangers {
		for _, role := range []string{"app", "postgres"} { // a superuser is a member of every role, which does not count
			t.Run(name+" by "+role, func(t *testing.T) {
				admin := withRoles(t)
				_, err := admin.Exec(t.Context(), c.objects+"; RESET ROLE")
				require.NoError(t, err)
				err = storeOf(t, admin, role, c.table).Migrate(t.Context())
				require.ErrorIs(t, err, metadata.ErrSchema)
				assert.ErrorContains(t, err, c.kind)
				assert.ErrorContains(t, err, `"mallory"`)
				var made int
				require.NoError(t, admin.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM pg_class WHERE relname = 'lockstore_metadata' AND relowner <> 'mallory'::regrole) +
					(SELECT count(*) FROM pg_proc WHERE proname = 'lockstore_merge_patch' AND proowner <> 'mallory'::regrole)`).Scan(&made))
				assert.Zero(t, made, "it makes nothing")
				trusting := c.table
				trusting.Owner = "mallory"
				assert.NoError(t, storeOf(t, admin, role, trusting).Migrate(t.Context()))
			})
		}
	}
}

func TestMigrateAcceptsWhatItsOwnMade(t *testing.T) {
	for name, grant := range map[string]string{
		"member":         "GRANT deployer TO app",
		"by SET ROLE":    "ALTER ROLE app NOINHERIT; GRANT deployer TO app",
		"database owner": "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I OWNER TO deployer', current_database()); END $$",
		"superuser":      "ALTER ROLE deployer SUPERUSER",
	} {
		t.Run(name, func(t *testing.T) {
			admin := withRoles(t)
			table := metadata.Table{Schema: "shared"}
			require.NoError(t, storeOf(t, admin, "deployer", table).Migrate(t.Context()))
			require.ErrorIs(t, storeOf(t, admin, "app", table).Migrate(t.Context()), metadata.ErrSchema)
			_, err := admin.Exec(t.Context(), grant)
			require.NoError(t, err)
			assert.NoError(t, storeOf(t, admin, "app", table).Migrate(t.Context()))
			assert.NoError(t, storeOf(t, admin, "deployer", table).Migrate(t.Context()))
		})
	}
}

// withRoles is a superuser's pool, in a database in which some roles share a schema.
func withRoles(t *testing.T) *pgxpool.Pool {
	db := pgtest.New(t, pgtest.Dedicated())
	_, err := db.Pool().Exec(t.Context(), `CREATE ROLE mallory; CREATE ROLE app; CREATE ROLE deployer;
		CREATE SCHEMA shared; GRANT ALL ON SCHEMA shared TO PUBLIC; GRANT CREATE ON DATABASE `+db.Name()+` TO PUBLIC;
		CREATE TABLE shared.users (id text PRIMARY KEY, metadata jsonb)`)
	require.NoError(t, err)
	return db.Pool()
}

// storeOf is a store whose sessions work as role.
func storeOf(t *testing.T, admin *pgxpool.Pool, role string, table metadata.Table) *metadata.Postgres {
	config := admin.Config()
	config.ConnConfig.RuntimeParams["role"] = role
	config.ConnConfig.RuntimeParams["search_path"] = `"$user", shared`
	pool := newPool(t, config)
	store, err := metadata.NewPostgres(pool, &metadata.Options{Table: table})
	require.NoError(t, err)
	return store
}

// Indexes and restored dumps run the function without a search path.
func TestMergeFunctionNeedsNoSearchPath(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		up, _, err := metadata.Table{}.DDL()
		require.NoError(t, err)
		for _, name := range []string{"Migrate", "DDL"} {
			if name == "Migrate" {
				require.NoError(t, d.store(t, nil).Migrate(t.Context()))
			} else {
				d.exec(t, "DROP FUNCTION lockstore_merge_patch; DROP TABLE lockstore_metadata")
				d.exec(t, up)
			}
			var got string
			require.NoError(t, d.Pool().QueryRow(t.Context(), `WITH path AS MATERIALIZED (SELECT set_config('search_path', '', true))
				SELECT public.lockstore_merge_patch('{"a":{"b":1}}', '{"a":{"c":{"d":null}},"e":null}')::text FROM path`).Scan(&got))
			assert.Equal(t, `{"a": {"b": 1, "c": {}}}`, got, name)
		}
	})
}

// A backslash in a literal is an escape where this is off.
func TestDDLWithoutStandardConformingStrings(t *testing.T) {
	db := pgtest.New(t)
	config := db.Pool().Config()
	config.ConnConfig.RuntimeParams["standard_conforming_strings"] = "off"
	pool := newPool(t, config)
	for _, schema := range []string{`back\slash`, `quote\'; CREATE TABLE broken (); --`, `\\'`, `\`, `'`} {
		store := onPool(db, pool).store(t, &metadata.Options{Table: metadata.Table{Schema: schema}})
		require.NoError(t, store.Migrate(t.Context()), schema)
		require.NoError(t, store.Migrate(t.Context()), schema)
		_, err := store.Merge(t.Context(), "a", raw(`{"a":{"b":null}}`))
		require.NoError(t, err, schema)
	}
	var broken bool
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT to_regclass('broken') IS NOT NULL").Scan(&broken))
	assert.False(t, broken)
}

// A table that is found in one schema, and a function that is found before it in another.
func TestMigrateRefusesAFunctionBeforeTheTables(t *testing.T) {
	admin := withRoles(t)
	_, err := admin.Exec(t.Context(), "GRANT CREATE ON SCHEMA shared TO deployer; ALTER SCHEMA shared OWNER TO deployer; GRANT deployer TO app")
	require.NoError(t, err)
	require.NoError(t, storeOf(t, admin, "deployer", metadata.Table{}).Migrate(t.Context()))
	require.NoError(t, storeOf(t, admin, "app", metadata.Table{}).Migrate(t.Context()))
	_, err = admin.Exec(t.Context(), `SET ROLE mallory; CREATE SCHEMA app; GRANT USAGE ON SCHEMA app TO PUBLIC;
		CREATE FUNCTION app.lockstore_merge_patch(jsonb, jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1'; RESET ROLE`)
	require.NoError(t, err)
	assert.ErrorIs(t, storeOf(t, admin, "app", metadata.Table{}).Migrate(t.Context()), metadata.ErrSchema)
	assert.NoError(t, storeOf(t, admin, "app", metadata.Table{Schema: "shared"}).Migrate(t.Context()))
}

// Functions of the same name that would fit what is not cast are not called.
func TestMergeFunctionHasNoRivals(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		ctx := t.Context()
		d.exec(t, `CREATE DOMAIN doc AS jsonb; CREATE TABLE docs (id text PRIMARY KEY, metadata doc)`)
		for name, table := range map[string]metadata.Table{"jsonb": {}, "domain": {Name: "docs", Create: true}} {
			store := d.migrated(t, &metadata.Options{Table: table})
			for _, arguments := range []string{"text, jsonb", "doc, jsonb", "jsonb, text", "text, text", "json, json", `"char", jsonb`} {
				d.exec(t, `CREATE FUNCTION lockstore_merge_patch(`+arguments+`) RETURNS jsonb LANGUAGE sql AS 'SELECT ''{"rival": true}''::jsonb'`)
			}
			for range 2 {
				results, err := store.MergeMany(ctx, []metadata.Patch{{ID: "a", Patch: raw(`{"a":{"b":null}}`)}, {ID: "b", Patch: raw(`{"a":{"b":1}}`)}})
				require.NoError(t, err, name)
				assert.Equal(t, `{"a": {}}`, string(results[0].Document.Metadata), name)
			}
			doc, err := store.Merge(ctx, "a", raw(`{"a":{"c":{"d":1}}}`))
			require.NoError(t, err, name)
			assert.Equal(t, `{"a": {"c": {"d": 1}}}`, string(doc.Metadata), name)
			d.exec(t, `DROP FUNCTION lockstore_merge_patch(text, jsonb); DROP FUNCTION lockstore_merge_patch(doc, jsonb); DROP FUNCTION lockstore_merge_patch(jsonb, text);
				DROP FUNCTION lockstore_merge_patch(text, text); DROP FUNCTION lockstore_merge_patch(json, json); DROP FUNCTION lockstore_merge_patch("char", jsonb)`)
		}
	})
}
