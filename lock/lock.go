package lock

import (
	"context"
	"errors"
)

// Locker hands out named locks. All methods are safe for concurrent use.
//
// Locks are not re-entrant: a goroutine that asks again for a key it holds
// waits for itself, or is told that it is busy.
//
// Implementations: [Postgres] and [Memory]. One of your own can be checked by
// the suite in package locktest.
type Locker interface {
	// Lock waits until key is this caller's alone. Waiters of one process
	// are served in the order of their calls. It blocks until ctx ends: the
	// error is then a [*BusyError] that also matches the context's cause,
	// and [ErrUnavailable] if the server could not be asked; and nothing is held.
	Lock(ctx context.Context, key Key) (*Held, error)

	// TryLock takes key if nobody has it and nobody waits for it, and
	// otherwise returns a [*BusyError]. It does not wait for other holders. Of
	// several that try at once one gets a key that is free.
	TryLock(ctx context.Context, key Key) (*Held, error)

	// RLock is Lock for a shared lock: any number of holders may share the
	// key, but not with one that has it alone. A stream of sharers does not
	// starve a waiter for Lock.
	RLock(ctx context.Context, key Key) (*Held, error)

	// TryRLock is TryLock for a shared lock: those who share the key, or wait
	// to, are no reason to refuse it.
	TryRLock(ctx context.Context, key Key) (*Held, error)
}

// AllLocker is a [Locker] that takes several keys together.
type AllLocker interface {
	Locker

	// LockAll takes all of keys, or none, and waits like Lock. The keys may be
	// given in any order: callers never wait for each other in a circle. Keys
	// given twice count once.
	LockAll(ctx context.Context, keys ...Key) (*Held, error)
}

// Do runs fn while it holds key, and unlocks whatever happens, a panic
// included. The context given to fn is ctx, cancelled early with cause
// [ErrLost] if the lock is lost, and carrying the tenure as
// [Held.Context] does.
//
// The error joins that of fn with that of the unlock, unless it has that already,
// so that work done after a loss is never taken for done: errors.Is(err, ErrLost).
func Do(ctx context.Context, l Locker, key Key, fn func(context.Context) error) (err error) {
	held, err := l.Lock(ctx, key)
	if err != nil {
		return err
	}
	defer func() {
		if unlocked := held.Unlock(); unlocked != nil && !errors.Is(err, unlocked) {
			err = errors.Join(err, unlocked)
		}
	}()
	ctx, stop := held.Bind(ctx)
	defer stop()
	return fn(ctx)
}
