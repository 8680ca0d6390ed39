package faults_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"example.com/lockstore/lock"
	"example.com/lockstore/pgtest"
)

// Test24 and Test25: a holder behind a network that loses every packet, or those of one
// direction, learns of its loss when the silence has lasted too long. Test24NamespaceBlackhole
// shows that the server waits longer than that.
func Test24Blackhole(t *testing.T) { blackhole(t, pgtest.Both) }

func Test25OneWayLoss(t *testing.T) {
	t.Run("to server", func(t *testing.T) { blackhole(t, pgtest.ToServer) })
	t.Run("to client", func(t *testing.T) { blackhole(t, pgtest.ToClient) })
}

func blackhole(t *testing.T, way pgtest.Direction) {
	w := newWorld(t)
	proxy := pgtest.NewProxy(t, w.db)
	pool := w.pool(proxy.URL(), 2)
	locker, store := w.locker(pool, impatient()), w.store(w.pool("", 2), nil)
	held := w.lock(locker, key)
	proxy.Blackhole(way)
	begun := time.Now()
	told := w.lost(held).Sub(begun)
	t.Logf("told after %v of silence", told)
	assert.Less(t, told, 10*silence)
	assert.ErrorIs(t, held.Unlock(), lock.ErrLost)
	w.merged(store, "a") // other clients are not affected
	proxy.Restore()
	w.unlocked(locker, key)
}

func Test26Reset(t *testing.T) {
	w := newWorld(t)
	proxy := pgtest.NewProxy(t, w.db)
	locker, store := w.locker(w.pool(proxy.URL(), 2), nil), w.store(w.pool(proxy.URL(), 2), nil)
	fastest := patience
	for range 10 {
		w.merged(store, "a")
		held := w.lock(locker, key)
		proxy.Reset()
		reset := time.Now()
		fastest = min(fastest, w.lost(held).Sub(reset))
		assert.ErrorIs(t, held.Unlock(), lock.ErrLost)
		w.soon(func() bool { _, err := w.merge(w.ctx, store, "a"); return err == nil }, "merges to be served")
	}
	assert.Less(t, fastest, atOnce)
	w.unlocked(locker, key)
}

func Test27Latency(t *testing.T) {
	slow(t, 5, func(p *pgtest.Proxy) { p.Delay(time.Millisecond, 20*time.Millisecond) })
}

func Test28ByteSlicing(t *testing.T) {
	slow(t, 50, func(p *pgtest.Proxy) { p.Slice(1) })
}

// slow merges and locks over a network that is only slow.
func slow(t *testing.T, each int, harm func(*pgtest.Proxy)) {
	w := newWorld(t)
	proxy := pgtest.NewProxy(t, w.db)
	pool := w.pool(proxy.URL(), 4)
	locker, store := w.locker(pool, nil), w.store(pool, nil)
	w.merged(store, "a")
	harm(proxy)
	var mu sync.Mutex
	var took []time.Duration
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range each {
				begun := time.Now()
				_, err := w.merge(w.ctx, store, "a")
				assert.NoError(t, err)
				w.unlocked(locker, key)
				mu.Lock()
				took = append(took, time.Since(begun))
				mu.Unlock()
			}
		})
	}
	group.Wait()
	slices.Sort(took)
	t.Logf("a merge and a lock: %v at the median, %v at the most", took[len(took)/2], took[len(took)-1])
}

// The server's processes are stopped; the network works.
func Test29BackendStopped(t *testing.T) {
	w := newWorld(t, pgtest.Dedicated())
	locker := w.locker(nil, impatient())
	held := w.lock(locker, key)
	assert.NoError(t, w.db.Server().Pause(w.ctx))
	begun := time.Now()
	told := w.lost(held).Sub(begun)
	t.Logf("told after %v of silence", told)
	assert.Less(t, told, 10*silence)
	assert.NoError(t, w.db.Server().Resume())
	assert.ErrorIs(t, held.Unlock(), lock.ErrLost)
	w.unlocked(locker, key)
}
