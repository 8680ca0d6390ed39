package lock_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/pgtest"
)

// connector creates connections of a role that may connect to the database, and nothing else.
func connector(tb testing.TB, db *pgtest.DB) func() *pgx.Conn {
	tb.Helper()
	role := createRole(tb, db, "connector")
	return func() *pgx.Conn {
		config := db.Pool().Config().ConnConfig
		config.User, config.Password = role, "x"
		conn, err := pgx.ConnectConfig(tb.Context(), config)
		require.NoError(tb, err)
		tb.Cleanup(func() { conn.Close(context.Background()) })
		return conn
	}
}

// floods are what a role that can only connect may do to all sessions of the database, over
// and over.
var floods = map[string]string{
	"none": "SELECT pg_sleep(0.01)",
	"small notifications": `SELECT pg_notify(channel, format('%s %s %s', n, random(), n))
		FROM generate_series(1, 1000) n, unnest('{lockstore_evict, lockstore_evicted, jobs}'::text[]) channel`,
	"large notifications": `SELECT pg_notify(channel, repeat('x', 7980) || n)
		FROM generate_series(1, 2000) n, unnest('{lockstore_evict, lockstore_evicted, jobs}'::text[]) channel`,
	"flags that stay up":        `SELECT pg_sleep(0.01 + 0 * count(pg_try_advisory_lock_shared(1819239275, pid))) FROM pg_stat_activity`,
	"flags that go up and down": `SELECT count(pg_try_advisory_xact_lock(1819239275, pid)) FROM pg_stat_activity`,
	"forged requests": `SELECT pg_sleep(0.001), set_config('application_name', format('lockstore_evict %s %s %s', l.pid, l.classid::bigint << 32 | l.objid::bigint, pg_backend_pid()), false),
			pg_try_advisory_xact_lock_shared(1819239275, l.pid)
		FROM pg_locks l WHERE l.locktype = 'advisory' AND l.objsubid = 1 ORDER BY random() LIMIT 1`,
	"questions who waits": `SELECT pg_sleep(0.001), set_config('application_name', format('lockstore_who %s %s', 0, pg_backend_pid()), false),
		pg_try_advisory_lock(7715110665030991872)`,
	"thousands of locks": `SELECT count(pg_try_advisory_xact_lock(1819239275, n)), count(pg_try_advisory_xact_lock(n::bigint << 40)) FROM generate_series(1, 1000) n`,
}

// listening is a host whose connections listen, by a hook.
func listening(tb testing.TB, db *pgtest.DB) *pgxpool.Pool {
	tb.Helper()
	config := db.Pool().Config()
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "LISTEN jobs")
		return err
	}
	return newPool(tb, config)
}

func TestFloodsOfOthersCostNoLock(t *testing.T) {
	for name, flood := range floods {
		t.Run(name, func(t *testing.T) {
			db := pgtest.New(t)
			locker := newPostgres(t, listening(t, db), nil)
			kept := take(t, locker, lock.Name("kept"))
			stop := flooded(t, connector(t, db), flood)
			waits := honest(t, locker, 1500*time.Millisecond)
			stop()
			t.Logf("%d locks taken and given back, p50 %s, p99 %s, at most %s", len(waits), waits[len(waits)/2], waits[len(waits)*99/100], waits[len(waits)-1])
			assert.Less(t, waits[len(waits)-1], patience/4)
			assert.NoError(t, kept.Context().Err())
			assert.NoError(t, kept.Unlock())
			assert.Zero(t, locker.Stats().Lost)
			assert.Zero(t, locker.Stats().Evicted)
		})
	}
}

// flooded lets a few connections flood until stop.
func flooded(tb testing.TB, connect func() *pgx.Conn, flood string) (stop func()) {
	ctx, cancel := context.WithCancel(tb.Context())
	var group sync.WaitGroup
	for range 4 {
		conn := connect()
		group.Go(func() {
			for ctx.Err() == nil {
				if _, err := conn.Exec(ctx, flood); err != nil && ctx.Err() == nil {
					tb.Error(err)
					return
				}
			}
		})
	}
	return func() {
		cancel()
		group.Wait()
	}
}

// honest locks and unlocks for a while, and returns how long each pair of calls took, sorted.
func honest(tb testing.TB, locker *lock.Postgres, d time.Duration) []time.Duration {
	end := time.Now().Add(d)
	var mu sync.Mutex
	var all []time.Duration
	var group sync.WaitGroup
	for g := range 4 {
		group.Go(func() {
			var waits []time.Duration
			for key := lock.Name("honest", fmt.Sprint(g)); time.Now().Before(end); {
				began := time.Now()
				held, err := locker.Lock(tb.Context(), key)
				if err == nil {
					err = held.Unlock()
				}
				if !assert.NoError(tb, err) {
					return
				}
				waits = append(waits, time.Since(began))
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, waits...)
		})
	}
	group.Wait()
	require.NotEmpty(tb, all)
	slices.Sort(all)
	return all
}

func BenchmarkFlooded(b *testing.B) {
	for _, name := range slices.Sorted(maps.Keys(floods)) {
		b.Run(name, func(b *testing.B) {
			db := pgtest.New(b)
			locker := newPostgres(b, listening(b, db), nil)
			stop := flooded(b, connector(b, db), floods[name])
			var waits []time.Duration
			for b.Loop() {
				waits = append(waits, honest(b, locker, time.Second)...)
			}
			stop()
			slices.Sort(waits)
			b.ReportMetric(float64(len(waits))/b.Elapsed().Seconds(), "locks/s")
			b.ReportMetric(float64(waits[len(waits)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(waits[len(waits)*99/100].Microseconds())/1000, "p99-ms")
			b.ReportMetric(float64(waits[len(waits)-1].Microseconds())/1000, "max-ms")
		})
	}
}
