package locktest

import (
	"context"
	"sync"
)

// Arriving returns a context that reports when its Done is first called. By then a Lock called
// with it is in the wait queue, so a test knows without sleeping that it waits.
func Arriving(ctx context.Context) *ArrivingContext {
	return &ArrivingContext{Context: ctx, arrived: make(chan struct{})}
}

// ArrivingContext is the context that [Arriving] returns.
type ArrivingContext struct {
	context.Context
	once    sync.Once
	arrived chan struct{}
}

// Arrived returns a channel that is closed when Done is first called.
func (a *ArrivingContext) Arrived() <-chan struct{} { return a.arrived }

// Done returns the Done channel of the context given to Arriving.
func (a *ArrivingContext) Done() <-chan struct{} {
	a.once.Do(func() { close(a.arrived) })
	return a.Context.Done()
}
