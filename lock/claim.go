package lock

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A claim is one caller's way to one key and back. It waits, then it holds,
// then it has ended; or it ends while it waits.
type claim struct {
	key   Key
	mode  mode
	try   bool      // ends rather than waits for another holder
	since time.Time // when its caller asked

	tenure  *tenure       // that it is part of, once granted
	decided chan struct{} // closed when it no longer waits

	// Settled when decided is closed.
	granted bool
	session *session // that holds the key; nil in a Memory

	// Guarded by queue.mu; err may be read without it once the claim has been
	// decided and not granted.
	state    claimState
	err      error // why it ended, unless by Unlock
	entry    *entry
	place    *list.Element // in entry.line, while waiting
	slot     int           // in entry.holders, while holding
	attempts int           // how often the server was asked for it
	trouble  error         // why the server did not answer last time
}

type claimState uint8

const (
	waiting claimState = iota
	holding
	ended
)

func newClaim(key Key, m mode, try bool, t *tenure) *claim {
	return &claim{key: key, mode: m, try: try, since: time.Now(), tenure: t, decided: make(chan struct{})}
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

// over is why a claim holds no longer.
func (c *claim) over() error {
	if c.err == nil {
		return ErrReleased
	}
	return c.err
}

// busy is the error of a claim that did not get its key.
func (c *claim) busy(cause error) error {
	if c.trouble != nil {
		if cause != nil {
			return fmt.Errorf("lock: %s: %w (%w)", c.key, cause, c.trouble)
		}
		return fmt.Errorf("lock: %s: %w", c.key, c.trouble)
	}
	return &BusyError{Key: c.key, Waited: time.Since(c.since), Attempts: c.attempts, Cause: cause}
}

// acquire is Lock and its kin: it enters a claim and waits until that is
// decided or ctx ends.
func (q *queue) acquire(ctx context.Context, key Key, m mode, try bool) (*Held, error) {
	start := time.Now()
	held, err := q.claim(ctx, key, m, try)
	q.observe(ctx, start, err, key)
	return held, err
}

// acquireAll is LockAll.
func (q *queue) acquireAll(ctx context.Context, keys []Key) (*Held, error) {
	start := time.Now()
	held, err := q.claimAll(ctx, keys)
	q.observe(ctx, start, err, keys...)
	return held, err
}

func (q *queue) observe(ctx context.Context, start time.Time, err error, keys ...Key) {
	if q.observer != nil {
		for _, key := range keys {
			q.observer.Acquired(ctx, key, time.Since(start), err)
		}
	}
}

func (q *queue) claim(ctx context.Context, key Key, m mode, try bool) (*Held, error) {
	if err := admissible(ctx, key); err != nil {
		return nil, err
	}
	t := &tenure{queue: q, values: ctx}
	c := newClaim(key, m, try, t)
	q.enter(c)
	if err := q.await(ctx, c); err != nil {
		return nil, err
	}
	return t.begin(m, c), nil
}

// claimAll holds all of keys at once, if need be after some that it had have been
// lost while it waited for others.
func (q *queue) claimAll(ctx context.Context, keys []Key) (*Held, error) {
	for _, key := range keys {
		if err := key.Err(); err != nil {
			return nil, err
		}
	}
	keys = sortKeys(keys)
	if err := admissible(ctx, keys...); err != nil {
		return nil, err
	}
	for begun := time.Now(); ; {
		t := &tenure{queue: q, values: ctx}
		claims, err := q.claimInOrder(ctx, t, keys, begun)
		if err != nil {
			return nil, err
		}
		if !q.anyOver(claims) {
			return t.begin(alone, claims...), nil
		}
		q.dismiss(claims)
	}
}

// anyOver reports whether one of claims, which were granted, holds no longer.
func (q *queue) anyOver(claims []*claim) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.ContainsFunc(claims, func(c *claim) bool { return c.state != holding })
}

// claimInOrder enters a claim for each of the sorted keys at once. Of those
// granted it keeps the ones that lie before the first that is not, waits for that
// one, and enters the rest again: so it waits for a key only while it holds
// smaller ones, and two callers never wait for each other.
func (q *queue) claimInOrder(ctx context.Context, t *tenure, keys []Key, begun time.Time) (claims []*claim, err error) {
	claims = make([]*claim, len(keys))
	enter := func(from, to int, try bool) {
		for i, key := range keys[from:to] {
			claims[from+i] = newClaim(key, alone, try, t)
			claims[from+i].since = begun
		}
		q.enter(claims[from:to]...)
	}
	for n := 0; n < len(keys); n++ { // keys that are held
		enter(n, len(keys), true)
		for ; n < len(keys); n++ {
			if err = q.await(ctx, claims[n]); err != nil {
				break
			}
		}
		if err == nil {
			return claims, nil
		}
		q.dismiss(claims[n+1:])
		if errors.Is(err, ErrBusy) || errors.Is(err, ErrUnavailable) { // wait for it; if ctx has ended, that says so
			enter(n, n+1, false)
			err = q.await(ctx, claims[n])
		}
		if err != nil {
			q.dismiss(claims[:n])
			return nil, err
		}
	}
	return claims, nil
}

// dismiss gives up claims whose caller no longer wants them.
func (q *queue) dismiss(claims []*claim) {
	for _, c := range claims {
		q.withdraw(c, ErrReleased)
	}
	_ = q.release(claims) // what could be said has been said to the holder of the rest
}

func admissible(ctx context.Context, keys ...Key) error {
	if len(keys) == 0 {
		return fmt.Errorf("%w: none given", ErrInvalidKey)
	}
	if err := keys[0].Err(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("lock: %s: %w", keys[0], causeOf(ctx))
	}
	return nil
}

// await waits until c is decided or ctx ends; the error is why it is not
// granted.
func (q *queue) await(ctx context.Context, c *claim) error {
	select {
	case <-c.decided:
	case <-ctx.Done():
		q.withdraw(c, causeOf(ctx))
	}
	if c.granted {
		return nil
	}
	return c.err
}

// causeOf is why ctx ended: an error that matches ctx.Err() and its cause.
func causeOf(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) {
		return cause
	}
	return fmt.Errorf("%w: %w", err, cause)
}
