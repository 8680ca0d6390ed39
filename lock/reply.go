package lock

import "context"

// A reply is the answer to one request, on its way to the one who waits for it.
type reply struct {
	done  chan struct{} // of capacity 1: who settles it does not wait
	value int64
	err   error
}

func newReply() *reply { return &reply{done: make(chan struct{}, 1)} }

// settled is the reply to a request that was answered at once.
func settled(value int64, err error) *reply {
	r := newReply()
	r.settle(value, err)
	return r
}

// settle answers; it does nothing if nobody waits.
func (r *reply) settle(value int64, err error) {
	if r != nil {
		r.value, r.err = value, err
		r.done <- struct{}{}
	}
}

// wait blocks until the answer is there or ctx ends.
func (r *reply) wait(ctx context.Context) (int64, error) {
	select {
	case <-r.done:
		return r.value, r.err
	case <-ctx.Done():
		return 0, causeOf(ctx)
	}
}
