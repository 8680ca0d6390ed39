package metadata_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// A time is read as it is, however the session prints times. Infinity, which Go does not have, is the zero time.
func TestTimesOfAnyKind(t *testing.T) {
	db, ctx := pgtest.New(t), t.Context()
	times := map[string]time.Time{
		"2026-03-01 12:34:56.789012+00": time.Date(2026, 3, 1, 12, 34, 56, 789012000, time.UTC),
		"1969-12-31 23:59:59.999999+00": time.Date(1969, 12, 31, 23, 59, 59, 999999000, time.UTC),
		"0044-03-15 12:00:00+00 BC":     time.Date(-43, 3, 15, 12, 0, 0, 0, time.UTC),
		"4714-11-24 00:00:00+00 BC":     time.Date(-4713, 11, 24, 0, 0, 0, 0, time.UTC),
		"10000-01-01 00:00:00+00":       time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC),
		"294276-12-31 23:59:59+00":      time.Date(294276, 12, 31, 23, 59, 59, 0, time.UTC),
		"infinity":                      {},
		"-infinity":                     {},
		"":                              {},
	}
	_, err := db.Pool().Exec(ctx, `CREATE TABLE docs (id text PRIMARY KEY, metadata jsonb, touched timestamptz);
		CREATE FUNCTION put_back() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.touched = OLD.touched; RETURN NEW; END $$;
		CREATE TRIGGER put_back BEFORE UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION put_back()`)
	require.NoError(t, err)
	options := &metadata.Options{Table: metadata.Table{Name: "docs", UpdatedAt: "touched"}}
	for _, settings := range []string{"DateStyle=German TimeZone=Asia/Kathmandu", "DateStyle=SQL,DMY TimeZone=America/St_Johns", "DateStyle=Postgres TimeZone=XYZ-13:37", "DateStyle=ISO,YMD TimeZone=UTC"} {
		for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
			_, err := db.Pool().Exec(ctx, `TRUNCATE docs`)
			require.NoError(t, err)
			config := db.Pool().Config()
			config.ConnConfig.DefaultQueryExecMode = mode
			for _, setting := range strings.Fields(settings) {
				name, value, _ := strings.Cut(setting, "=")
				config.ConnConfig.RuntimeParams[name] = value
			}
			pool := newPool(t, config)
			store := must(metadata.NewPostgres(pool, options))
			defer store.Close()
			require.NoError(t, store.Migrate(ctx))
			for text, want := range times {
				id := "at " + text
				_, err := db.Pool().Exec(ctx, `INSERT INTO docs VALUES ($1, '{"n": 1}', nullif($2, '')::timestamptz)`, id, text)
				require.NoError(t, err)
				check := func(doc metadata.Document, err error) {
					require.NoError(t, err, "%s, %s, %s", settings, mode, text)
					assert.True(t, want.Equal(doc.UpdatedAt), "%s, %s: %s is read as %s", settings, mode, text, doc.UpdatedAt)
				}
				check(store.Get(ctx, id))
				check(store.Merge(ctx, id, raw(`{"n":2}`)))
				check(store.Merge(ctx, id, raw(`{"n":2}`)))
				check(store.Replace(ctx, id, raw(`{"n":3}`)))
				many, err := store.MergeMany(ctx, []metadata.Patch{{ID: id, Patch: raw(`{"m":1}`)}})
				check(many[0].Document, err)
				found, err := store.GetMany(ctx, id)
				check(found[id], err)
			}
		}
	}
}
