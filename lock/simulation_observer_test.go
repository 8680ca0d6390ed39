package lock

import "context"

// A simObserver is foreign code: it takes long, or panics, now and then.
type simObserver struct {
	p *process

	// Protected by world.mu.
	calls, holds, connects, batches begun
}

// begun counts what has begun, and what of that has ended.
type begun struct{ begun, ended int64 }

func (b *begun) open() int64 { return b.begun - b.ended }

// An observedContext is the context of something that has begun.
type observedContext struct {
	context.Context
	of *begun
}

func (o *simObserver) begin(ctx context.Context, b *begun) context.Context {
	o.p.w.mu.Lock()
	b.begun++
	o.p.w.mu.Unlock()
	o.misbehave(b)
	return observedContext{ctx, b}
}

func (o *simObserver) end(ctx context.Context, b *begun) {
	o.p.w.mu.Lock()
	b.ended++
	if own, ok := ctx.(observedContext); !o.p.w.panics && (!ok || own.of != b) {
		o.p.w.Problem("STATS", "%s: an observer was told of an end with another context: %v", o.p, ctx)
	}
	o.p.w.mu.Unlock()
	o.misbehave(b)
}

func (o *simObserver) AcquireStart(ctx context.Context, _ AcquireStart) context.Context {
	return o.begin(ctx, &o.calls)
}
func (o *simObserver) AcquireEnd(ctx context.Context, _ AcquireEnd) { o.end(ctx, &o.calls) }

func (o *simObserver) HoldStart(ctx context.Context, _ HoldStart) context.Context {
	return o.begin(ctx, &o.holds)
}
func (o *simObserver) HoldEnd(ctx context.Context, _ HoldEnd) { o.end(ctx, &o.holds) }

func (o *simObserver) ConnectStart(ctx context.Context, _ ConnectStart) context.Context {
	return o.begin(ctx, &o.connects)
}
func (o *simObserver) ConnectEnd(ctx context.Context, _ ConnectEnd) { o.end(ctx, &o.connects) }

func (o *simObserver) BatchStart(ctx context.Context, _ BatchStart) context.Context {
	return o.begin(ctx, &o.batches)
}
func (o *simObserver) BatchEnd(ctx context.Context, _ BatchEnd) { o.end(ctx, &o.batches) }

func (o *simObserver) misbehave(b *begun) {
	if b == &o.connects { // the world waits for it
		return
	}
	o.p.w.Yield("an observer")
	o.p.w.foreignCode()
}

// foreignPanic is what foreign code panics with.
type foreignPanic struct{}

// foreignCode panics now and then.
func (w *world) foreignCode() {
	if w.panics && w.Chance(30) {
		w.Tell("foreign code panics")
		panic(foreignPanic{})
	}
}

// panicked notes that foreign code has panicked on a caller's goroutine.
func (c *call) panicked(r any) {
	if _, foreign := r.(foreignPanic); !foreign {
		panic(r)
	}
	w := c.process.w
	w.Tell("%s: panics", c)
	w.mu.Lock()
	defer w.mu.Unlock()
	c.process.outcomes.panics++
}
