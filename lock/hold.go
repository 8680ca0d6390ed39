package lock

import (
	"context"
	"runtime"
	"time"
)

// A hold is the implementation of a [Held]: the requests that were granted together, until
// they are unlocked together.
type hold struct {
	table    *keyTable
	values   context.Context // given to Lock
	requests []*request
	any      bool            // one of its requests is to be granted, and is then the only one: see acquireAny
	keys     []Key           // of requests
	dropped  runtime.Cleanup // for a Held that was not unlocked

	notifyEnd func(until time.Time, err error) // notifies observers of the end; nil: there are none

	// The memory of requests and of the Held's keys, if there is but one.
	one request
	few [1]*request
	key [1]Key

	// Protected by table.mu.
	own      context.Context // made on first use
	cancel   context.CancelCauseFunc
	writes   int           // number of writes under way: see Held.Writing
	until    time.Time     // when it was lost, or unlocked, if an observer wants to know
	ending   bool          // Unlock was called
	ended    bool          // Unlock has returned
	unlocked error         // what it returned
	awaited  chan struct{} // closed when Unlock has ended, if it was called again meanwhile
}

var (
	_ Hold        = (*hold)(nil)
	_ writingHold = (*hold)(nil)
)

// begin returns a Held of the hold, whose requests have been granted.
func (h *hold) begin(m mode) *Held {
	held := &Held{keys: h.keys, shared: m == shared, hold: h}
	h.dropped = runtime.AddCleanup(held, (*hold).drop, h)
	return held
}

// context returns the context of a Held, without the Held: the session refers to it, and must
// not keep alive a Held that was dropped.
func (h *hold) context() context.Context {
	h.table.mu.Lock()
	defer h.table.mu.Unlock()
	if h.own == nil {
		h.own, h.cancel = context.WithCancelCause(context.WithoutCancel(h.values))
		if why := h.endErr(); why != nil {
			h.cancel(why)
		}
	}
	return h.own
}

// Unlock implements [Held.Unlock].
func (h *hold) Unlock() error {
	t := h.table
	t.mu.Lock()
	if h.ending {
		return h.unlockedBefore()
	}
	h.ending = true
	if h.notifyEnd != nil && h.until.IsZero() {
		h.until = time.Now()
	}
	if h.cancel != nil {
		h.cancel(ErrReleased)
	}
	t.mu.Unlock()
	h.dropped.Stop()
	err := t.release(h.requests)
	t.mu.Lock()
	h.unlocked, h.ended = err, true
	if h.awaited != nil {
		close(h.awaited)
	}
	t.mu.Unlock()
	if h.notifyEnd != nil {
		h.notifyEnd(h.until, err)
	}
	return err
}

// unlockedBefore returns what the first call of Unlock returned. Its caller holds table.mu,
// which it unlocks.
func (h *hold) unlockedBefore() error {
	if !h.ended && h.awaited == nil {
		h.awaited = make(chan struct{})
	}
	ended, awaited := h.ended, h.awaited
	h.table.mu.Unlock()
	if !ended {
		<-awaited
	}
	return h.unlocked
}

// drop unlocks a Held that was dropped without Unlock. It runs on the goroutine of all
// cleanups, and must not block it.
func (h *hold) drop() {
	h.table.logger.Error("lock: a Held was dropped without Unlock", "key", h.requests[0].key.String())
	go h.table.observers.tell(func() { h.Unlock() })
}

// release ends the holds of requests, and waits for the server to confirm it.
func (t *keyTable) release(requests []*request) error {
	var failed error
	t.mu.Lock()
	for _, r := range requests {
		failed = first(failed, t.leave(r))
	}
	t.unlock()
	for _, r := range requests {
		if r.unlock.done != nil {
			<-r.unlock.done // bounded by the session
			failed = first(failed, r.unlock.err)
		}
	}
	return failed
}

// first returns the first error that is not nil: a lost session gives the same one for each of
// its locks.
func first(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// Fence implements [Held.Fence]. Several sessions may hold keys that were taken together. The
// smallest of their numbers is valid for all keys: each is greater than any given before, and
// smaller than any to come for its own keys.
func (h *hold) Fence(ctx context.Context) (int64, error) {
	t := h.table
	asked := make(map[*session]*reply)
	t.mu.Lock()
	err := h.endErr()
	for _, r := range h.requests {
		if err == nil && asked[r.session] == nil {
			asked[r.session] = t.server.fence(r)
		}
	}
	t.unlock()
	if err != nil {
		return 0, err
	}
	fence := int64(-1)
	for s, r := range asked {
		value, err := r.wait(ctx)
		if err == nil && value < 0 {
			value = -value
			err = t.server.confirm(ctx, s)
		}
		if err != nil {
			return 0, err
		}
		if fence < 0 || value < fence {
			fence = value
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return fence, h.endErr() // in which case the number may be another holder's
}

// Writing implements [Held.Writing].
func (h *hold) Writing() (done func(), err error) {
	t := h.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := h.endErr(); err != nil {
		return nil, err
	}
	h.writes++
	ended := false
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if !ended {
			ended = true
			h.writes--
		}
	}, nil
}

// endErr returns why the hold has ended, or nil.
func (h *hold) endErr() error {
	for _, r := range h.requests {
		if r.state != holding {
			return r.endErr()
		}
	}
	if h.ending {
		return ErrReleased
	}
	return nil
}

// Backend implements [Held.Backend].
func (h *hold) Backend(key Key) (Backend, bool) {
	for _, r := range h.requests {
		if r.key.id == key.id && r.session != nil {
			return r.session.backend, true
		}
	}
	return Backend{}, false
}
