package faults_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

func Test41PanicInCallback(t *testing.T) {
	w := newWorld(t)
	locker, store := w.locker(nil, nil), w.store(nil, nil)
	w.merged(store, "a")
	assert.PanicsWithValue(t, "oops", func() {
		_ = lock.Do(w.ctx, locker, store.Key("a"), func(context.Context) error { panic("oops") })
	})
	assert.PanicsWithValue(t, "oops", func() {
		_, _ = store.Update(w.ctx, "a", func(metadata.Document) (json.RawMessage, error) { panic("oops") })
	})
	left := make(chan struct{})
	go func() { // what t.FailNow does in a callback
		defer close(left)
		_, _ = store.Update(w.ctx, "a", func(metadata.Document) (json.RawMessage, error) { runtime.Goexit(); return nil, nil })
	}()
	w.await(left, "Goexit")
	assert.Empty(t, w.db.Locks(t))
	w.merged(store, "a")
	w.unlocked(locker, store.Key("a"))
}

func Test42HeldDropped(t *testing.T) {
	w := newWorld(t)
	var log syncBuffer
	locker := w.locker(nil, &lock.PostgresOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	func() { w.lock(locker, key) }()
	w.soon(func() bool { runtime.GC(); return len(w.db.Locks(t)) == 0 }, "the lock to be released")
	assert.Contains(t, log.String(), "dropped without Unlock")
	w.unlocked(locker, key)
}

// syncBuffer is a buffer for many writers.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func Test43CloseWhileHeldAndWaitedFor(t *testing.T) {
	w := newWorld(t)
	other := w.locker(nil, nil)
	for range 10 {
		locker, store := w.locker(nil, impatient()), w.store(nil, nil)
		held, elsewhere := w.lock(locker, key), w.lock(other, lock.Name("elsewhere"))
		document := w.lock(other, store.Key("a"))
		var group sync.WaitGroup
		for _, k := range []lock.Key{key, lock.Name("elsewhere")} {
			for range 20 {
				group.Go(func() {
					_, err := locker.Lock(w.ctx, k)
					assert.ErrorIs(t, err, lock.ErrClosed)
				})
			}
		}
		for range 20 {
			group.Go(func() {
				_, err := w.merge(w.ctx, store, "a")
				assert.ErrorIs(t, err, metadata.ErrClosed)
			})
		}
		w.soon(func() bool { return locker.Stats().Waiters == 40 && store.Stats().Waits > 0 }, "waiters")
		ctx, cancel := context.WithTimeout(w.ctx, patience)
		assert.NoError(t, locker.Close(ctx))
		cancel()
		store.Close()
		group.Wait()
		assert.ErrorIs(t, context.Cause(held.Context()), lock.ErrClosed)
		assert.Len(t, w.db.Locks(t), 2, "those of the other")
		assert.NoError(t, elsewhere.Unlock())
		assert.NoError(t, document.Unlock())
	}
}

// Close ends with its context, even if the server is cut off, paused or has ended.
func TestCloseIsBounded(t *testing.T) {
	for name, harm := range map[string]func(w *world, proxy *pgtest.Proxy) error{
		"nothing": func(*world, *pgtest.Proxy) error { return nil },
		"cut off": func(_ *world, proxy *pgtest.Proxy) error { proxy.Blackhole(pgtest.Both); return nil },
		"paused": func(w *world, _ *pgtest.Proxy) error {
			w.Cleanup(func() { assert.NoError(w, w.db.Server().Resume()) })
			return w.db.Server().Pause(w.ctx)
		},
		"ended": func(w *world, _ *pgtest.Proxy) error {
			w.Cleanup(func() { assert.NoError(w, w.db.Server().Restart(context.Background())) })
			return w.db.Server().Kill(w.ctx)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, pgtest.Dedicated())
			proxy := pgtest.NewProxy(t, w.db)
			locker, err := lock.NewPostgres(w.ctx, w.pool(proxy.URL(), 2), &lock.PostgresOptions{Silence: time.Hour})
			require.NoError(t, err)
			held := w.lock(locker, key)
			require.NoError(t, harm(w, proxy))
			why := errors.New("why")
			brief, cancel := context.WithTimeoutCause(w.ctx, 100*time.Millisecond, why)
			defer cancel()
			begun := time.Now()
			if err := locker.Close(brief); err != nil {
				assert.ErrorIs(t, err, why)
			}
			assert.Less(t, time.Since(begun), 5*time.Second)
			assert.Error(t, held.Context().Err())
			patient, cancel := context.WithTimeout(w.ctx, patience)
			defer cancel()
			assert.NoError(t, locker.Close(patient), "its connections are cut by now")
			_, err = locker.Lock(w.ctx, key)
			assert.ErrorIs(t, err, lock.ErrClosed)
		})
	}
}
