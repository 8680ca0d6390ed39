package metadata

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"
)

// Calls of observers. Without observers they cost one comparison.

// observers are the observers of a store, by their interfaces.
type observers struct {
	operation []OperationObserver
	commit    []CommitObserver
}

func newObservers(all []Observer) (some observers, err error) {
	for _, each := range all {
		operation, isOperation := each.(OperationObserver)
		commit, isCommit := each.(CommitObserver)
		if isOperation {
			some.operation = append(some.operation, operation)
		}
		if isCommit {
			some.commit = append(some.commit, commit)
		}
		if !isOperation && !isCommit {
			err = fmt.Errorf("%w: %T has the methods of no Observer", ErrInvalidOptions, each)
		}
	}
	return some, err
}

// errPanicked is the error for observers of what has ended by a panic.
var errPanicked = errors.New("metadata: panicked")

// observe runs an operation, do, between the calls of its observers. end is nil if there are
// none.
func (d *documents) observe(ctx context.Context, name string, ids func() []string, do func(ctx context.Context, end *OperationEnd) error) error {
	all := d.options.observers.operation
	if all == nil {
		return do(ctx, nil)
	}
	start, since := OperationStart{name, d.options.Table.Name, ids()}, time.Now()
	for _, each := range all {
		ctx = each.OperationStart(ctx, start)
	}
	end := OperationEnd{OperationStart: start, Err: errPanicked}
	defer func() {
		end.Took = time.Since(since)
		for _, each := range all {
			each.OperationEnd(ctx, end)
		}
	}()
	end.Err = do(ctx, &end)
	return end.Err
}

// observeLoop is observe for an operation that is a loop.
func (d *documents) observeLoop(ctx context.Context, name string, ids []string, loop func(context.Context) iter.Seq2[Document, error]) iter.Seq2[Document, error] {
	return func(yield func(Document, error) bool) {
		_ = d.observe(ctx, name, func() []string { return ids }, func(ctx context.Context, _ *OperationEnd) (err error) {
			for doc, failed := range loop(ctx) {
				if err = failed; !yield(doc, err) {
					break
				}
			}
			return err
		})
	}
}

// An observedCommit is a commit with observers. It is nil without them.
type observedCommit struct {
	CommitEnd
	all   []CommitObserver
	ctx   context.Context
	since time.Time
}

// beginCommit calls the observers for the beginning of a commit, and returns the context to
// commit with.
func (p *postgres) beginCommit(ctx context.Context, ids func() []string) (context.Context, *observedCommit) {
	all := p.options.observers.commit
	if all == nil {
		return ctx, nil
	}
	c := &observedCommit{all: all, since: time.Now()}
	c.CommitStart, c.Err = CommitStart{p.options.Table.Name, ids()}, errPanicked
	for _, each := range all {
		ctx = each.CommitStart(ctx, c.CommitStart)
	}
	c.ctx = ctx
	return ctx, c
}

// is notes the outcome of a commit, for end.
func (c *observedCommit) is(writes int, err error) {
	if c != nil {
		c.Writes, c.Took, c.Err = writes, time.Since(c.since), err
	}
}

// carried gives a write the context of its commit.
func (c *observedCommit) carried(w *write) {
	if c != nil {
		w.commit = c.ctx
	}
}

// end calls the observers for the end of a commit.
func (c *observedCommit) end() {
	if c == nil {
		return
	}
	if c.Err == errPanicked {
		c.Took = time.Since(c.since)
	}
	for _, each := range c.all {
		each.CommitEnd(c.ctx, c.CommitEnd)
	}
}
