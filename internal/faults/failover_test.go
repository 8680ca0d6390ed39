package faults_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// shortDir returns a directory for a server; the socket's path must be short.
func shortDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/tmp", "faults-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// standby starts a standby of the world's server.
func (w *world) standby() (standby *instance, address *pgx.ConnConfig) {
	w.Helper()
	standby = w.copied(filepath.Join(shortDir(w.T), "s"), "--write-recovery-conf")
	standby.start(nil)
	address, err := pgx.ParseConfig(standby.url())
	require.NoError(w, err)
	return standby, address
}

// besideAStandby starts a standby, and configures a pool of two whose new connections lead
// there while led is true.
func besideAStandby(w *world) (standby *instance, config *pgxpool.Config, led *atomic.Bool) {
	w.Helper()
	standby, elsewhere := w.standby()
	config, err := pgxpool.ParseConfig(w.db.URL())
	require.NoError(w, err)
	led = new(atomic.Bool)
	config.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
		if led.Load() {
			c.Host, c.Port, c.Fallbacks = elsewhere.Host, elsewhere.Port, nil
		}
		return nil
	}
	config.MaxConns = 2
	return standby, config, led
}

// A standby that has confirmed every commit replaces the server. The host finds it under the
// same name.
func Test19Promotion(t *testing.T) {
	w := newWorld(t, pgtest.Dedicated())
	standby, config, promoted := besideAStandby(w) // the host's name for the server: first one, then the other
	_, err := lock.NewPostgres(w.ctx, w.pool(standby.url(), 1), nil)
	assert.ErrorIs(t, err, lock.ErrUnsupported)
	assert.ErrorContains(t, err, "standby")
	_, err = w.store(w.pool(standby.url(), 1), nil).Merge(w.ctx, "a", raw(`{"n":1}`))
	assert.Equal(t, "25006", sqlState(err), "%v", err)

	w.exec("ALTER SYSTEM SET synchronous_standby_names = '*'")
	w.exec("SELECT pg_reload_conf()")
	w.soon(func() bool {
		return one[int](w, "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == 1
	}, "synchronous replication")

	pool := w.open(config)
	locker, store := w.locker(pool, nil), w.store(pool, nil)

	held := w.lock(locker, store.Key("a"))
	fence, err := held.Fence(w.ctx)
	require.NoError(t, err)
	acknowledged, unknown := map[string]bool{}, map[string]bool{}
	for i := range 200 {
		key := fmt.Sprint("k", i)
		_, err := store.Merge(held.Context(), "a", raw(`{%q:1}`, key))
		require.NoError(t, err)
		acknowledged[key] = true
	}
	require.NoError(t, w.db.Server().Kill(w.ctx))
	w.lost(held)
	standby.promote()
	promoted.Store(true)
	assert.ErrorIs(t, held.Unlock(), lock.ErrLost)

	successor := w.lock(locker, store.Key("a"))
	next, err := successor.Fence(w.ctx)
	require.NoError(t, err)
	assert.Greater(t, next, fence)
	ctx, stop := held.Bind(w.ctx)
	_, err = store.Merge(ctx, "a", raw(`{"stale":1}`))
	stop()
	assert.ErrorIs(t, err, lock.ErrLost)
	assert.NoError(t, successor.Unlock())
	for i := range 20 {
		key := fmt.Sprint("later", i)
		_, err := store.Merge(w.ctx, "a", raw(`{%q:1}`, key))
		if err == nil {
			acknowledged[key] = true
		} else if errors.Is(err, metadata.ErrUnknownOutcome) {
			unknown[key] = true
		}
	}
	doc, err := store.Get(w.ctx, "a")
	require.NoError(t, err)
	var found map[string]int
	require.NoError(t, json.Unmarshal(doc.Metadata, &found))
	for key := range acknowledged {
		assert.Contains(t, found, key)
	}
	for key := range found {
		assert.True(t, acknowledged[key] || unknown[key], key)
	}
	assert.Len(t, found, int(doc.Version))
	assert.Equal(t, "0", standby.value("SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory'"))

	// The old server comes back for the checks at the end.
	require.NoError(t, w.db.Server().Restart(w.ctx))
}

// The primary, the first of two hosts, falls silent, and the other replaces it just after a
// client has begun to connect by hand. A pool tries the silent host first, for its
// ConnectTimeout; a locker tries both.
func TestSuccessorOfASilentPrimary(t *testing.T) {
	for name, c := range map[string]struct {
		connectTimeout time.Duration
		soon           bool // whether a pool connects within a second
	}{
		"ConnectTimeout of half a second": {500 * time.Millisecond, true},
		"of two seconds":                  {2 * time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			primary, standby := pgtest.NewProxy(t, w.db), pgtest.NewProxy(t, w.db)
			successor, err := pgx.ParseConfig(standby.URL())
			require.NoError(t, err)
			var silent, promoted atomic.Bool
			connecting := make(chan struct{}, 1) // by hand, to the silent host
			pool := func(size int32, dials func()) *pgxpool.Pool {
				config, err := pgxpool.ParseConfig(primary.URL())
				require.NoError(t, err)
				config.MaxConns = size
				h := config.ConnConfig
				h.ConnectTimeout = c.connectTimeout
				h.Fallbacks = []*pgconn.FallbackConfig{{Host: successor.Host, Port: successor.Port}}
				h.ValidateConnect = func(_ context.Context, conn *pgconn.PgConn) error {
					if conn.Conn().RemoteAddr().(*net.TCPAddr).Port == int(successor.Port) && !promoted.Load() {
						return errors.New("read only connection")
					}
					return nil
				}
				dial := h.DialFunc
				h.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
					conn, err := dial(ctx, network, address)
					if strings.HasSuffix(address, fmt.Sprint(":", h.Port)) && silent.Load() {
						dials()
					}
					return conn, err
				}
				return w.open(config)
			}
			byHand := pool(2, func() { // a silent connection keeps its place for 15 seconds
				select {
				case connecting <- struct{}{}:
				default:
				}
			})
			used := pool(4, func() {})
			store, locker := w.store(used, &metadata.Options{Timeout: time.Second}), w.locker(used, impatient())

			ctx, stop := context.WithCancel(w.ctx)
			defer stop()
			var hand, merge, held successes
			var workers sync.WaitGroup
			work := func(to *successes, do func(ctx context.Context) error) {
				workers.Go(func() {
					for ; ctx.Err() == nil; time.Sleep(5 * time.Millisecond) {
						patient, cancel := context.WithTimeout(w.ctx, clientPatience)
						if do(patient) == nil {
							to.add(time.Now())
						}
						cancel()
					}
				})
			}
			work(&hand, func(ctx context.Context) error {
				brief, cancel := context.WithTimeout(ctx, 3*time.Second)
				defer cancel()
				_, err := byHand.Exec(brief, "SELECT 1")
				return err
			})
			for i := range 8 {
				work(&merge, func(ctx context.Context) error { _, err := w.merge(ctx, store, fmt.Sprint("d", i)); return err })
			}
			var keys atomic.Int64
			work(&held, func(ctx context.Context) error {
				brief, cancel := context.WithTimeout(ctx, 200*time.Millisecond) // a lost session may keep the key for long
				defer cancel()
				h, err := locker.Lock(brief, lock.ID(keys.Add(1)))
				if err == nil {
					_ = h.Unlock()
				}
				return err
			})
			all := func(since time.Time) func() bool {
				return func() bool {
					return !hand.after(since).IsZero() && !merge.after(since).IsZero() && !held.after(since).IsZero()
				}
			}
			w.soon(all(time.Time{}), "everybody to work")
			primary.Blackhole(pgtest.Both)
			silent.Store(true)
			w.await(connecting, "one to connect by hand")
			w.await(connecting, "one to connect by hand again") // the others have given up the silent host
			at := time.Now()
			promoted.Store(true)
			w.soon(all(at), "everybody to work again")
			stop()
			primary.Restore()
			workers.Wait()

			t.Logf("first success: by hand %v, merge %v, lock %v", hand.after(at).Sub(at), merge.after(at).Sub(at), held.after(at).Sub(at))
			assert.Less(t, held.after(at).Sub(at), time.Second, "lock")
			assert.Equal(t, c.soon, hand.after(at).Sub(at) < time.Second, "by hand")
			if c.soon {
				assert.Less(t, merge.after(at).Sub(at), time.Second, "merge")
			}
		})
	}
}

// The first of two hosts is the primary, and slow to connect to; the other is a standby, which
// the DSN does not exclude. A locker waits for the primary.
func TestSlowPrimaryBeforeAStandby(t *testing.T) {
	w := newWorld(t, pgtest.Dedicated())
	_, elsewhere := w.standby()
	primary := pgtest.NewProxy(t, w.db)
	primary.Delay(200*time.Millisecond, 0) // for each of several round trips
	config, err := pgxpool.ParseConfig(primary.URL())
	require.NoError(t, err)
	config.ConnConfig.Fallbacks = []*pgconn.FallbackConfig{{Host: elsewhere.Host, Port: elsewhere.Port}}
	w.unlocked(w.locker(w.open(config), nil), key)
}

// Connections of the pool lead to a standby that lags, as behind a load balancer. Locks are
// held, and writes executed, on the primary only.
func TestConnectionsToAStandby(t *testing.T) {
	w := newWorld(t, pgtest.Dedicated())
	standby, config, led := besideAStandby(w)
	pool := w.open(config)
	db := stdlib.OpenDB(*config.ConnConfig, stdlib.OptionBeforeConnect(config.BeforeConnect))
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	db.SetMaxOpenConns(2)
	overSQL, err := metadata.NewPostgres(db, nil)
	require.NoError(t, err)
	t.Cleanup(overSQL.Close)

	locker := w.locker(nil, nil)
	for driver, store := range map[string]*metadata.Postgres{"pgx": w.store(pool, nil), "database/sql": overSQL} {
		mislead := func() {
			led.Store(true)
			pool.Reset()
			db.SetMaxIdleConns(-1)
			db.SetMaxIdleConns(2)
			_, err := store.Get(w.ctx, "none")
			require.ErrorIs(t, err, metadata.ErrNotFound)
		}
		older, err := store.Merge(w.ctx, driver, raw(`{"n":1}`))
		require.NoError(t, err)
		w.soon(func() bool {
			return standby.value("SELECT count(*)::text FROM "+metadata.DefaultTable+" WHERE id = '"+driver+"'") == "1"
		}, "the standby to have it")
		standby.value("SELECT pg_wal_replay_pause()::text")
		w.soon(func() bool { return standby.value("SELECT pg_get_wal_replay_pause_state()") == "paused" }, "replay to be paused")
		newer, err := store.Merge(w.ctx, driver, raw(`{"n":2}`))
		require.NoError(t, err)

		mislead()
		doc, err := store.Get(w.ctx, driver)
		require.NoError(t, err)
		assert.Equal(t, older.Version, doc.Version, "who does not ask for more may be given what the standby has")
		_, err = store.Get(metadata.AtLeast(w.ctx, newer.Version), driver)
		assert.ErrorIs(t, err, metadata.ErrStale)
		_, err = store.GetMany(metadata.AtLeast(w.ctx, newer.Version), driver)
		assert.ErrorIs(t, err, metadata.ErrStale)

		for what, do := range map[string]func(ctx context.Context) (metadata.Document, error){
			"Get": func(ctx context.Context) (metadata.Document, error) { return store.Get(ctx, driver) },
			"GetMany": func(ctx context.Context) (metadata.Document, error) {
				found, err := store.GetMany(ctx, driver)
				return found[driver], err
			},
			"Find": func(ctx context.Context) (doc metadata.Document, err error) {
				for doc, err = range store.Find(ctx, raw(`{"n":2}`), nil) {
					return doc, err
				}
				return doc, metadata.ErrNotFound
			},
			"Merge": func(ctx context.Context) (metadata.Document, error) { return store.Merge(ctx, driver, raw(`{"n":2}`)) },
			"Replace": func(ctx context.Context) (metadata.Document, error) {
				return store.Replace(ctx, driver, raw(`{"n":2}`))
			},
			"Update": func(ctx context.Context) (metadata.Document, error) {
				return store.Update(ctx, driver, func(doc metadata.Document) (json.RawMessage, error) { return doc.Metadata, nil })
			},
			"MergeMany": func(ctx context.Context) (metadata.Document, error) {
				results, err := store.MergeMany(ctx, []metadata.Patch{{ID: driver, Patch: raw(`{"n":2}`)}})
				return results[0].Document, err
			},
			"Delete": func(ctx context.Context) (metadata.Document, error) {
				if err := store.Delete(ctx, driver); err != nil {
					return metadata.Document{}, err
				}
				return store.Merge(ctx, driver, raw(`{"n":2}`))
			},
		} {
			for _, locked := range []bool{true, false} {
				ctx, held := w.ctx, (*lock.Held)(nil)
				if locked {
					held = w.lock(locker, store.Key(driver))
					ctx = held.Context()
				} else if what == "Get" || what == "GetMany" || what == "Find" {
					continue
				}
				mislead()
				led.Store(false)
				doc, err := do(ctx)
				if assert.NoError(t, err, "%s: %s, locked: %t", driver, what, locked) {
					assert.JSONEq(t, `{"n":2}`, string(doc.Metadata), "%s: %s, locked: %t", driver, what, locked)
				}
				mislead()
				_, err = do(ctx)
				assert.ErrorIs(t, err, metadata.ErrStandby, "%s: %s, locked: %t, and new connections lead there, too", driver, what, locked)
				assert.ErrorIs(t, err, metadata.ErrWrongServer)
				assert.NotErrorIs(t, err, lock.ErrLost)
				led.Store(false)
				if locked {
					require.NoError(t, held.Unlock())
				}
			}
		}
		standby.value("SELECT pg_wal_replay_resume()::text")
	}
}

// The whole server is on a file system that becomes full: it may fail, but acknowledged writes
// stay.
func Test40DiskFull(t *testing.T) {
	w := newWorld(t, pgtest.Dedicated())
	dir := shortDir(t)
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=160m"); err != nil {
		lacks(t, "the right to mount a small file system", err)
	}
	t.Cleanup(func() { assert.NoError(t, syscall.Unmount(dir, 0)) })
	small := w.copied(filepath.Join(dir, "s"))
	small.start(map[string]string{"fsync": "on"})
	store := w.store(w.pool(small.url(), 2), nil)
	acknowledged := map[string]int{}
	var failed error
	for i := 0; failed == nil && i < 5000; i++ {
		id := fmt.Sprint("d", i)
		var doc metadata.Document
		if doc, failed = store.Merge(w.ctx, id, raw(`{"big":%q,"n":%d}`, incompressible(100_000, i), i)); failed == nil {
			acknowledged[id] = int(doc.Version)
		}
	}
	require.Error(t, failed)
	t.Logf("after %d documents: %v", len(acknowledged), failed)
	ended := errors.Is(failed, metadata.ErrUnavailable) || errors.Is(failed, metadata.ErrUnknownOutcome) // the server
	assert.True(t, ended || sqlState(failed) == "53100", "%v", failed)
	_, err := store.Get(w.ctx, "d0")
	t.Logf("a read now: %v", err)

	// Make room, and start the server again if it has ended.
	require.NoError(t, syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=400m"))
	small.end(syscall.SIGINT)
	small.start(nil)
	for id, version := range acknowledged {
		w.soon(func() bool { _, err = store.Get(w.ctx, id); return err == nil }, "the document")
		doc, err := store.Get(w.ctx, id)
		require.NoError(t, err)
		assert.EqualValues(t, version, doc.Version)
	}
	if _, err := store.Get(w.ctx, fmt.Sprint("d", len(acknowledged))); !errors.Is(failed, metadata.ErrUnknownOutcome) {
		assert.ErrorIs(t, err, metadata.ErrNotFound, "it failed, and was not applied")
	}
}

// incompressible returns text that PostgreSQL cannot compress.
func incompressible(size, seed int) string {
	out := make([]byte, size)
	x := uint32(seed)*2654435761 + 1
	for i := range out { // xorshift
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		out[i] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"[x&63]
	}
	return string(out)
}
