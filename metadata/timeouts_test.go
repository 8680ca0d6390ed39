package metadata_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
	"example.com/lockstore/metadata/internal/jsonb/jsonbtest"
)

// What a role or database allows a statement, a wait or a transaction ends no write that
// waits for a row: it asks again for as long as its caller waits.
func TestTimeoutsOfTheHostEndNoWait(t *testing.T) {
	t.Parallel() // it mostly waits
	for _, timeout := range []string{"lock_timeout", "statement_timeout", "transaction_timeout"} {
		t.Run(timeout, func(t *testing.T) {
			t.Parallel()
			eachDriver(t, func(t *testing.T, d *database) {
				t.Parallel()
				ctx := t.Context()
				owner := must(metadata.NewPostgres(d.Pool(), nil)) // so that no other driver has connected yet
				t.Cleanup(owner.Close)
				require.NoError(t, owner.Migrate(ctx))
				var known bool
				require.NoError(t, d.Pool().QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_settings WHERE name = $1)`, timeout).Scan(&known))
				if !known {
					t.Skip("not in this version of PostgreSQL")
				}
				d.exec(t, fmt.Sprintf(`ALTER DATABASE "%s" SET %s = '%dms'`, d.Pool().Config().ConnConfig.Database, timeout, max(500, 200*jsonbtest.Slowdown)))
				d.Pool().Reset()
				d.SQLX().SetMaxIdleConns(0)
				host, err := d.Pool().Acquire(ctx)
				require.NoError(t, err)
				defer host.Release()
				_, err = host.Exec(ctx, "SET "+timeout+" = 0")
				require.NoError(t, err)
				for name, write := range map[string]func(ctx context.Context, s *metadata.Postgres) error{
					"Merge": func(ctx context.Context, s *metadata.Postgres) error {
						_, err := s.Merge(ctx, "a", raw(`{"n":2}`))
						return err
					},
					"Replace": func(ctx context.Context, s *metadata.Postgres) error {
						_, err := s.Replace(ctx, "a", raw(`{"n":2}`))
						return err
					},
					"Update": func(ctx context.Context, s *metadata.Postgres) error {
						_, err := s.Update(ctx, "a", func(metadata.Document) (json.RawMessage, error) { return raw(`{"n":2}`), nil })
						return err
					},
					"MergeMany": func(ctx context.Context, s *metadata.Postgres) error {
						_, err := s.MergeMany(ctx, []metadata.Patch{{ID: "a", Patch: raw(`{"n":2}`)}, {ID: "b", Patch: raw(`{"n":2}`)}})
						return err
					},
					"Merge of a new document": func(ctx context.Context, s *metadata.Postgres) error {
						_, err := s.Merge(ctx, "new", raw(`{"n":2}`))
						return err
					},
				} {
					store := d.store(t, nil)
					_, err := host.Exec(ctx, `DELETE FROM lockstore_metadata; INSERT INTO lockstore_metadata (id, metadata, version, updated_at) VALUES ('a', '{}', 1, now())`)
					require.NoError(t, err)
					tx, err := host.Begin(ctx)
					require.NoError(t, err)
					_, err = tx.Exec(ctx, `INSERT INTO lockstore_metadata (id, metadata, version, updated_at) VALUES ('a', '{"n":1}', 1, now()), ('new', '{}', 1, now())
						ON CONFLICT (id) DO UPDATE SET metadata = '{"n":1}'`)
					require.NoError(t, err)
					done := make(chan error, 1)
					go func() { done <- write(ctx, store) }()
					waitForWaits(t, store, 3)
					require.NoError(t, tx.Commit(ctx))
					assert.NoError(t, <-done, name)
				}
			})
		})
	}
}
