package faults_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
)

func (p *process) pidAfter(order string) uint32 {
	p.w.Helper()
	pid, err := strconv.ParseUint(p.ask(order), 10, 32)
	require.NoError(p.w, err)
	return uint32(pid)
}

// stop stops the process, and returns when all its threads are stopped.
func (p *process) stop() {
	p.w.Helper()
	p.signal(syscall.SIGSTOP)
	p.w.soon(func() bool {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.cmd.Process.Pid))
		require.NoError(p.w, err)
		for _, task := range tasks {
			stat, err := os.ReadFile(task)
			if err != nil || !strings.Contains(string(stat), ") T ") {
				return false
			}
		}
		return len(tasks) > 0
	}, "the process to stop")
}

func Test20HolderProcessKilled(t *testing.T) {
	w := newWorld(t)
	locker, store := w.locker(nil, nil), w.store(nil, nil)
	fastest := patience
	for range 3 {
		p := w.process()
		p.pidAfter("lock a")
		p.signal(syscall.SIGKILL)
		killed := time.Now()
		held := w.lock(locker, store.Key("a"))
		fastest = min(fastest, time.Since(killed))
		assert.NoError(t, held.Unlock())
	}
	t.Logf("free %v after its holder was killed", fastest)
	assert.Less(t, fastest, atOnce)
}

// Waiting longer than a second would show nothing more: the server has no timeout while the
// connection exists.
func Test21HolderProcessStopped(t *testing.T) {
	w := newWorld(t)
	locker, store := w.locker(nil, nil), w.store(nil, nil)
	p := w.process()
	p.pidAfter("lock a")
	p.stop()
	ctx, cancel := context.WithTimeout(w.ctx, time.Second)
	defer cancel()
	_, err := locker.Lock(ctx, store.Key("a"))
	assert.ErrorIs(t, err, lock.ErrBusy)
	p.signal(syscall.SIGCONT)
	assert.Equal(t, "ok", p.ask("merge a mine"))
	assert.Equal(t, "ok", p.ask("unlock"))
	w.unlocked(locker, store.Key("a"))
}

// The server refuses the writes of a process that was stopped while it lost its lock.
func Test22StoppedTerminatedContinued(t *testing.T) {
	w := newWorld(t)
	locker, store := w.locker(nil, nil), w.store(nil, nil)
	p := w.process()
	for range 5 {
		pid := p.pidAfter("lock a")
		p.stop()
		p.tell("merge a stale")
		require.NoError(t, w.db.Terminate(pid))
		held := w.lock(locker, store.Key("a"))
		_, err := w.merge(held.Context(), store, "a")
		assert.NoError(t, err)
		p.signal(syscall.SIGCONT)
		assert.NotEqual(t, "ok", p.hear())
		assert.NoError(t, held.Context().Err())
		assert.NoError(t, held.Unlock())
		assert.Equal(t, "lost", p.ask("unlock"))
	}
	doc, err := store.Get(w.ctx, "a")
	require.NoError(t, err)
	assert.NotContains(t, string(doc.Metadata), "stale")
}

func Test23WaiterProcessKilled(t *testing.T) {
	w := newWorld(t)
	locker, store := w.locker(nil, nil), w.store(nil, nil)
	held := w.lock(locker, store.Key("a"))
	p := w.process()
	p.tell("lock a")
	w.soon(func() bool { return w.queued() != 0 }, "the child to be queued")
	p.signal(syscall.SIGKILL)
	killed := time.Now()
	w.soon(func() bool { return w.queued() == 0 }, "its place in the queue to be given up")
	took := time.Since(killed)
	t.Logf("gone %v after its process was killed", took)
	assert.Less(t, took, 5*time.Second, "about a second, on a machine that is not busy")
	got := w.waiter(locker, store.Key("a"))
	assert.NoError(t, held.Unlock())
	w.await(got, "the next waiter")
}

// Status shows the waiting calls and writers of other processes. A stopped process delays it
// by half a second, and is reported as such; a killed one is not shown.
func TestWhoWaitsInAProcessThatIsStopped(t *testing.T) {
	w := newWorld(t)
	locker, store := w.locker(nil, nil), w.store(nil, nil)
	held := w.lock(locker, store.Key("a"))
	waiter, writer := w.process(), w.process()
	own := waiter.pidAfter("lock mine")
	require.Equal(t, "ok", waiter.ask("unlock"))
	waiter.tell("lock a")
	w.soon(func() bool { return w.queued() != 0 }, "the child to be queued")
	writer.tell("write a x")
	var status lock.Status
	tells := func(waiters, unanswered int) func() bool {
		return func() bool {
			start := time.Now()
			var err error
			status, err = locker.Status(w.ctx, held.Key())
			require.NoError(t, err)
			assert.Less(t, time.Since(start), time.Second)
			return status.Waiters == waiters && len(status.Unanswered) == unanswered
		}
	}
	w.soon(tells(2, 0), "both to be told of")
	writes := 0
	for _, wait := range status.Waiting {
		if wait.Writing {
			writes++
		} else {
			assert.Equal(t, own, wait.PID)
		}
		assert.NotEmpty(t, wait.User)
	}
	assert.Equal(t, 1, writes)

	writer.stop()
	inQueue := false
	for end := time.Now().Add(patience); !inQueue; { // it may be stopped between two waits there
		require.True(t, time.Now().Before(end), "who is in the server's queue to be told of")
		waiter.stop()
		for brief := time.Now().Add(3 * time.Second); w.queued() != 0 && !inQueue && time.Now().Before(brief); {
			inQueue = tells(1, 2)()
		}
		if !inQueue {
			waiter.signal(syscall.SIGCONT)
			w.soon(func() bool { return w.queued() != 0 }, "the child to be queued again")
		}
	}
	waiter.signal(syscall.SIGCONT)
	w.soon(tells(1, 1), "who answers again to be told of")
	assert.Equal(t, own, status.Waiting[0].PID)
	for _, p := range []*process{waiter, writer} {
		p.signal(syscall.SIGKILL)
	}
	w.soon(tells(0, 0), "nobody to be told of")
	assert.NoError(t, held.Unlock())
}
