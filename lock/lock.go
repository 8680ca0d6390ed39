package lock

import "context"

// Locker hands out named locks. All methods are safe for concurrent use.
//
// Locks are not re-entrant. Who asks for a key with a context that carries a hold of it
// (see [Held.Context]) would wait for itself: the error says so at once, as a [*BusyError]
// that matches [ErrHeld]. A shared lock beside one's own share is had at once, or the error
// is the same. [Ensure] is for code that may have the lock already. Without the hold in its
// context a goroutine that asks again waits for itself.
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

// operationOf is the name of a method of Locker.
func operationOf(m mode, try bool) string {
	switch {
	case m == alone && try:
		return "TryLock"
	case m == alone:
		return "Lock"
	case try:
		return "TryRLock"
	}
	return "RLock"
}

// AllLocker is a [Locker] that takes several keys together.
type AllLocker interface {
	Locker

	// LockAll takes all of keys, or none, and waits like Lock. The keys may be
	// given in any order: callers never wait for each other in a circle. Keys
	// given twice count once.
	LockAll(ctx context.Context, keys ...Key) (*Held, error)
}
