package faults_test

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// Another session locks the row, so that a merge waits before its COMMIT.
func (w *world) blockedMerge(ctx context.Context, store *metadata.Postgres, id string) (failed <-chan error, unblock func()) {
	w.Helper()
	before := w.blocked()
	host, err := w.db.Pool().Begin(w.ctx)
	require.NoError(w, err)
	_, err = host.Exec(w.ctx, "SELECT FROM lockstore_metadata WHERE id = $1 FOR UPDATE", id)
	require.NoError(w, err)
	done := make(chan error, 1)
	go func() {
		_, err := w.merge(ctx, store, id)
		done <- err
	}()
	w.soon(func() bool { return w.blocked() > before }, "the merge to wait for the row")
	return done, func() { assert.NoError(w, host.Rollback(context.Background())) }
}

func Test14TerminateBeforeCommit(t *testing.T) {
	w := newWorld(t)
	store := w.store(nil, nil)
	before := w.merged(store, "a")
	failed, unblock := w.blockedMerge(w.ctx, store, "a")
	pid := one[uint32](w, "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
	require.NoError(t, w.db.Terminate(pid))
	assert.Error(t, <-failed)
	unblock()
	after, err := store.Get(w.ctx, "a")
	require.NoError(t, err)
	assert.Equal(t, before, after)
	w.merged(store, "a")
}

func Test15ReplyLost(t *testing.T) {
	w := newWorld(t)
	proxy := pgtest.NewProxy(t, w.db)
	store := w.store(w.pool(proxy.URL(), 1), nil)
	version := w.merged(store, "a").Version
	for range 5 {
		failed, unblock := w.blockedMerge(w.ctx, store, "a") // its connection is asked for no sign of life from now on
		proxy.Discard(pgtest.ToClient)
		unblock()
		w.soon(func() bool {
			return one[int64](w, "SELECT version FROM lockstore_metadata WHERE id = 'a'") == version+1
		}, "the commit")
		proxy.Cut()
		assert.ErrorIs(t, <-failed, metadata.ErrUnknownOutcome)
		proxy.Restore()
		version = w.merged(store, "a").Version
	}
}

// The server ends all sessions when a backend dies, and recovers from its log.
func Test16BackendKilled(t *testing.T) {
	w := newWorld(t, pgtest.Dedicated())
	crash(w, func() {
		require.NoError(t, syscall.Kill(int(one[int32](w, "SELECT pg_backend_pid()")), syscall.SIGKILL))
	})
}

func Test17ImmediateRestart(t *testing.T) {
	w := newWorld(t, pgtest.Dedicated(), pgtest.Durable())
	crash(w, func() {
		require.NoError(t, syscall.Kill(w.db.Server().PID(), syscall.SIGQUIT))
		require.NoError(t, w.db.Server().Kill(w.ctx)) // waits until all its processes are gone
		require.NoError(t, w.db.Server().Restart(w.ctx))
	})
}

// Fences survive a crash of the server: later holders get greater ones.
func Test17FenceAfterCrash(t *testing.T) {
	w := newWorld(t, pgtest.Dedicated(), pgtest.Durable())
	locker := w.locker(nil, nil)
	for range 3 {
		var fence int64
		for range 20 {
			held := w.lock(locker, key)
			f, err := held.Fence(w.ctx)
			require.NoError(t, err)
			fence = f
			require.NoError(t, held.Unlock())
		}
		require.NoError(t, w.db.Server().Kill(w.ctx))
		require.NoError(t, w.db.Server().Restart(w.ctx))
		held := w.lock(locker, key)
		f, err := held.Fence(w.ctx)
		require.NoError(t, err)
		assert.Greater(t, f, fence)
		assert.NoError(t, held.Unlock())
	}
}

func Test18FastRestart(t *testing.T) {
	w := newWorld(t, pgtest.Dedicated())
	crash(w, func() { require.NoError(t, w.db.Server().Restart(w.ctx)) })
}

// crash runs writers while the server goes down and comes back.
func crash(w *world, harm func()) {
	locker, store := w.locker(nil, nil), w.store(nil, nil)
	held := w.lock(locker, key)
	ctx, stop := context.WithCancel(w.ctx)
	defer stop()
	begun, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for i := 0; ctx.Err() == nil; i++ {
			bounded, cancel := context.WithTimeout(w.ctx, time.Second)
			_, _ = w.merge(bounded, store, "a")
			cancel()
			if i == 100 {
				close(begun)
			}
		}
	}()
	w.await(begun, "writers")
	harm()
	w.lost(held)
	assert.ErrorIs(w, held.Unlock(), lock.ErrLost)
	back := time.Now()
	w.unlocked(locker, key)
	w.Logf("locks are served %v after the restart", time.Since(back))
	w.soon(func() bool { _, err := w.merge(w.ctx, store, "a"); return err == nil }, "merges to be served")
	stop()
	w.await(ended, "writers")
}
