package metadata

import (
	"context"
	"time"
)

// An Observer is called for what a store does, for metrics, traces and logs. It gets ids, but
// never a value of a document or patch. It implements [OperationObserver], [CommitObserver], or
// both. The store finds out which when it is made, and refuses one that implements neither with
// [ErrInvalidOptions]. Later releases may add interfaces, and fields to their structs.
//
//   - Each Start is called before its End, and each End once, with the context that Start has
//     returned: the one that Start was given, or one derived from it, with which the store goes
//     on. Each of several observers is given the context that the one before has returned.
//   - Methods are called concurrently, on the goroutine of a caller. They delay the caller, and
//     their panics go on there.
//   - Methods must not change what they are given.
type Observer any

// An OperationObserver is called for each operation on a store, its views, and in a host's
// transaction, also for those that are refused before anything is sent.
type OperationObserver interface {
	// OperationStart is called when an operation begins.
	OperationStart(ctx context.Context, o OperationStart) context.Context

	// OperationEnd is called when it has ended.
	OperationEnd(ctx context.Context, o OperationEnd)
}

// OperationStart describes an operation that begins.
type OperationStart struct {
	Name  string   // the method: Get, GetMany, Find, Watch, Merge, MergeMany, Update, Replace or Delete
	Table string   // the Name of the Table
	IDs   []string // as the caller gave them; none for Find
}

// OperationEnd describes an operation that has ended.
type OperationEnd struct {
	OperationStart
	Took time.Duration // for Find and Watch, the duration of the loop
	Err  error         // what the call returns, or the loop was given; see [ErrorType]
	Errs []error       // of a MergeMany that fails: the error of each merge, in the order of IDs

	// Commit is the context of the commit that carried a write, as CommitStart returned it.
	// That can be the commit of another call, which a trace can link to. It is nil without a
	// CommitObserver, if there was no such commit, and for MergeMany, which commits with its
	// own context.
	Commit context.Context
}

// A CommitObserver is called for each transaction that a [Postgres] makes for writes. Which
// operations shared it is in OperationEnd.Commit.
type CommitObserver interface {
	// CommitStart is called before a transaction begins, with the context of one of the
	// callers whose writes it carries.
	CommitStart(ctx context.Context, c CommitStart) context.Context

	// CommitEnd is called when it has ended, and the callers whose writes it carried have
	// their answers, or are about to get them.
	CommitEnd(ctx context.Context, c CommitEnd)
}

// CommitStart describes a transaction that begins.
type CommitStart struct {
	Table string
	IDs   []string // of the documents, mostly one; some may be left to other transactions
}

// CommitEnd describes a transaction that has ended.
type CommitEnd struct {
	CommitStart
	Writes int           // that got their outcome from it; 0 if they are to be tried again
	Took   time.Duration // from CommitStart to the answer
	Err    error         // why all of them failed, or are tried again; see [ErrorType]
}
