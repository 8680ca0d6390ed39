package metadata

import (
	"context"
	"time"
)

// An Observer is told what a store does, for metrics, traces and logs: ids, but never a value
// of a document or patch. It has the methods of one or both of [OperationObserver] and
// [CommitObserver]. Which it has is found out once, when the store is made, and one that has
// none is refused with [ErrInvalidOptions]. Other interfaces may be added, and fields to what
// they are told.
//
//   - Each beginning is told before its end, and each end once, with the context that the
//     beginning has returned: the one that it was given, or one derived from it, with which
//     the store goes on. Of several observers each is given the context of the one before.
//   - Methods are called concurrently, on the goroutine of a caller, which they delay, and
//     where their panics go on.
//   - What they are given is not to be changed.
type Observer any

// An OperationObserver is told of each call of an operation, on a store, its views, and in
// a host's transaction; also of those that are refused before anything is sent.
type OperationObserver interface {
	// OperationStart tells that a call has begun.
	OperationStart(ctx context.Context, o OperationStart) context.Context

	// OperationEnd tells that it has ended.
	OperationEnd(ctx context.Context, o OperationEnd)
}

// OperationStart is what is known when an operation begins.
type OperationStart struct {
	Name  string   // the method: Get, GetMany, Find, Watch, Merge, MergeMany, Update, Replace or Delete
	Table string   // the Name of the Table
	IDs   []string // as the caller gave them; none for Find
}

// OperationEnd says what became of it.
type OperationEnd struct {
	OperationStart
	Took time.Duration // of Find and Watch, as long as their loop
	Err  error         // what the call returns, or the loop was told; see [ErrorType]
	Errs []error       // of a MergeMany that fails: what became of each merge, in the order of IDs

	// Commit is the context of the commit that carried a write, as CommitStart returned
	// it. That can be the commit of another call, which a trace can link to. It is nil
	// without a CommitObserver, where there was no such commit, and for MergeMany, whose
	// commits are made with its own context.
	Commit context.Context
}

// A CommitObserver is told of each transaction that a [Postgres] makes for writes: those
// that share it are told by OperationEnd.Commit.
type CommitObserver interface {
	// CommitStart tells that a transaction is about to be begun, with the context of one of
	// those whose writes it carries.
	CommitStart(ctx context.Context, c CommitStart) context.Context

	// CommitEnd tells that it has ended. It is called when those whose writes it carried
	// have been answered, or are about to be.
	CommitEnd(ctx context.Context, c CommitEnd)
}

// CommitStart is what is known of a transaction before.
type CommitStart struct {
	Table string
	IDs   []string // of the documents, mostly one; some may be left to other transactions
}

// CommitEnd says what became of it.
type CommitEnd struct {
	CommitStart
	Writes int           // on which it has decided; 0 if these are to be tried again
	Took   time.Duration // from CommitStart to the answer
	Err    error         // what all of them failed of, or why they are tried again; see [ErrorType]
}
