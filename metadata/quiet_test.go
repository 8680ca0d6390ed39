package metadata_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
)

// Writers that wait for a document's lock, write under it, give up, and repeat what was made
// leave nothing in the server's log.
func TestServersLogStaysSilent(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		ctx := t.Context()
		store, locker := d.migrated(t, withTokens(metadata.Options{})), newLocker(t, d.Pool())
		log := serverLog(t, d)
		for _, id := range []string{"a", "b"} {
			_, err := store.Merge(ctx, id, raw(`{"n":0}`))
			require.NoError(t, err)
		}
		held, err := locker.Lock(ctx, store.Key("a"))
		require.NoError(t, err)
		for _, left := range []bool{true, false} {
			waiting, cancel := context.WithTimeout(ctx, time.Minute)
			if left {
				waiting, cancel = context.WithTimeout(ctx, time.Second)
			}
			var group sync.WaitGroup
			for _, write := range []func(context.Context) error{
				func(ctx context.Context) error { _, err := store.Merge(ctx, "a", raw(`{"n":1}`)); return err },
				func(ctx context.Context) error { _, err := store.Replace(ctx, "a", raw(`{"n":2}`)); return err },
				func(ctx context.Context) error { _, err := store.Once("t").Merge(ctx, "a", raw(`{"n":5}`)); return err },
				func(ctx context.Context) error {
					results, err := store.MergeMany(ctx, []metadata.Patch{{ID: "a", Patch: raw(`{"n":3}`)}, {ID: "b", Patch: raw(`{"n":3}`)}})
					if err == nil {
						err = results[0].Err
					}
					return err
				},
				func(ctx context.Context) error {
					tx, err := d.SQLX().Beginx()
					if err != nil {
						return err
					}
					defer tx.Rollback()
					if _, err := store.In(tx).Merge(ctx, "a", raw(`{"n":4}`)); err != nil {
						return err
					}
					return tx.Commit()
				},
			} {
				group.Go(func() {
					if err := write(waiting); left {
						assert.ErrorIs(t, err, lock.ErrBusy)
					} else {
						assert.NoError(t, err)
					}
				})
			}
			if !left {
				_, err := store.Merge(held.Context(), "a", raw(`{"holder":true}`))
				assert.NoError(t, err)
				assert.NoError(t, held.Unlock())
			}
			group.Wait()
			cancel()
		}
		doc, err := store.Once("t").Merge(ctx, "a", raw(`{"n":5}`))
		require.NoError(t, err)
		assert.True(t, doc.Repeated)
		_, err = store.Once("t").Merge(ctx, "a", raw(`{"n":6}`))
		assert.ErrorIs(t, err, metadata.ErrTokenReused)
		assert.Empty(t, log())
	})
}

// serverLog returns what the server's log says of the database from now on.
func serverLog(t *testing.T, d *database) func() string {
	var from int64
	require.NoError(t, d.Pool().QueryRow(t.Context(), "SELECT size FROM pg_stat_file(current_setting('data_directory') || '/../log')").Scan(&from))
	return func() (log string) {
		require.NoError(t, d.Pool().QueryRow(t.Context(), `SELECT coalesce(string_agg(line, chr(10)), '')
			FROM string_to_table(pg_read_file(current_setting('data_directory') || '/../log', $1, 1 << 28), chr(10)) AS line
			WHERE position('] ' || current_database() || ': ' IN line) > 0`, from).Scan(&log))
		return log
	}
}
