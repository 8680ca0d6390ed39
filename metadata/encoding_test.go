package metadata_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// Where text is not UTF-8, keys have other lengths and another order to the server than
// here, some cannot be stored, and others would be stored as something else. No operation
// takes part in that.
func TestWhereTextIsNotUTF8NothingIsDone(t *testing.T) {
	db := pgtest.New(t)
	for name, c := range map[string]struct {
		server, client string
		mode           pgx.QueryExecMode
		reason         string
	}{
		"database in LATIN1":                     {"LATIN1", "", pgx.QueryExecModeCacheStatement, "server_encoding is LATIN1"},
		"database in LATIN1, client in UTF-8":    {"LATIN1", "UTF8", pgx.QueryExecModeExec, "server_encoding is LATIN1"},
		"database in SQL_ASCII":                  {"SQL_ASCII", "UTF8", pgx.QueryExecModeSimpleProtocol, "server_encoding is SQL_ASCII"},
		"client in LATIN1":                       {"UTF8", "LATIN1", pgx.QueryExecModeCacheDescribe, "client_encoding is LATIN1"},
		"client in EUC_JP":                       {"UTF8", "EUC_JP", pgx.QueryExecModeDescribeExec, "client_encoding is EUC_JP"},
		"backslashes in a simple protocol's SQL": {"UTF8", "", pgx.QueryExecModeSimpleProtocol, "standard_conforming_strings"},
	} {
		t.Run(name, func(t *testing.T) {
			other := db.Pool().Config().ConnConfig.Database + "_other"
			_, err := db.Pool().Exec(t.Context(), fmt.Sprintf(`CREATE DATABASE %s TEMPLATE template0 ENCODING '%s' LOCALE 'C'`, other, c.server))
			require.NoError(t, err)
			config := db.Pool().Config()
			config.ConnConfig.Database = other
			config.ConnConfig.DefaultQueryExecMode = c.mode
			if c.client != "" {
				config.ConnConfig.RuntimeParams["client_encoding"] = c.client
			}
			if c.reason == "standard_conforming_strings" {
				config.ConnConfig.RuntimeParams[c.reason] = "off"
			}
			pool := must(pgxpool.NewWithConfig(t.Context(), config))
			sqlDB := stdlib.OpenDB(*config.ConnConfig)
			t.Cleanup(func() {
				pool.Close()
				sqlDB.Close()
				_, err := db.Pool().Exec(context.Background(), "DROP DATABASE "+other)
				require.NoError(t, err)
			})
			for driver, store := range map[string]*metadata.Postgres{
				"pgx": must(metadata.NewPostgres(pool, nil)), "sql": must(metadata.NewPostgres(sqlDB, nil)),
				"pgx in Go": must(metadata.NewPostgres(pool, &metadata.Options{MergeInGo: true})),
			} {
				refused := func(what string, err error) {
					t.Helper()
					assert.ErrorIs(t, err, metadata.ErrUnsupported, "%s, %s", driver, what)
					assert.NotErrorIs(t, err, metadata.ErrUnknownOutcome, "%s, %s", driver, what)
					assert.ErrorContains(t, err, c.reason, "%s, %s", driver, what)
				}
				use := func(where string, s full) {
					ctx := t.Context()
					_, err := s.Get(ctx, "a")
					refused(where+"Get", err)
					_, err = s.Merge(ctx, "a", raw(`{"n":"\u00e9"}`))
					refused(where+"Merge", err)
					_, err = s.Update(ctx, "a", func(metadata.Document) (json.RawMessage, error) { return raw(`{}`), nil })
					refused(where+"Update", err)
					_, err = s.Replace(ctx, "a", raw(`{"n":1}`))
					refused(where+"Replace", err)
					refused(where+"Delete", s.Delete(ctx, "a"))
				}
				tx := must(pool.Begin(t.Context()))
				use("in pgx's transaction: ", store.In(tx))
				require.NoError(t, tx.Rollback(t.Context()))
				if c.reason != "standard_conforming_strings" { // which pgx itself refuses
					tx := must(sqlDB.Begin())
					use("in sql's transaction: ", store.In(tx))
					require.NoError(t, tx.Rollback())
				}
				refused("Migrate", store.Migrate(t.Context()))
				use("", store)
				_, err := store.GetMany(t.Context(), "a")
				refused("GetMany", err)
				_, err = find(t.Context(), store, `{}`, nil)
				refused("Find", err)
				results, err := store.MergeMany(t.Context(), []metadata.Patch{{ID: "a", Patch: raw(`{"n":1}`)}, {ID: "b", Patch: raw(`{}`)}})
				refused("MergeMany", err)
				for _, r := range results {
					refused("MergeMany", r.Err)
				}
				assert.Len(t, results, 2)
				store.Close()
			}
		})
	}
}
