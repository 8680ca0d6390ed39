package metadata

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"example.com/lockstore/lock"
)

// A planned panic is of the host's making.
type planned string

// foreign is where the host's code runs, which takes long, or panics.
func (w *world) foreign(o *op, where string) {
	if w.Chance(w.panics) {
		w.strange.Store(true)
		w.Tell("panic: %s", where)
		panic(planned(where))
	}
	if o != nil {
		o.busy.Add(1)
		defer o.busy.Add(-1)
	}
	w.Yield(where)
}

// hooks is foreign for the store's statements; a host's own are no concern of ours.
func (w *world) hooks(o *op, where string) {
	if o != nil {
		w.foreign(o, where)
	}
}

// principal tells whose rights a call has.
func (p *process) principal(ctx context.Context) string {
	o := opOf(ctx)
	p.foreign(o, "principal")
	return o.rights
}

// polls is a policy that looks again soon.
type polls struct{ p *process }

func (p polls) Delay(int, time.Duration) (time.Duration, bool) {
	p.p.yielding.Add(1)
	defer p.p.yielding.Add(-1)
	p.p.foreign(nil, "policy")
	return p.p.about(time.Duration(1+p.p.N(8)) * time.Millisecond), true
}

// seen is what a process's observer has been told.
type seen struct {
	made, failed, unknown, conflicts, rejected, busy atomic.Int64
	commits, decided, largest                        atomic.Int64
	begun, ended                                     atomic.Int64
	torn                                             atomic.Bool // a MergeMany has panicked
}

func (s *seen) wrote(err error) {
	for reason, count := range map[error]*atomic.Int64{
		ErrUnknownOutcome: &s.unknown, ErrConflict: &s.conflicts, ErrRejected: &s.rejected, lock.ErrBusy: &s.busy,
	} {
		if errors.Is(err, reason) {
			count.Add(1)
		}
	}
	if err == nil {
		s.made.Add(1)
	} else {
		s.failed.Add(1)
	}
}

type observer struct{ p *process }

// begun is what an observer has the context of an operation or commit carry.
type begun struct{ ended atomic.Bool }

type begunKey struct{ operation bool }

func (o observer) begin(ctx context.Context, operation bool) context.Context {
	o.p.seen.begun.Add(1)
	o.p.foreign(opOf(ctx), "begins")
	return context.WithValue(ctx, begunKey{operation}, new(begun))
}

func (o observer) end(ctx context.Context, operation bool) {
	o.p.seen.ended.Add(1)
	if b, _ := ctx.Value(begunKey{operation}).(*begun); b == nil || b.ended.Swap(true) {
		o.p.Problem("STATS", "an observer is told of an end that has not begun, or for the second time: %v", opOf(ctx))
	}
}

func (o observer) OperationStart(ctx context.Context, _ OperationStart) context.Context {
	return o.begin(ctx, true)
}

func (o observer) OperationEnd(ctx context.Context, e OperationEnd) {
	o.end(ctx, true)
	if op := opOf(ctx); op != nil {
		op.observed++
	}
	switch e.Name {
	case "MergeMany":
		if e.Err == errPanicked {
			o.p.seen.torn.Store(true)
			break
		}
		for i := range e.IDs {
			if e.Errs == nil {
				o.p.seen.wrote(nil)
			} else {
				o.p.seen.wrote(e.Errs[i])
			}
		}
	case "Merge", "Update", "Replace", "Delete":
		if e.Err != errPanicked { // which counts as nothing
			o.p.seen.wrote(e.Err)
		}
		switch op := opOf(ctx); {
		case e.Commit != nil && e.Commit.Value(begunKey{}) == nil:
			o.p.Problem("STATS", "%v: its commit has not begun", op)
		case e.Commit == nil && e.Err == nil && op.host == nil:
			o.p.Problem("STATS", "%v: no commit has carried it", op)
		}
	}
	o.p.foreign(opOf(ctx), "operation ends")
}

func (o observer) CommitStart(ctx context.Context, _ CommitStart) context.Context {
	o.p.yielding.Add(1) // those that the commit takes along wait for it, as for a tracer
	defer o.p.yielding.Add(-1)
	return o.begin(ctx, false)
}

func (o observer) CommitEnd(ctx context.Context, e CommitEnd) {
	o.end(ctx, false)
	if e.Writes > 0 {
		o.p.seen.commits.Add(1)
	}
	o.p.seen.decided.Add(int64(e.Writes))
	o.p.seen.largest.Store(max(o.p.seen.largest.Load(), int64(e.Writes)))
	o.p.foreign(opOf(ctx), "commit ends")
}

// A logger is the host's.
type logger struct{ p *process }

func (l logger) Enabled(context.Context, slog.Level) bool { return true }
func (l logger) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l logger) WithGroup(string) slog.Handler            { return l }

func (l logger) Handle(ctx context.Context, _ slog.Record) error {
	l.p.foreign(opOf(ctx), "logger")
	return nil
}

// describe is whom the host asks who holds a lock.
func (p *process) describe(ctx context.Context, _ lock.Key) (lock.Status, error) {
	p.foreign(opOf(ctx), "describe")
	return lock.Status{}, errors.New("nobody knows")
}
