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

func (o observer) Wrote(ctx context.Context, _ string, _ time.Duration, err error) {
	o.p.seen.wrote(err)
	if op := opOf(ctx); op != nil {
		op.observed++
	}
	o.p.foreign(opOf(ctx), "wrote")
}

func (o observer) Committed(ctx context.Context, _ string, writes int, _ time.Duration, _ error) {
	o.p.seen.commits.Add(1)
	o.p.seen.decided.Add(int64(writes))
	o.p.seen.largest.Store(max(o.p.seen.largest.Load(), int64(writes)))
	o.p.foreign(opOf(ctx), "committed")
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
