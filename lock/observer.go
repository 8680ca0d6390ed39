package lock

import (
	"context"
	"time"
)

// An Observer is told what a Locker does, for metrics, traces and logs. It has the methods
// of one or more of [AcquireObserver], [HoldObserver], [ConnectObserver], [SessionObserver]
// and [BatchObserver]. Which it has is found out once, when the Locker is made; NewPostgres
// refuses one that has none. Other interfaces may be added, and fields to what they are told.
//
//   - Each beginning is told before its end, and each end once, with the context that the
//     beginning has returned: the one that it was given, or one derived from it. Of several
//     observers each is given the context of the one before.
//   - Methods are called concurrently, and delay what they are told of. Those of
//     AcquireObserver and HoldObserver are called on the caller's goroutine, where their
//     panics go on. The others are called on any, perhaps while many wait, and should be
//     quick; their panics are told to the Logger.
//   - What they are given is not to be changed.
type Observer any

// An AcquireObserver is told of each call that asks for a lock.
type AcquireObserver interface {
	// AcquireStart tells that a call has begun. What it returns is the context of the wait,
	// not of the hold.
	AcquireStart(ctx context.Context, a AcquireStart) context.Context

	// AcquireEnd tells that the call has ended: with the lock, or with an error.
	AcquireEnd(ctx context.Context, a AcquireEnd)
}

// AcquireStart is what is known when a lock is asked for.
type AcquireStart struct {
	Operation string // the method: Lock, TryLock, RLock, TryRLock, LockAll; Acquire or TryAcquire of a Semaphore
	Keys      []Key  // several for LockAll; the name for a Semaphore
}

// AcquireEnd says what became of it.
type AcquireEnd struct {
	AcquireStart
	Waited time.Duration // from the call on
	Err    error         // why nothing is held, or nil; see [ErrorType]
}

// A HoldObserver is told of each hold.
type HoldObserver interface {
	// HoldStart tells that a lock was acquired, with the context of its caller. The values
	// of what it returns are those of [Held.Context].
	HoldStart(ctx context.Context, h HoldStart) context.Context

	// HoldEnd tells that Unlock has ended, for the first time, also where the lock had been
	// lost before.
	HoldEnd(ctx context.Context, h HoldEnd)
}

// HoldStart is what is known when a hold begins.
type HoldStart struct {
	Keys   []Key // several where they were taken together; of a Semaphore, the permit's
	Shared bool
}

// HoldEnd says how it ended.
type HoldEnd struct {
	HoldStart
	Held time.Duration // until Unlock was called, or the lock was lost
	Err  error         // what Unlock returns: nil, or why the lock was lost; see [ErrorType]
}

// A ConnectObserver is told of each attempt to open a connection for locks.
type ConnectObserver interface {
	// ConnectStart tells that a connection is about to be opened. What it returns is the
	// context of that. It was given that of NewPostgres first, and then one of the Locker.
	ConnectStart(ctx context.Context, c ConnectStart) context.Context

	// ConnectEnd tells that there is a connection, or that there is none.
	ConnectEnd(ctx context.Context, c ConnectEnd)
}

// ConnectStart is what is known of a connection before.
type ConnectStart struct {
	Waits bool // for keys in the server's queue: it is one of up to PostgresOptions.Parking
}

// ConnectEnd says what became of it.
type ConnectEnd struct {
	ConnectStart
	Backend Backend // where there is a connection
	Took    time.Duration
	Err     error
}

// A SessionObserver is told of each connection that has been opened for locks.
type SessionObserver interface {
	// SessionStart tells that a connection is used from now on.
	SessionStart(ctx context.Context, s SessionStart) context.Context

	// SessionEnd tells that it has been closed, or was lost, and with it all its locks.
	SessionEnd(ctx context.Context, s SessionEnd)
}

// SessionStart is what is known of a connection that is used.
type SessionStart struct {
	Backend Backend
	Waits   bool // as of ConnectStart
}

// SessionEnd says how it ended.
type SessionEnd struct {
	SessionStart
	Lasted time.Duration
	Locks  int   // that were lost with it
	Err    error // why it was lost; nil if the Locker has closed it
}

// A BatchObserver is told of each batch of operations that a connection carries to the
// server and back.
type BatchObserver interface {
	// BatchStart tells that a batch is about to be sent. Its operations are those of many
	// callers, and none of their contexts is known.
	BatchStart(ctx context.Context, b BatchStart) context.Context

	// BatchEnd tells that the batch was answered, or that the connection was lost before.
	BatchEnd(ctx context.Context, b BatchEnd)
}

// BatchStart is what is sent.
type BatchStart struct {
	Backend    Backend
	Waits      bool // as of ConnectStart: the answer can come as late as the key
	Operations int
}

// BatchEnd says how it was answered.
type BatchEnd struct {
	BatchStart
	Took time.Duration
	Err  error // of one of the operations, or of the connection
}
