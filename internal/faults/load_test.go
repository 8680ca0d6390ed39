package faults_test

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
)

// Waiters for a lock keep no connection that the holder might need.
func Test30PoolExhausted(t *testing.T) {
	w := newWorld(t)
	pool := w.pool("", 10)
	locker, store := w.locker(pool, nil), w.store(pool, nil)
	var group sync.WaitGroup
	for range 200 {
		group.Go(func() {
			held := w.lock(locker, store.Key("a"))
			_, err := w.merge(held.Context(), store, "a")
			assert.NoError(t, err)
			var n int
			assert.NoError(t, pool.QueryRow(w.ctx, "SELECT 1").Scan(&n))
			assert.NoError(t, held.Unlock())
		})
	}
	group.Wait()
}

func Test31NestedLocksPoolOfOne(t *testing.T) {
	w := newWorld(t)
	pool := w.pool("", 1)
	locker, store := w.locker(pool, nil), w.store(pool, nil)
	err := lock.Do(w.ctx, locker, store.Key("a"), func(ctx context.Context) error {
		return lock.Do(ctx, locker, store.Key("b"), func(ctx context.Context) error {
			for _, id := range []string{"a", "b", "c"} {
				if _, err := w.merge(ctx, store, id); err != nil {
					return err
				}
			}
			return nil
		})
	})
	assert.NoError(t, err)
}

func Test32OppositeOrder(t *testing.T) {
	w := newWorld(t)
	a, b := lock.Name("a"), lock.Name("b")
	var group sync.WaitGroup
	hasty := &lock.PostgresOptions{HandOff: time.Millisecond}
	for i, locker := range []*lock.Postgres{w.locker(nil, hasty), w.locker(nil, hasty)} {
		for _, keys := range [][]lock.Key{{a, b}, {b, a}} {
			group.Go(func() {
				ctx, cancel := context.WithTimeout(w.ctx, 3*patience)
				defer cancel()
				for range 250 {
					held, err := locker.LockAll(ctx, keys...)
					if !assert.NoError(t, err, "%d", i) {
						return
					}
					assert.NoError(t, held.Unlock())
				}
			})
		}
	}
	group.Wait()
}

func Test44ThunderingHerd(t *testing.T) {
	w := newWorld(t)
	lockers := []*lock.Postgres{w.locker(nil, nil), w.locker(nil, nil)}
	first := w.lock(lockers[0], key)
	var mu sync.Mutex
	var waited []time.Duration
	var group sync.WaitGroup
	for i := range 500 {
		group.Go(func() {
			begun := time.Now()
			held := w.lock(lockers[i%2], key)
			mu.Lock()
			waited = append(waited, time.Since(begun))
			mu.Unlock()
			assert.NoError(t, held.Unlock())
		})
	}
	w.soon(func() bool { return lockers[0].Stats().Waiters+lockers[1].Stats().Waiters == 500 }, "the herd")
	assert.NoError(t, first.Unlock())
	group.Wait()
	slices.Sort(waited)
	t.Logf("500 waited %v at the median, %v at the most", waited[250], waited[499])
}

// Many writers, which read their own writes: no increment is lost.
func TestHotDocumentLosesNoUpdate(t *testing.T) {
	w := newWorld(t)
	var group sync.WaitGroup
	const each = 25
	for range 2 {
		store := w.store(nil, nil)
		for range 16 {
			group.Go(func() {
				for range each {
					_, err := store.Update(w.ctx, "counter", func(doc metadata.Document) (json.RawMessage, error) {
						c, err := metadata.Decode[struct{ N int }](doc)
						return raw(`{"N":%d}`, c.N+1), err
					})
					assert.NoError(t, err)
				}
			})
		}
	}
	group.Wait()
	doc, err := w.store(nil, nil).Get(w.ctx, "counter")
	require.NoError(t, err)
	assert.JSONEq(t, `{"N":800}`, string(doc.Metadata))
	assert.EqualValues(t, 800, doc.Version)
}
