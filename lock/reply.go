package lock

import "context"

// A reply carries the answer to one operation to the goroutine that waits for it.
type reply struct {
	done  chan struct{} // of capacity 1, so that settle does not block
	value int64
	err   error
}

func newReply() *reply { return &reply{done: make(chan struct{}, 1)} }

// settled returns a reply that has been settled.
func settled(value int64, err error) *reply {
	r := newReply()
	r.settle(value, err)
	return r
}

// settle answers. It does nothing if r is nil.
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
