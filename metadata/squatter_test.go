package metadata_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/internal/squatter"
	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
	"example.com/lockstore/metadata/internal/jsonb/jsonbtest"
	"example.com/lockstore/pgtest"
)

// Nothing that a store sends means what another role has put into the search path.
func TestSquatterInTheSearchPathRunsNothing(t *testing.T) {
	db := pgtest.New(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // what means something else may never end
	defer cancel()
	admin := db.Pool()
	require.NoError(t, squatter.Settle(ctx, admin))
	_, err := admin.Exec(ctx, `CREATE SCHEMA app;
		CREATE TABLE app.by_varchar (id varchar(40) PRIMARY KEY, tenant varchar NOT NULL, metadata jsonb, version bigint, updated_at timestamptz);
		CREATE TABLE app.by_int (id int PRIMARY KEY, tenant int NOT NULL, metadata jsonb, version int);
		CREATE TABLE app.by_uuid (id uuid PRIMARY KEY, tenant uuid NOT NULL, metadata jsonb)`)
	require.NoError(t, err)
	locker, err := lock.NewPostgres(ctx, admin, nil)
	require.NoError(t, err)
	defer locker.Close(context.Background())
	const uuid = "7f3f9a3e-0000-4000-8000-00000000000"
	scope := func(typ metadata.Type, value string) []metadata.Scope {
		return []metadata.Scope{{Column: "tenant", Type: typ, Value: value}}
	}
	tables := map[string]struct {
		table metadata.Table
		ids   []string
	}{
		"default": {metadata.Table{Schema: "app"}, []string{"a", "b", "c"}},
		"varchar": {metadata.Table{Schema: "app", Name: "by_varchar", Version: "version", UpdatedAt: "updated_at", Create: true, Scope: scope(metadata.Text, "t")}, []string{"a", "b", "c"}},
		"int":     {metadata.Table{Schema: "app", Name: "by_int", IDType: metadata.BigInt, Version: "version", Create: true, Scope: scope(metadata.BigInt, "7")}, []string{"1", "2", "3"}},
		"uuid":    {metadata.Table{Schema: "app", Name: "by_uuid", IDType: metadata.UUID, Create: true, Scope: scope(metadata.UUID, uuid+"9")}, []string{uuid + "1", uuid + "2", uuid + "3"}},
	}
	for _, path := range squatter.Paths("app") {
		_, err := admin.Exec(ctx, `DROP TABLE IF EXISTS app.lockstore_metadata; DROP FUNCTION IF EXISTS app.lockstore_merge_patch`) // for this path to make them
		require.NoError(t, err)
		config := admin.Config()
		config.ConnConfig.RuntimeParams["search_path"] = path
		pool := newPool(t, config)
		db := sqlx.NewDb(stdlib.OpenDBFromPool(pool), "pgx")
		defer db.Close()
		for name, c := range tables {
			for driver, open := range map[string]func(*metadata.Options) (*metadata.Postgres, error){
				"pgx":  func(o *metadata.Options) (*metadata.Postgres, error) { return metadata.NewPostgres(pool, o) },
				"sqlx": func(o *metadata.Options) (*metadata.Postgres, error) { return metadata.NewPostgres(db, o) },
			} {
				for _, inGo := range []bool{false, true} {
					c.table.Tokens = metadata.DefaultTokens
					s, err := open(&metadata.Options{Table: c.table, MergeInGo: inGo})
					require.NoError(t, err)
					defer s.Close()
					caught := func(of string) {
						t.Helper()
						what, err := squatter.Caught(ctx, admin)
						require.NoError(t, err)
						assert.Empty(t, what, "%s: %s, %s, in Go %v: %s", path, name, driver, inGo, of)
					}
					must := func(_ any, err error) func(of string) {
						t.Helper()
						assert.NoError(t, err)
						return caught
					}
					must(nil, s.Migrate(ctx))("Migrate")
					must(s.Check(ctx))("Check")
					a, b, missing := c.ids[0], c.ids[1], c.ids[2]
					must(s.Merge(ctx, a, raw(`{"a":1}`)))("Merge, new")
					must(s.Merge(ctx, a, raw(`{"a":2}`)))("Merge, flat")
					must(s.Merge(ctx, a, raw(`{"a":2}`)))("Merge, no change")
					must(s.Merge(ctx, a, raw(`{"o":{"p":{"q":[1]},"gone":null},"n":null}`)))("Merge, nested")
					must(s.Merge(ctx, a, json.RawMessage(jsonbtest.Members(600, "k", "null"))))("Merge, nulls")
					must(s.Get(ctx, a))("Get")
					must(s.Replace(ctx, b, raw(`{"b":1}`)))("Replace")
					must(s.Update(ctx, a, func(metadata.Document) (json.RawMessage, error) { return raw(`{"u":1}`), nil }))("Update")
					for i, patch := range []string{`{"once":1}`, `{"once":1}`, `{"once":2}`} { // the second changes nothing
						once := s.Once(fmt.Sprint(path, driver, inGo, i))
						for range 2 {
							must(once.Merge(ctx, a, json.RawMessage(patch)))("Once, Merge " + patch)
						}
					}
					must(s.Once(path+"replace").Replace(ctx, b, raw(`{"b":1}`)))("Once, Replace")
					must(s.GetMany(ctx, c.ids...))("GetMany")
					for _, patch := range []string{`{"m":1}`, `{"m":1}`, `{"m":{"n":null,"o":1}}`} {
						must(s.MergeMany(ctx, []metadata.Patch{{ID: a, Patch: json.RawMessage(patch)}, {ID: b, Patch: json.RawMessage(patch)}, {ID: missing, Patch: json.RawMessage(patch)}}))("MergeMany " + patch)
					}
					must(find(ctx, s, `{"m":{"o":1}}`, &metadata.FindOptions{PageSize: 1}))("Find")
					held, err := locker.Lock(ctx, s.Key(a))
					require.NoError(t, err)
					must(s.Merge(held.Context(), a, raw(`{"h":1}`)))("Merge under a hold")
					must(nil, s.Delete(held.Context(), missing))("Delete of another")
					must(nil, held.Unlock())("Unlock")
					tx, err := pool.Begin(ctx)
					require.NoError(t, err)
					must(s.In(tx).Merge(ctx, a, raw(`{"t":1}`)))("Merge in a transaction")
					must(s.In(tx).Get(ctx, a))("Get in a transaction")
					require.NoError(t, tx.Commit(ctx))
					for _, id := range c.ids {
						if err := s.Delete(ctx, id); err != nil {
							assert.ErrorIs(t, err, metadata.ErrNotFound)
						}
					}
					caught("Delete")
				}
			}
		}
	}
}
