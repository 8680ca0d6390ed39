package metadata_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// The network goes silent at one statement of a write: neither side is told. The
// write ends soon after its time is over, whichever statement that was.
func TestSilentNetworkHoldsUpAWriteForItsTimeoutOnly(t *testing.T) {
	t.Parallel() // it mostly waits
	const timeout = time.Second
	replace := func(ctx context.Context, store *metadata.Postgres) error {
		_, err := store.Replace(ctx, "a", raw(`{"n":1}`))
		return err
	}
	merge := func(ctx context.Context, store *metadata.Postgres) error {
		_, err := store.Merge(ctx, "a", raw(`{"n":1}`))
		return err
	}
	for name, c := range map[string]struct {
		at      string // a text in the statement
		write   func(context.Context, *metadata.Postgres) error
		locked  bool // the document's lock is taken, so that the write is rolled back
		unknown any  // whether the outcome is; nil: either will do
	}{
		"at a merge of one statement": {"UPDATE", merge, false, true},
		"at BEGIN":                    {"begin", replace, false, false},
		"at the read":                 {"FOR NO KEY UPDATE", replace, false, false},
		"at the save":                 {"stored AS", replace, false, nil}, // over pgx the COMMIT, too
		"at COMMIT":                   {"commit;", replace, false, true},
		"at ROLLBACK":                 {"rollback;", replace, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, driver := range []string{"pgx", "sqlx"} {
				t.Run(driver, func(t *testing.T) {
					t.Parallel()
					db, tr := pgtest.New(t), new(tracer)
					proxy := pgtest.NewProxy(t, db)
					config, err := pgxpool.ParseConfig(proxy.URL())
					require.NoError(t, err)
					store, err := openOn(tr.open(t, config), driver, &metadata.Options{Timeout: timeout})
					require.NoError(t, err)
					defer func() { proxy.Restore(); closeInTime(t, store) }()
					require.NoError(t, store.Migrate(t.Context()))
					_, err = store.Merge(t.Context(), "a", raw(`{"n":0}`))
					require.NoError(t, err)
					if c.locked {
						held, err := newLocker(t, db.Pool()).Lock(t.Context(), store.Key("a"))
						require.NoError(t, err)
						defer held.Unlock()
					}
					var silent time.Time
					tr.once(sending, c.at, func() {
						silent = time.Now()
						proxy.Blackhole(pgtest.Both)
					})
					ctx, cancel := context.WithTimeout(t.Context(), timeout)
					defer cancel()
					write := begin(func() (metadata.Document, error) { return metadata.Document{}, c.write(ctx, store) })
					a, ended := write.within(5 * timeout)
					require.True(t, ended, "it has not ended after %v", 5*timeout)
					assert.False(t, silent.IsZero(), "there was no such statement")
					require.Error(t, a.err)
					if c.unknown != nil {
						assert.Equal(t, c.unknown, errors.Is(a.err, metadata.ErrUnknownOutcome), "%v", a.err)
					}
				})
			}
		})
	}
}

// A server that is slow, rows that are locked for long and a full pool are no reason to
// give up connections: each one made anew would make an overload worse.
func TestSlowServerKeepsItsConnections(t *testing.T) {
	t.Parallel() // it mostly waits
	const connections, writers, rounds = 4, 16, 3
	db := pgtest.New(t)
	proxy := pgtest.NewProxy(t, db)
	config, err := pgxpool.ParseConfig(proxy.URL())
	require.NoError(t, err)
	var made atomic.Int32
	config.MaxConns = connections
	config.BeforeConnect = func(context.Context, *pgx.ConnConfig) error { made.Add(1); return nil }
	pool := newPool(t, config)
	store, err := metadata.NewPostgres(pool, nil)
	require.NoError(t, err)
	t.Cleanup(store.Close)
	require.NoError(t, store.Migrate(t.Context()))
	for i := range writers {
		_, err = store.Merge(t.Context(), fmt.Sprint("d", i), raw(`{"n":0}`))
		require.NoError(t, err)
	}
	tx, err := db.Pool().Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "SELECT FROM lockstore_metadata WHERE id = 'd0' FOR UPDATE")
	require.NoError(t, err)
	proxy.Delay(350*time.Millisecond, 0)
	var group sync.WaitGroup
	for i := range writers {
		group.Go(func() {
			for n := range rounds {
				_, err := store.Merge(t.Context(), fmt.Sprint("d", i), raw(`{"n":%d}`, n+1))
				assert.NoError(t, err)
				if i == 1 && n == 1 {
					assert.NoError(t, tx.Rollback(t.Context()))
				}
			}
		})
	}
	group.Wait()
	assert.LessOrEqual(t, made.Load(), int32(connections))
}
