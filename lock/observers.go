package lock

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// What follows is how observers are told. Where there are none, that costs a look.

// observers are those of a Locker, by what they are told.
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

// observable refuses what is an observer of nothing.
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

// tell calls an observer that nobody's call is about.
func (o *observers) tell(of func()) {
	defer func() {
		if p := recover(); p != nil {
			o.logger.Error("lock: an observer panicked", "panic", p)
		}
	}()
	of()
}

// observe has a call that asks for a lock known, and the hold that it has got. If an
// observer panics, nobody gets that.
func (q *queue) observe(ctx context.Context, a AcquireStart, claim func(context.Context, time.Time) (*Held, error)) (held *Held, err error) {
	since, wait := time.Now(), ctx
	for _, o := range q.observers.acquire {
		wait = o.AcquireStart(wait, a)
	}
	ended, whole := false, false
	end := func(err error) {
		ended = true
		e := AcquireEnd{a, time.Since(since), err}
		for _, o := range q.observers.acquire {
			o.AcquireEnd(wait, e)
		}
	}
	defer func() {
		if !whole && held != nil {
			_ = held.Unlock() // the panic says enough
		}
		if !ended {
			end(errPanicked)
		}
	}()
	held, err = claim(wait, since)
	end(err)
	raise(err)
	if held != nil {
		held.tenure.(*tenure).observe(ctx, held.shared)
	}
	whole = true
	return held, err
}

// observe has the hold of a tenure begin, for observers.
func (t *tenure) observe(ctx context.Context, shared bool) {
	all := t.queue.observers.hold
	h, since := HoldStart{t.keys, shared}, time.Now()
	for _, o := range all {
		ctx = o.HoldStart(ctx, h)
	}
	t.values = ctx
	t.told = func(until time.Time, err error) {
		for _, o := range all {
			o.HoldEnd(ctx, HoldEnd{h, max(0, until.Sub(since)), err})
		}
	}
}

// connect makes the session, or a spare one.
func (p *Postgres) connect(ctx context.Context, spare bool) (*session, error) {
	o, since, start := &p.queue.observers, time.Now(), ConnectStart{spare}
	for _, each := range o.connect {
		o.tell(func() { ctx = each.ConnectStart(ctx, start) })
	}
	brief, cancel := context.WithTimeout(ctx, p.opts.ConnectTimeout)
	defer cancel()
	s, err := p.open(brief, p, spare)
	end := ConnectEnd{ConnectStart: start, Took: time.Since(since), Err: err}
	if s != nil {
		s.observers, end.Backend = o, s.backend
	}
	for _, each := range o.connect {
		o.tell(func() { each.ConnectEnd(ctx, end) })
	}
	return s, err
}

// serve serves a session until that has ended.
func (p *Postgres) serve(s *session) {
	o, since, start, ctx := &p.queue.observers, time.Now(), SessionStart{s.backend, s.spare}, p.life
	for _, each := range o.session {
		o.tell(func() { ctx = each.SessionStart(ctx, start) })
	}
	s.serve()
	end := SessionEnd{start, time.Since(since), s.lost, s.fault()}
	for _, each := range o.session {
		o.tell(func() { each.SessionEnd(ctx, end) })
	}
}

// An observedBatch is a batch that observers are told of; nil: they are not.
type observedBatch struct {
	BatchStart
	observers *observers
	ctx       context.Context
}

// hasObservers reports whether batches are observed.
func (s *session) hasObservers() bool { return s.observers != nil && s.observers.batch != nil }

// observe is for a batch of so many operations.
func (s *session) observe(operations int) *observedBatch {
	if !s.hasObservers() {
		return nil
	}
	return &observedBatch{BatchStart{s.backend, s.spare, operations}, s.observers, context.Background()}
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
