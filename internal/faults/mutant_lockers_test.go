package faults_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/lockstore/lock"
)

// poolLocker locks and unlocks through a pool, on any session, and ignores the unlock's answer.
type poolLocker struct{ db *sql.DB }

func (l poolLocker) TryLock(ctx context.Context, key lock.Key) (*lock.Held, error) {
	var granted bool
	if err := l.db.QueryRowContext(ctx, "SELECT pg_try_advisory_lock($1)", key.Int64()).Scan(&granted); err != nil {
		return nil, err
	}
	if !granted {
		return nil, lock.ErrBusy
	}
	t := &poolHold{db: l.db, key: key}
	held, cancel := lock.NewHeld(ctx, t, false, key)
	t.cancel = cancel
	return held, nil
}

func (l poolLocker) Lock(ctx context.Context, key lock.Key) (held *lock.Held, err error) {
	for range 8 {
		if held, err = l.TryLock(ctx, key); err == nil {
			return held, nil
		}
		time.Sleep(time.Millisecond)
	}
	return nil, err
}

func (l poolLocker) RLock(ctx context.Context, key lock.Key) (*lock.Held, error) {
	return nil, lock.ErrBusy
}

func (l poolLocker) TryRLock(ctx context.Context, key lock.Key) (*lock.Held, error) {
	return nil, lock.ErrBusy
}

type poolHold struct {
	noHold
	db     *sql.DB
	key    lock.Key
	cancel context.CancelCauseFunc
}

func (t *poolHold) Unlock() error {
	t.cancel(lock.ErrReleased)
	_, err := t.db.Exec("SELECT pg_advisory_unlock($1)", t.key.Int64())
	return err
}

// handOffLocker hands a key to the next local waiter before the holder unlocks.
type handOffLocker struct {
	lock.Locker
	mu   sync.Mutex
	held map[lock.Key]*shareable
}

type shareable struct {
	of      *handOffLocker
	held    *lock.Held
	holders int
}

func (l *handOffLocker) Lock(ctx context.Context, key lock.Key) (*lock.Held, error) {
	l.mu.Lock()
	s := l.held[key]
	if s != nil {
		s.holders++
	}
	l.mu.Unlock()
	if s == nil {
		held, err := l.Locker.Lock(ctx, key)
		if err != nil {
			return nil, err
		}
		s = &shareable{l, held, 1}
		l.mu.Lock()
		l.held[key] = s
		l.mu.Unlock()
	}
	held, _ := lock.NewHeld(s.held.Context(), s, false, key)
	return held, nil
}

func (s *shareable) Unlock() error {
	s.of.mu.Lock()
	s.holders--
	last := s.holders == 0
	if last && s.of.held[s.held.Key()] == s {
		delete(s.of.held, s.held.Key())
	}
	s.of.mu.Unlock()
	if last {
		return s.held.Unlock()
	}
	return nil
}

func (s *shareable) Fence(ctx context.Context) (int64, error)  { return s.held.Fence(ctx) }
func (s *shareable) Backend(key lock.Key) (lock.Backend, bool) { return s.held.Backend(key) }

// earlyFence draws the fence when the lock is requested, not when it is held.
type earlyFence struct {
	lock.Locker
	fences *atomic.Int64
}

type earlyHold struct {
	*lock.Held
	fence int64
}

func (t earlyHold) Fence(context.Context) (int64, error) { return t.fence, nil }

func (l earlyFence) Lock(ctx context.Context, key lock.Key) (*lock.Held, error) {
	fence := l.fences.Add(1)
	held, err := l.Locker.Lock(ctx, key)
	if err != nil {
		return nil, err
	}
	wrapped, _ := lock.NewHeld(held.Context(), earlyHold{held, fence}, false, key)
	return wrapped, nil
}

// credulousLocker releases a key for any session that requests it by a notification.
type credulousLocker struct {
	lock.Locker
	mu   sync.Mutex
	held map[int64]context.CancelCauseFunc
}

func credulous(w *world, locker lock.Locker) *credulousLocker {
	l := &credulousLocker{Locker: locker, held: map[int64]context.CancelCauseFunc{}}
	pool := w.pool("", 1)
	w.until(func(ctx context.Context) {
		_ = heard(ctx, pool, "lockstore_evict", func(payload string) bool {
			var key int64
			_, _ = fmt.Sscan(payload, &key)
			l.mu.Lock()
			defer l.mu.Unlock()
			if giveUp := l.held[key]; giveUp != nil {
				giveUp(lock.ErrEvicted)
			}
			return false
		})
	})
	return l
}

func (l *credulousLocker) Lock(ctx context.Context, key lock.Key) (*lock.Held, error) {
	held, err := l.Locker.Lock(ctx, key)
	if err != nil {
		return nil, err
	}
	wrapped, giveUp := lock.NewHeld(held.Context(), held, false, key)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held[key.Int64()] = giveUp
	return wrapped, nil
}

// credulousEvictor believes any session that says that a key is free.
type credulousEvictor struct {
	lock.Locker
	pool *pgxpool.Pool
}

func (l *credulousEvictor) Evict(ctx context.Context, _ lock.Key, _ time.Duration) error {
	return heard(ctx, l.pool, "lockstore_evicted", func(string) bool { return true })
}

// heard listens to a channel until the awaited notification arrives.
func heard(ctx context.Context, pool *pgxpool.Pool, channel string, enough func(payload string) bool) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	defer conn.Exec(context.WithoutCancel(ctx), "UNLISTEN *")
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return err
	}
	for {
		n, err := conn.Conn().WaitForNotification(ctx)
		if err != nil {
			return err
		}
		if enough(n.Payload) {
			return nil
		}
	}
}

// generousLimiter counts only the permits of its own process.
type generousLimiter struct {
	lock.Locker
	own *lock.Memory
}

// Acquire takes a permit. It implements [workload.Limiter].
func (l generousLimiter) Acquire(ctx context.Context, name lock.Key, permits int) (*lock.Held, error) {
	sem, err := lock.NewSemaphore(l.own, name, permits)
	if err != nil {
		return nil, err
	}
	return sem.Acquire(ctx)
}

// noHold is a hold that no session has.
type noHold struct{}

func (noHold) Unlock() error                         { return nil }
func (noHold) Fence(context.Context) (int64, error)  { return 0, errors.New("has none") }
func (noHold) Backend(lock.Key) (lock.Backend, bool) { return lock.Backend{}, false }

// hastyLeader releases the lock when the leader's context ends, even if its function still runs.
type hastyLeader struct{ lock.Locker }

// Lead leads. It implements [workload.Leader].
func (l hastyLeader) Lead(ctx context.Context, key lock.Key, fn func(context.Context, int64) error) error {
	held, err := l.Lock(ctx, key)
	if err != nil {
		return err
	}
	own, _ := lock.NewHeld(ctx, noHold{}, false, key) // which does not tell
	stop := context.AfterFunc(ctx, func() { held.Unlock() })
	defer func() {
		if stop() {
			held.Unlock()
		}
	}()
	fence, _ := held.Fence(ctx)
	ctx, unbind := own.Bind(ctx)
	defer unbind()
	return fn(ctx, fence)
}
