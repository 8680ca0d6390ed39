package lock

import (
	"context"
	"time"
)

// A simObserver is foreign code: it takes long, or panics, now and then.
type simObserver struct {
	p                  *process
	acquired, released int64 // guarded by world.mu
}

// Acquired implements [Observer].
func (o *simObserver) Acquired(context.Context, Key, time.Duration, error) {
	o.p.w.mu.Lock()
	o.acquired++
	o.p.w.mu.Unlock()
	o.misbehave()
}

// Released implements [Observer].
func (o *simObserver) Released(Key, time.Duration, error) {
	o.p.w.mu.Lock()
	o.released++
	o.p.w.mu.Unlock()
	o.misbehave()
}

func (o *simObserver) misbehave() {
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

// panicked notes that foreign code has panicked on a caller.
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
