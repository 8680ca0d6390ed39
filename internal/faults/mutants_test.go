package faults_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/internal/faults/history"
	"example.com/lockstore/internal/faults/neighbour"
	"example.com/lockstore/internal/faults/workload"
	"example.com/lockstore/internal/squatter"
	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// observe runs the workload on lockers and stores, two of each, and checks it: for d, and
// again until it has seen enough, or gives up.
func (w *world) observe(d time.Duration, lockers []lock.Locker, stores []workload.Store, enough func(history.Verdict) bool) history.Verdict {
	w.Helper()
	var log history.Log
	recorders := []*history.Recorder{history.NewRecorder(0, log.Add), history.NewRecorder(1, log.Add)}
	store := w.store(nil, nil)
	for round := 0; ; round++ {
		ctx, stop := context.WithTimeout(w.ctx, d<<round)
		var group sync.WaitGroup
		for i := range lockers {
			group.Go(func() {
				workload.Run(ctx, lockers[i], stores[i], recorders[i], workload.Config{
					Process: i, Generation: round, Workers: 8, Hasty: 48, Watchers: 4, Hot: 2, Cold: 20, Patience: 5 * time.Second, Pause: 2 * time.Millisecond, Grace: time.Hour, Seed: uint64(round),
				})
			})
			hangs := make(chan time.Duration, 1)
			hangs <- d
			close(hangs)
			group.Go(func() {
				workload.Hang(hangs, stores[i], recorders[i], workload.Config{Process: i, Generation: round, Patience: 5 * time.Second})
			})
		}
		group.Wait()
		stop()
		events := log.Events()
		final := map[string]history.Final{}
		for _, e := range events {
			if _, known := final[e.Key]; !known && e.Kind != history.Hold {
				doc, err := store.Get(w.ctx, e.Key)
				if !errors.Is(err, metadata.ErrNotFound) {
					require.NoError(w, err)
				}
				final[e.Key] = history.Final{Version: doc.Version, Document: doc.Metadata}
			}
		}
		v := history.Check(events, final, nil, time.Second)
		v.Violations = append(v.Violations, history.CheckUnharmed(events, time.Second)...)
		if w.neighbour != nil {
			what, err := squatter.Caught(w.ctx, w.db.Pool())
			require.NoError(w, err)
			if what != "" {
				v.Violations = append(v.Violations, history.Violation{Rule: squatted, Key: what})
			}
		}
		w.Logf("%d events, %d windows, %d violations", len(events), v.Windows, len(v.Violations))
		if enough(v) || round == 5 {
			return v
		}
	}
}

func (w *world) pair() (lockers []lock.Locker, stores []workload.Store) {
	for range 2 {
		store := w.store(w.hanging(), &metadata.Options{Principal: workload.NobodyInParticular})
		lockers, stores = append(lockers, w.locker(nil, impatient())), append(stores, workload.Hosted{Postgres: store, Pool: w.pool("", 4)})
	}
	return lockers, stores
}

// hanging is a pool whose connections hang for certain callers.
func (w *world) hanging() *pgxpool.Pool {
	w.Helper()
	return w.poolWith(func(c *pgxpool.Config) { c.MaxConns, c.PrepareConn = 4, workload.PrepareHanging })
}

func TestWhatWorksIsNotRejected(t *testing.T) {
	w := newSerialWorld(t)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(8)) // more than most machines have cores
	lockers, stores := w.pair()
	v := w.observe(8*time.Second, lockers, stores, func(history.Verdict) bool { return true })
	for _, violation := range v.Violations {
		t.Error(violation)
	}
	assert.Positive(t, v.Windows)
}

// The neighbour must not harm these.
func TestWhatWorksBesideANeighbourIsNotRejected(t *testing.T) {
	w := newSerialWorld(t)
	lockers, stores := w.pair()
	for _, a := range neighbour.Attacks {
		w.beside(a.Name)
	}
	w.until(func(ctx context.Context) {
		assert.NoError(t, workload.Tenant(ctx, stores[0], "0", 0))
	})
	v := w.observe(4*time.Second, lockers, stores, func(history.Verdict) bool { return true })
	for _, violation := range v.Violations {
		t.Error(violation)
	}
}

// Each of these has a bug that real systems have. The rule that it breaks must reject it.
func TestMutants(t *testing.T) {
	for name, c := range map[string]struct {
		rule   string
		mutate func(w *world, lockers []lock.Locker, stores []workload.Store)
	}{
		"pool-level lock and unlock": {history.Exclusion, func(w *world, lockers []lock.Locker, _ []workload.Store) {
			db := stdlib.OpenDBFromPool(w.pool("", 3))
			w.Cleanup(func() { db.Close() })
			w.Cleanup(func() { // it leaks locks
				for len(w.db.Locks(w)) > 0 {
					assert.NoError(w, w.db.Terminate(w.db.Locks(w)[0].PID))
				}
			})
			for i := range lockers {
				lockers[i] = poolLocker{db}
			}
		}},
		"hand-off without the queue": {history.Exclusion, func(_ *world, lockers []lock.Locker, _ []workload.Store) {
			for i := range lockers {
				lockers[i] = &handOffLocker{Locker: lockers[i], held: map[lock.Key]*shareable{}}
			}
		}},
		"a permit given twice": {history.Exclusion, func(_ *world, lockers []lock.Locker, _ []workload.Store) {
			for i := range lockers {
				lockers[i] = generousLimiter{lockers[i], lock.NewMemory()}
			}
		}},
		"a leader released before its function ends": {history.Exclusion, func(_ *world, lockers []lock.Locker, _ []workload.Store) {
			for i := range lockers {
				lockers[i] = hastyLeader{lockers[i]}
			}
		}},
		"fence drawn before the lock": {history.FenceOrder, func(_ *world, lockers []lock.Locker, _ []workload.Store) {
			fences := new(atomic.Int64)
			for i := range lockers {
				lockers[i] = earlyFence{lockers[i], fences}
			}
		}},
		"a writer that does not ask for the lock": {history.KeptOut, func(w *world, _ []lock.Locker, stores []workload.Store) {
			for i := range stores {
				stores[i] = &ignorantStore{Store: stores[i], pool: w.pool("", 4)}
			}
		}},
		"many merges that do not ask for the locks": {history.KeptOut, func(w *world, _ []lock.Locker, stores []workload.Store) {
			for i := range stores {
				stores[i] = ignorantMany{Store: stores[i], one: &ignorantStore{Store: stores[i], pool: w.pool("", 4)}}
			}
		}},
		"acknowledgement before commit": {history.OneVersion, func(w *world, _ []lock.Locker, stores []workload.Store) {
			for i := range stores {
				stores[i] = &earlyStore{Store: stores[i], postgres: stores[i].(workload.Hosted).Postgres, pool: w.pool("", 8)}
			}
		}},
		"a batch that loses its last patch": {history.OneVersion, func(_ *world, _ []lock.Locker, stores []workload.Store) {
			for i := range stores {
				stores[i] = &lossyBatch{Store: stores[i]}
			}
		}},
		"read, then write": {history.OneVersion, func(_ *world, _ []lock.Locker, stores []workload.Store) {
			for i := range stores {
				stores[i] = readThenWrite{stores[i]}
			}
		}},
		"a read from long ago": {history.FreshRead, func(_ *world, _ []lock.Locker, stores []workload.Store) {
			for i := range stores {
				stores[i] = &staleReader{Store: stores[i], seen: map[string]metadata.Document{}}
			}
		}},
		"a read under a lock, not fenced, from an old copy of the table": {history.TakenBack, func(w *world, _ []lock.Locker, stores []workload.Store) {
			old := pgtest.New(w)
			elsewhere := w.pool(old.URL(), 4)
			copied := w.store(elsewhere, nil)
			require.NoError(w, copied.Migrate(w.ctx))
			_, err := copied.Merge(w.ctx, "doc0", raw(`{"%s":1}`, history.Counter))
			require.NoError(w, err)
			for i := range stores {
				stores[i] = rawReader{stores[i], elsewhere, metadata.DefaultTable}
			}
		}},
		"nil and nothing else, when the context has ended": {history.EmptyAnswer, func(_ *world, _ []lock.Locker, stores []workload.Store) {
			for i := range stores {
				stores[i] = &emptyStore{Store: stores[i]}
			}
		}},
		"a deadline that was exceeded by what was made": {history.NotApplied, func(_ *world, _ []lock.Locker, stores []workload.Store) {
			for i := range stores {
				stores[i] = &denyingStore{Store: stores[i]}
			}
		}},
		"a locker that gives up what anybody asks for": {history.Unharmed, func(w *world, lockers []lock.Locker, _ []workload.Store) {
			for i := range lockers {
				lockers[i] = credulous(w, lockers[i])
			}
			w.beside("a neighbour forges evictions")
		}},
		"an eviction that believes what anybody answers": {history.Freed, func(w *world, lockers []lock.Locker, _ []workload.Store) {
			for i := range lockers {
				lockers[i] = &credulousEvictor{Locker: lockers[i], pool: w.pool("", 4)}
			}
			w.beside("a neighbour forges evictions")
		}},
		"a read by an operator of anybody's": {squatted, func(w *world, _ []lock.Locker, stores []workload.Store) {
			w.beside()
			for i := range stores {
				stores[i] = rawReader{stores[i], w.pathed(squatter.Paths("public")[1]), "public.lockstore_metadata"}
			}
		}},
		"a store whose cheap patches share a statement with dear ones": {history.Unharmed, func(w *world, _ []lock.Locker, stores []workload.Store) {
			for i := range stores {
				stores[i] = &sharingStore{Store: stores[i], pool: w.pool("", 4)}
				w.until(func(ctx context.Context) { _ = workload.Tenant(ctx, stores[i], fmt.Sprint(i), uint64(i)) })
			}
		}},
		"a leader that waits for ever for the connection of all": {history.HeldUp, func(w *world, _ []lock.Locker, stores []workload.Store) {
			for i := range stores {
				stores[i] = &waitingStore{Store: stores[i], pool: w.hanging()}
			}
		}},
		"a write that goes on when its hold has ended": {history.Undisturbed, func(w *world, _ []lock.Locker, stores []workload.Store) {
			for i := range stores {
				stores[i] = lateStore{stores[i], &ignorantStore{Store: stores[i], pool: w.pool("", 4)}}
			}
		}},
		"watchers that are hinted at before the commit": {history.ToldTheLast, func(_ *world, _ []lock.Locker, stores []workload.Store) {
			board := new(bulletin)
			for i := range stores {
				stores[i] = hintingStore{stores[i], board, func(hint func(), write func() error) error {
					hint()
					time.Sleep(10 * time.Millisecond) // the write is in progress
					return write()
				}}
			}
		}},
		"watchers whose hints are lost, and who compare nothing": {history.ToldTheLast, func(_ *world, _ []lock.Locker, stores []workload.Store) {
			board, began := new(bulletin), time.Now()
			for i := range stores {
				stores[i] = hintingStore{stores[i], board, func(hint func(), write func() error) error {
					err := write()
					if time.Since(began) < time.Second/2 { // then the connection breaks
						hint()
					}
					return err
				}}
			}
		}},
		"watchers that read wherever a read leads": {history.ToldInOrder, func(_ *world, _ []lock.Locker, stores []workload.Store) {
			for i := range stores {
				stores[i] = &laggingWatcher{Store: stores[i], watcher: stores[i].(workload.Watcher)}
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			lockers, stores := w.pair()
			c.mutate(w, lockers, stores)
			v := w.observe(time.Second, lockers, stores, func(v history.Verdict) bool { return rules(v)[c.rule] > 0 })
			t.Log(rules(v))
			assert.Contains(t, rules(v), c.rule)
		})
	}
}

// rules returns the broken rules, and how often each was broken.
func rules(v history.Verdict) map[string]int {
	rules := map[string]int{}
	for _, violation := range v.Violations {
		rules[violation.Rule]++
	}
	return rules
}
