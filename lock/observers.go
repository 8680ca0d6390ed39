package lock

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// This file notifies observers. Without observers that costs a comparison.

// observers are those of a Locker, by what they are notified of.
type observers struct {
	acquire []AcquireObserver
	hold    []HoldObserver
	connect []ConnectObserver
	session []SessionObserver
	batch   []BatchObserver
	logger  *slog.Logger
}

func newObservers(all []Observer, logger *slog.Logger) observers {
	return observers{
		acquire: implementing[AcquireObserver](all),
		hold:    implementing[HoldObserver](all),
		connect: implementing[ConnectObserver](all),
		session: implementing[SessionObserver](all),
		batch:   implementing[BatchObserver](all),
		logger:  logger,
	}
}

// observable refuses observers that have none of the methods.
func observable(all []Observer) error {
	for _, o := range all {
		switch o.(type) {
		case AcquireObserver, HoldObserver, ConnectObserver, SessionObserver, BatchObserver:
		default:
			return fmt.Errorf("lock: %T has the methods of no Observer", o)
		}
	}
	return nil
}

func implementing[O any](all []Observer) (some []O) {
	for _, o := range all {
		if o, ok := o.(O); ok {
			some = append(some, o)
		}
	}
	return some
}

// tell calls an observer about something that is no caller's own call. It logs a panic.
func (o *observers) tell(of func()) {
	defer func() {
		if p := recover(); p != nil {
			o.logger.Error("lock: an observer panicked", "panic", p)
		}
	}()
	of()
}

// observe notifies observers of a call that asks for a lock, and of the hold that it gets. If
// an observer panics, the lock is released.
func (t *keyTable) observe(ctx context.Context, a AcquireStart, acquire func(context.Context, time.Time) (*Held, error)) (held *Held, err error) {
	since, wait := time.Now(), ctx
	for _, o := range t.observers.acquire {
		wait = o.AcquireStart(wait, a)
	}
	ended, whole := false, false
	end := func(err error) {
		ended = true
		e := AcquireEnd{a, time.Since(since), err}
		for _, o := range t.observers.acquire {
			o.AcquireEnd(wait, e)
		}
	}
	defer func() {
		if !whole && held != nil {
			_ = held.Unlock() // the panic goes on
		}
		if !ended {
			end(errPanicked)
		}
	}()
	held, err = acquire(wait, since)
	t.countBusy(err)
	end(err)
	raise(err)
	if held != nil {
		held.hold.(*hold).observe(ctx, held.shared)
	}
	whole = true
	return held, err
}

// observe notifies observers that a hold begins.
func (h *hold) observe(ctx context.Context, shared bool) {
	all := h.table.observers.hold
	start, since := HoldStart{h.keys, shared}, time.Now()
	for _, o := range all {
		ctx = o.HoldStart(ctx, start)
	}
	h.values = ctx
	h.notifyEnd = func(until time.Time, err error) {
		for _, o := range all {
			o.HoldEnd(ctx, HoldEnd{start, max(0, until.Sub(since)), err})
		}
	}
}

// connect opens the session for locks, or one to wait on.
func (p *Postgres) connect(ctx context.Context, isWaitConn bool) (*session, error) {
	o, since, start := &p.table.observers, time.Now(), ConnectStart{isWaitConn}
	for _, each := range o.connect {
		o.tell(func() { ctx = each.ConnectStart(ctx, start) })
	}
	brief, cancel := context.WithTimeout(ctx, p.opts.ConnectTimeout)
	defer cancel()
	s, err := p.open(brief, p, isWaitConn)
	end := ConnectEnd{ConnectStart: start, Took: time.Since(since), Err: err}
	if s != nil {
		s.observers, end.Backend = o, s.backend
	}
	for _, each := range o.connect {
		o.tell(func() { each.ConnectEnd(ctx, end) })
	}
	return s, err
}

// serve serves a session until it has ended.
func (p *Postgres) serve(s *session) {
	o, since, start, ctx := &p.table.observers, time.Now(), SessionStart{s.backend, s.isWaitConn}, p.life
	for _, each := range o.session {
		o.tell(func() { ctx = each.SessionStart(ctx, start) })
	}
	s.serve()
	end := SessionEnd{start, time.Since(since), s.lost, s.fault()}
	for _, each := range o.session {
		o.tell(func() { each.SessionEnd(ctx, end) })
	}
}

// An observedBatch is a batch of which observers are notified; nil: there are none.
type observedBatch struct {
	BatchStart
	observers *observers
	ctx       context.Context
}

// hasObservers reports whether batches are observed.
func (s *session) hasObservers() bool { return s.observers != nil && s.observers.batch != nil }

// observe returns the observedBatch of a batch of so many operations.
func (s *session) observe(operations int) *observedBatch {
	if !s.hasObservers() {
		return nil
	}
	return &observedBatch{BatchStart{s.backend, s.isWaitConn, operations}, s.observers, context.Background()}
}

func (b *observedBatch) begin() {
	if b == nil {
		return
	}
	for _, each := range b.observers.batch {
		b.observers.tell(func() { b.ctx = each.BatchStart(b.ctx, b.BatchStart) })
	}
}

func (b *observedBatch) end(took time.Duration, err error) {
	if b == nil {
		return
	}
	for _, each := range b.observers.batch {
		b.observers.tell(func() { each.BatchEnd(b.ctx, BatchEnd{b.BatchStart, took, err}) })
	}
}
