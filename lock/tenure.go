package lock

import (
	"context"
	"runtime"
	"time"
)

// A tenure is what stands behind a [Held]: the claims that were granted
// together, until they are unlocked together.
type tenure struct {
	queue   *queue
	values  context.Context // given to Lock
	claims  []*claim
	any     bool            // of its claims one is to be granted, and is then all there is of claims: see claimAny
	keys    []Key           // of claims
	dropped runtime.Cleanup // of a Held that nobody unlocked

	told func(until time.Time, err error) // tells observers of the hold's end; nil: nobody

	// The memory of claims and of the Held's keys, where there is but one.
	one claim
	few [1]*claim
	key [1]Key

	// Guarded by queue.mu.
	own      context.Context // made when it is first asked for
	cancel   context.CancelCauseFunc
	writes   int           // see Held.Writing
	until    time.Time     // when it was lost, or is unlocked where an observer wants to know it
	ending   bool          // by Unlock
	ended    bool          // by Unlock, which returned unlocked
	unlocked error         //
	awaited  chan struct{} // for Unlock to have ended, where somebody unlocks again meanwhile
}

var (
	_ Tenure        = (*tenure)(nil)
	_ writingTenure = (*tenure)(nil)
)

// begin makes a Held of the tenure, whose claims have been granted.
func (t *tenure) begin(m mode) *Held {
	h := &Held{keys: t.keys, shared: m == shared, tenure: t}
	t.dropped = runtime.AddCleanup(h, (*tenure).drop, t)
	return h
}

// context is that of a Held, without the Held: the session keeps hold of it,
// and a Held that was dropped must not be kept.
func (t *tenure) context() context.Context {
	t.queue.mu.Lock()
	defer t.queue.mu.Unlock()
	if t.own == nil {
		t.own, t.cancel = context.WithCancelCause(context.WithoutCancel(t.values))
		if why := t.over(); why != nil {
			t.cancel(why)
		}
	}
	return t.own
}

// Unlock is [Held.Unlock].
func (t *tenure) Unlock() error {
	q := t.queue
	q.mu.Lock()
	if t.ending {
		return t.unlockedBefore()
	}
	t.ending = true
	if t.told != nil && t.until.IsZero() {
		t.until = time.Now()
	}
	if t.cancel != nil {
		t.cancel(ErrReleased)
	}
	q.mu.Unlock()
	t.dropped.Stop()
	err := q.release(t.claims)
	q.mu.Lock()
	t.unlocked, t.ended = err, true
	if t.awaited != nil {
		close(t.awaited)
	}
	q.mu.Unlock()
	if t.told != nil {
		t.told(t.until, err)
	}
	return err
}

// unlockedBefore returns what the first call of Unlock returned. Its caller has
// queue.mu, which it unlocks.
func (t *tenure) unlockedBefore() error {
	if !t.ended && t.awaited == nil {
		t.awaited = make(chan struct{})
	}
	ended, awaited := t.ended, t.awaited
	t.queue.mu.Unlock()
	if !ended {
		<-awaited
	}
	return t.unlocked
}

// drop unlocks what its owner forgot. It runs on the goroutine of all
// cleanups, and must not keep that waiting.
func (t *tenure) drop() {
	t.queue.logger.Error("lock: a Held was dropped without Unlock", "key", t.claims[0].key.String())
	go t.queue.observers.tell(func() { t.Unlock() })
}

// release ends the tenures of claims, and waits for the server to confirm it.
func (q *queue) release(claims []*claim) error {
	var failed error
	q.mu.Lock()
	for _, c := range claims {
		failed = first(failed, q.leave(c))
	}
	q.unlock()
	for _, c := range claims {
		if c.unlock.done != nil {
			<-c.unlock.done // which the session bounds
			failed = first(failed, c.unlock.err)
		}
	}
	return failed
}

// first is the first error, if there is one: a session that is lost says the
// same of each of its locks.
func first(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// Fence is [Held.Fence]. Keys that were taken together can be held by several
// sessions; the smallest of their numbers is one for all of them, since each
// is greater than any given before, and smaller than any to come for its own
// keys.
func (t *tenure) Fence(ctx context.Context) (int64, error) {
	q := t.queue
	asked := make(map[*session]*reply)
	q.mu.Lock()
	err := t.over()
	for _, c := range t.claims {
		if err == nil && asked[c.session] == nil {
			asked[c.session] = q.server.fence(c)
		}
	}
	q.unlock()
	if err != nil {
		return 0, err
	}
	fence := int64(-1)
	for s, r := range asked {
		value, err := r.wait(ctx)
		if err == nil && value < 0 {
			value = -value
			err = q.server.confirm(ctx, s)
		}
		if err != nil {
			return 0, err
		}
		if fence < 0 || value < fence {
			fence = value
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return fence, t.over() // in which case the number may be another's
}

// Writing is [Held.Writing].
func (t *tenure) Writing() (done func(), err error) {
	q := t.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := t.over(); err != nil {
		return nil, err
	}
	t.writes++
	ended := false
	return func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if !ended {
			ended = true
			t.writes--
		}
	}, nil
}

// over is why the tenure has ended, or nil.
func (t *tenure) over() error {
	for _, c := range t.claims {
		if c.state != holding {
			return c.over()
		}
	}
	if t.ending {
		return ErrReleased
	}
	return nil
}

// Backend is [Held.Backend].
func (t *tenure) Backend(key Key) (Backend, bool) {
	for _, c := range t.claims {
		if c.key.id == key.id && c.session != nil {
			return c.session.backend, true
		}
	}
	return Backend{}, false
}
