package lock

import "context"

// A reply is the answer to one request, on its way.
type reply struct {
	done  chan struct{}
	value int64
	err   error
}

func newReply() *reply { return &reply{done: make(chan struct{})} }

// settled is the reply to a request that was answered at once.
func settled(value int64, err error) *reply {
	r := newReply()
	r.settle(value, err)
	return r
}

func (r *reply) settle(value int64, err error) {
	r.value, r.err = value, err
	close(r.done)
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
