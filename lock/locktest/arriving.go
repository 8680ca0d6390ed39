package locktest

import (
	"context"
	"sync"
)

// Arriving returns a context that tells when its Done is first asked for. A
// Lock called with it has taken its place in line by then, so that a test
// knows without sleeping that it waits.
func Arriving(ctx context.Context) *ArrivingContext {
	return &ArrivingContext{Context: ctx, arrived: make(chan struct{})}
}

// ArrivingContext is what [Arriving] returns.
type ArrivingContext struct {
	context.Context
	once    sync.Once
	arrived chan struct{}
}

// Arrived is closed when Done has been asked for.
func (a *ArrivingContext) Arrived() <-chan struct{} { return a.arrived }

// Done is that of [context.Context].
func (a *ArrivingContext) Done() <-chan struct{} {
	a.once.Do(func() { close(a.arrived) })
	return a.Context.Done()
}
