package metadata_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

func TestMigrateByManyAtOnce(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		const schema = `odd "$$ $lockstore$ $lockstore_body$`
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				store := d.store(t, &metadata.Options{Table: metadata.Table{Schema: schema}})
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
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	defer pool.Close()
	store, err := metadata.NewPostgres(pool, &metadata.Options{Table: metadata.Table{Schema: "plain"}})
	require.NoError(t, err)
	defer store.Close()
	require.NoError(t, store.Migrate(t.Context()))
	require.NoError(t, store.Migrate(t.Context()))
	_, err = store.Merge(t.Context(), "a", raw(`{}`))
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
	db := pgtest.New(t)
	store, err := metadata.NewPostgres(db.Pool(), nil)
	require.NoError(t, err)
	defer store.Close()
	require.NoError(t, store.Migrate(t.Context()))
	for _, c := range rfc7396(t) {
		var got string
		require.NoError(t, db.Pool().QueryRow(t.Context(), "SELECT lockstore_merge_patch($1::text::jsonb, $2::text::jsonb)::text",
			string(c.Target), string(c.Patch)).Scan(&got))
		assert.JSONEq(t, string(c.Result), got, "%s with %s", c.Target, c.Patch)
	}
}
