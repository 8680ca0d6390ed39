package faults_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// A watcher's pool leads to a standby that lags, then to that standby after its promotion, and
// in between to the former primary, which still runs. The watcher receives no older state than
// before, and the last one as soon as the pool leads to the server that has it.
func TestWatchAcrossAFailover(t *testing.T) {
	for name, open := range map[string]func(*testing.T, *pgxpool.Config) (store func(*metadata.Options) (*metadata.Postgres, error), reset func()){
		"pgx": func(t *testing.T, config *pgxpool.Config) (func(*metadata.Options) (*metadata.Postgres, error), func()) {
			pool, err := pgxpool.NewWithConfig(t.Context(), config)
			require.NoError(t, err)
			t.Cleanup(pool.Close)
			return func(o *metadata.Options) (*metadata.Postgres, error) { return metadata.NewPostgres(pool, o) }, pool.Reset
		},
		"database/sql": func(t *testing.T, config *pgxpool.Config) (func(*metadata.Options) (*metadata.Postgres, error), func()) {
			db := stdlib.OpenDB(*config.ConnConfig, stdlib.OptionBeforeConnect(config.BeforeConnect))
			t.Cleanup(func() { assert.NoError(t, db.Close()) })
			db.SetMaxIdleConns(-1) // it cannot close a connection later that is in use now
			return func(o *metadata.Options) (*metadata.Postgres, error) { return metadata.NewPostgres(db, o) }, func() {}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, pgtest.Dedicated())
			standby, config, led := besideAStandby(w)
			opened, reset := open(t, config)
			var failed tries
			store, err := opened(&metadata.Options{WatchInterval: 20 * time.Millisecond, Logger: slog.New(&failed)})
			require.NoError(t, err)
			t.Cleanup(store.Close)
			lead := func(toStandby bool) {
				led.Store(toStandby)
				reset()
			}
			ctx, stop := context.WithCancel(w.ctx)
			told := make(chan metadata.Document, 100)
			var group sync.WaitGroup
			defer group.Wait()
			defer stop()
			group.Go(func() {
				for doc, err := range store.Watch(ctx, "a") {
					if ctx.Err() != nil || !assert.NoError(t, err) {
						return
					}
					told <- doc
				}
			})
			isTold := func(want metadata.Document, when string) {
				t.Helper()
				select {
				case doc := <-told:
					require.Equal(t, want, doc, when)
				case <-time.After(patience):
					require.Fail(t, "nothing is told", when)
				}
			}
			isNotTold := func(when string) {
				t.Helper()
				from := failed.n.Load()
				w.soon(func() bool { return failed.n.Load() > from+3 || len(told) > 0 }, "watchers to have looked")
				require.Empty(t, told, when)
			}
			before, after := w.store(nil, nil), w.store(w.pool(standby.url(), 2), nil)
			count := func(s *metadata.Postgres, n int) metadata.Document {
				doc, err := s.Merge(w.ctx, "a", raw(`{"n":%d}`, n))
				require.NoError(t, err)
				return doc
			}
			has := func(version string) {
				w.soon(func() bool {
					return standby.value("SELECT coalesce(max(version), 0)::text FROM "+metadata.DefaultTable+" WHERE id = 'a'") == version
				}, "the standby to have it")
			}

			isTold(metadata.Document{ID: "a"}, "at first")
			isTold(count(before, 1), "on the primary")
			has("1")
			standby.value("SELECT pg_wal_replay_pause()::text")
			w.soon(func() bool { return standby.value("SELECT pg_get_wal_replay_pause_state()") == "paused" }, "replay to be paused")
			isTold(count(before, 2), "on the primary")
			lead(true)
			isNotTold("by a standby")
			last := count(before, 3)
			isNotTold("by a standby")
			lead(false)
			isTold(last, "once the pool leads to the primary again")

			standby.value("SELECT pg_wal_replay_resume()::text")
			has("3")
			standby.promote()
			lead(true)
			isTold(count(after, 4), "once the standby is the primary")
			lead(false)
			isNotTold("by the primary that was")
			count(before, 5)
			last = count(after, 6)
			isNotTold("by the primary that was")
			lead(true)
			isTold(last, "once the pool leads to the new primary again")
		})
	}
}

// tries counts how often watched documents could not be read.
type tries struct{ n atomic.Int64 }

func (*tries) Enabled(context.Context, slog.Level) bool { return true }
func (f *tries) WithAttrs([]slog.Attr) slog.Handler     { return f }
func (f *tries) WithGroup(string) slog.Handler          { return f }
func (f *tries) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "watched documents") {
		f.n.Add(1)
	}
	return nil
}
