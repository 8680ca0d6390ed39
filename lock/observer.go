package lock

import (
	"context"
	"time"
)

// An Observer is notified of what a Locker does, for metrics, traces and logs. It has the
// methods of one or more of [AcquireObserver], [HoldObserver], [ConnectObserver],
// [SessionObserver] and [BatchObserver]. The Locker checks which when it is made; NewPostgres
// refuses an observer that has none of them. Later releases may add interfaces, and fields to
// what the methods get.
//
//   - Each start is reported before its end, and each end once. The end gets the context
//     that the start has returned: the one that it was given, or one derived from it. Each
//     of several observers is given the context of the one before.
//   - Methods are called concurrently, and delay what they are notified of. Those of
//     AcquireObserver and HoldObserver are called on the caller's goroutine, and their
//     panics continue there. The others are called on any goroutine, perhaps while many
//     calls wait, and should be quick; their panics are logged.
//   - Methods must not change what they are given.
type Observer any

// An AcquireObserver is notified of each call that asks for a lock.
type AcquireObserver interface {
	// AcquireStart is called when a call begins. The context that it returns is used for the
	// wait, not for the hold.
	AcquireStart(ctx context.Context, a AcquireStart) context.Context

	// AcquireEnd is called when the call ends, with the lock or with an error.
	AcquireEnd(ctx context.Context, a AcquireEnd)
}

// AcquireStart describes a call that asks for a lock.
type AcquireStart struct {
	Operation string // the method: Lock, TryLock, RLock, TryRLock, LockAll; Acquire or TryAcquire of a Semaphore
	Keys      []Key  // several for LockAll; the name for a Semaphore
}

// AcquireEnd describes how such a call ended.
type AcquireEnd struct {
	AcquireStart
	Waited time.Duration // since the call began
	Err    error         // why nothing is held, or nil; see [ErrorType]
}

// A HoldObserver is notified of each hold.
type HoldObserver interface {
	// HoldStart is called when a lock was acquired, with the context of the caller.
	// [Held.Context] has the values of the context that it returns.
	HoldStart(ctx context.Context, h HoldStart) context.Context

	// HoldEnd is called when Unlock ends for the first time, also if the lock had been lost
	// before.
	HoldEnd(ctx context.Context, h HoldEnd)
}

// HoldStart describes a hold that begins.
type HoldStart struct {
	Keys   []Key // several if they were taken together; the permit's for a Semaphore
	Shared bool
}

// HoldEnd describes how a hold ended.
type HoldEnd struct {
	HoldStart
	Held time.Duration // until Unlock was called, or the lock was lost
	Err  error         // what Unlock returns: nil, or why the lock was lost; see [ErrorType]
}

// A ConnectObserver is notified of each attempt to open a connection for locks.
type ConnectObserver interface {
	// ConnectStart is called when a connection is about to be opened, with the context that it
	// returns. The first is given that of NewPostgres, later ones one of the Locker.
	ConnectStart(ctx context.Context, c ConnectStart) context.Context

	// ConnectEnd is called when the attempt has succeeded or failed.
	ConnectEnd(ctx context.Context, c ConnectEnd)
}

// ConnectStart describes a connection that is about to be opened.
type ConnectStart struct {
	Waits bool // it is to wait in the server's queue for keys: one of PostgresOptions.WaitConns
}

// ConnectEnd describes the outcome of an attempt to connect.
type ConnectEnd struct {
	ConnectStart
	Backend Backend // of the connection, if there is one
	Took    time.Duration
	Err     error // why there is none, or nil
}

// A SessionObserver is notified of each connection that has been opened for locks.
type SessionObserver interface {
	// SessionStart is called when the use of a connection begins.
	SessionStart(ctx context.Context, s SessionStart) context.Context

	// SessionEnd is called when the connection has been closed, or was lost with all its
	// locks.
	SessionEnd(ctx context.Context, s SessionEnd)
}

// SessionStart describes a connection in use.
type SessionStart struct {
	Backend Backend
	Waits   bool // as in ConnectStart
}

// SessionEnd describes how the use of a connection ended.
type SessionEnd struct {
	SessionStart
	Lasted time.Duration
	Locks  int   // number of locks lost with it
	Err    error // why it was lost; nil if the Locker has closed it
}

// A BatchObserver is notified of each batch of operations that a connection carries to the
// server and back.
type BatchObserver interface {
	// BatchStart is called when a batch is about to be sent. Its operations belong to many
	// callers, so ctx is none of theirs.
	BatchStart(ctx context.Context, b BatchStart) context.Context

	// BatchEnd is called when the batch has been answered, or its connection was lost before.
	BatchEnd(ctx context.Context, b BatchEnd)
}

// BatchStart describes a batch.
type BatchStart struct {
	Backend    Backend
	Waits      bool // as in ConnectStart: the answer can take as long as the wait for the key
	Operations int
}

// BatchEnd describes how a batch was answered.
type BatchEnd struct {
	BatchStart
	Took time.Duration
	Err  error // of one of the operations or of the connection, or nil
}
