package lock

import "context"

// Locker acquires named locks. All methods are safe for concurrent use.
//
// Locks are not re-entrant. A call whose context carries a hold of the key (see
// [Held.Context]) would wait for itself: it fails at once with a [*BusyError] that matches
// [ErrHeld]. If both the hold and the call are shared, the call gets the key at once or fails
// the same way. [Ensure] is for code that may have the lock already. A goroutine that asks
// again with a context that does not carry the hold waits for itself.
//
// [Postgres] and [Memory] implement it. Package locktest checks an implementation of your own.
type Locker interface {
	// Lock waits until no other caller holds key, and takes it exclusively.
	//
	// It blocks until it has the key or ctx ends. Waiters of one process are served in the
	// order of their calls. If ctx ends, nothing is held, and the error is a [*BusyError] that
	// also matches the context's cause, and [ErrUnavailable] if the server could not be asked.
	Lock(ctx context.Context, key Key) (*Held, error)

	// TryLock takes key exclusively if it is free and has no waiter, and otherwise returns a
	// [*BusyError], which also matches the context's cause if that has ended. It does not wait
	// for other holders. If several calls try a free key at once, one of them gets it.
	TryLock(ctx context.Context, key Key) (*Held, error)

	// RLock is Lock for a shared lock: any number of shared holders have the key together, and
	// exclude an exclusive one. A stream of shared holders does not starve a waiter for Lock
	// (with [Postgres], unless it has no PostgresOptions.WaitConns).
	RLock(ctx context.Context, key Key) (*Held, error)

	// TryRLock is TryLock for a shared lock. Shared holders, and waiters for a shared lock, do
	// not make it fail.
	TryRLock(ctx context.Context, key Key) (*Held, error)
}

// operationOf returns the name of the method of Locker.
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

// AllLocker is a [Locker] that can lock several keys together.
type AllLocker interface {
	Locker

	// LockAll takes all of keys exclusively, or none of them, and waits like Lock. Keys may be
	// given in any order: calls of LockAll never deadlock with each other. A key given twice
	// counts once. Without keys the error matches [ErrInvalidKey].
	LockAll(ctx context.Context, keys ...Key) (*Held, error)
}
