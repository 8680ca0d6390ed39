package lock

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"
)

// A claim is one caller's way to a key and back. It waits, then it holds,
// then it has ended; or it ends while it waits.
type claim struct {
	queue *queue
	key   Key
	mode  mode
	try   bool      // ends rather than waits for another holder
	since time.Time // when its caller asked

	decided chan struct{}           // closed when it no longer waits
	cancel  context.CancelCauseFunc // of the Held's context
	dropped runtime.Cleanup         // of a Held that nobody unlocked

	// Settled when decided is closed.
	granted bool
	session *session // that holds the key; nil in a Memory

	// Guarded by queue.mu; err may be read without it once the claim has been
	// decided and not granted.
	state    claimState
	err      error // why it ended, unless by Unlock
	entry    *entry
	place    *list.Element // in entry.line while waiting, in entry.holders while holding
	attempts int           // how often the server was asked for it
	trouble  error         // why the server did not answer last time

	unlocking sync.Once
	unlocked  error
}

type claimState uint8

const (
	waiting claimState = iota
	holding
	ended
)

// acquire enters a claim and waits until it is decided or ctx ends.
func (q *queue) acquire(ctx context.Context, key Key, m mode, try bool) (*Held, error) {
	if err := key.Err(); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("lock: %s: %w", key, causeOf(ctx))
	}
	own, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	c := &claim{
		queue: q, key: key, mode: m, try: try, since: time.Now(),
		decided: make(chan struct{}), cancel: cancel,
	}
	q.enter(c)
	select {
	case <-c.decided:
	case <-ctx.Done():
		q.withdraw(c, causeOf(ctx))
	}
	if !c.granted {
		cancel(c.err)
		return nil, c.err
	}
	h := newHeld(own, c, m == shared, []Key{key})
	c.dropped = runtime.AddCleanup(h, func(c *claim) { go c.Unlock() }, c)
	return h, nil
}

// become is the claim's next state, and why.
func (c *claim) become(s claimState, err error) {
	before := c.state
	c.state, c.err = s, err
	if before == waiting {
		c.granted = s == holding
		close(c.decided)
	}
}

// busy is the error of a claim that did not get its key.
func (c *claim) busy(cause error) error {
	if c.trouble != nil {
		return fmt.Errorf("lock: %s: %w", c.key, errors.Join(c.trouble, cause))
	}
	return &BusyError{Key: c.key, Waited: time.Since(c.since), Attempts: c.attempts, Cause: cause}
}

// Unlock is [Held.Unlock].
func (c *claim) Unlock() error {
	c.unlocking.Do(func() {
		c.dropped.Stop()
		c.cancel(ErrReleased)
		r, err := c.queue.leave(c)
		if err == nil && r != nil {
			_, err = r.wait(context.Background())
		}
		c.unlocked = err
	})
	return c.unlocked
}

// Fence is [Held.Fence].
func (c *claim) Fence(ctx context.Context) (int64, error) {
	q := c.queue
	q.mu.Lock()
	if c.state != holding {
		defer q.mu.Unlock()
		return 0, c.over()
	}
	r := q.server.fence(c)
	q.unlock()
	fence, err := r.wait(ctx)
	if err != nil {
		return 0, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if c.state != holding { // so the number may be that of the next tenure
		return 0, c.over()
	}
	return fence, nil
}

// over is why a claim holds no longer.
func (c *claim) over() error {
	if c.err == nil {
		return ErrReleased
	}
	return c.err
}

// Backend is [Held.Backend].
func (c *claim) Backend() (Backend, bool) {
	if c.session == nil {
		return Backend{}, false
	}
	return c.session.backend, true
}

// causeOf is why ctx ended: an error that matches ctx.Err() and its cause.
func causeOf(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) {
		return cause
	}
	return errors.Join(err, cause)
}
