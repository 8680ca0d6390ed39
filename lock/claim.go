package lock

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A claim is one caller's way to one key and back. It waits, then it holds,
// then it has ended; or it ends while it waits.
type claim struct {
	key   Key
	mode  mode
	try   bool      // ends rather than waits for another holder
	since time.Time // when its caller asked

	tenure *tenure       // that it is part of, once granted
	signal chan struct{} // told when it no longer waits, and when its unlock is answered

	// Settled when it no longer waits.
	granted bool
	session *session // that holds the key; nil in a Memory

	// Guarded by queue.mu; err may be read without it once the claim has been
	// decided and not granted.
	state claimState
	err   error // why it ended, unless by Unlock
	entry *entry
	prev  *claim // in entry.line, while waiting
	next  *claim
	slot  int       // in entry.holders, while holding
	began time.Time // to hold
	patience
	asked  bool          // the server, on its behalf; its answer is on the way
	wait   time.Duration // for the next attempt, as the policy said last
	due    time.Time     // the next attempt; zero: there was none
	unlock reply         // of the server, where that was asked to unlock the key; else without done
}

type claimState uint8

const (
	waiting claimState = iota
	holding
	ended
)

func newClaim(key Key, m mode, try bool, since time.Time, p patience, t *tenure) claim {
	return claim{key: key, mode: m, try: try, since: since, patience: p, tenure: t, signal: make(chan struct{}, 1)}
}

// raise panics where a caller would have, had it asked its policy itself. Nothing is
// held by then.
func raise(err error) {
	var foreign *policyPanic
	if errors.As(err, &foreign) {
		panic(foreign.value)
	}
}

// become is the claim's next state, and why.
func (c *claim) become(s claimState, err error) {
	before := c.state
	c.state, c.err = s, err
	if before == waiting {
		if c.granted = s == holding; c.granted && c.tenure.any {
			c.tenure.claims = append(c.tenure.few[:0], c)
		}
		c.signal <- struct{}{}
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
	if c.entry != nil && c.entry.trouble != nil {
		if cause == nil {
			cause = c.entry.trouble
		} else {
			cause = fmt.Errorf("%w (%w)", cause, c.entry.trouble)
		}
	}
	return &BusyError{Key: c.key, Waited: time.Since(c.since), Attempts: c.attempts, Cause: cause}
}

// acquire is Lock and its kin: it enters a claim and waits until that is
// decided or ctx ends.
func (q *queue) acquire(ctx context.Context, key Key, m mode, try bool) (*Held, error) {
	if q.observers.acquire != nil || q.observers.hold != nil {
		a := AcquireStart{operationOf(m, try), []Key{key}}
		return q.observe(ctx, a, func(ctx context.Context, since time.Time) (*Held, error) {
			return q.claim(ctx, key, m, try, since)
		})
	}
	held, err := q.claim(ctx, key, m, try, time.Now())
	raise(err)
	return held, err
}

// acquireAll is LockAll.
func (q *queue) acquireAll(ctx context.Context, keys []Key) (*Held, error) {
	return q.observe(ctx, AcquireStart{"LockAll", keys}, func(ctx context.Context, since time.Time) (*Held, error) {
		return q.claimAll(ctx, keys, since)
	})
}

func (q *queue) claim(ctx context.Context, key Key, m mode, try bool, since time.Time) (*Held, error) {
	if err := admissible(ctx, key); err != nil {
		return nil, err
	}
	p := q.patience()
	for {
		t := &tenure{queue: q, values: ctx}
		t.keys = append(t.key[:0], key)
		own := t.inTheWay(ctx)
		if own != nil && !(own.shared && m == shared) {
			return nil, q.refuseItself(key, since)
		}
		c := &t.one
		*c = newClaim(key, m, try || own != nil, since, p, t)
		t.claims = append(t.few[:0], c)
		q.enter(t.claims...)
		err := q.await(ctx, c)
		switch {
		case err == nil:
			return t.begin(m), nil
		case own == nil || try && !errors.Is(err, ErrBusy):
			return nil, err
		case errors.Is(err, ErrBusy):
			return nil, &BusyError{Key: key, Waited: time.Since(since), Attempts: c.attempts, Cause: ErrHeld}
		case !errors.Is(err, ErrUnavailable) || ctx.Err() != nil:
			return nil, err
		}
		// Perhaps its own hold is lost, which is not known yet.
		c.attempts = max(c.attempts, p.attempts+1)
		p = c.patience
		if over := p.pause(ctx); over != nil {
			return nil, c.busy(fmt.Errorf("%w (%w)", over, err))
		}
	}
}

// claimAll claims all of keys. If one that it had is lost while it waits for
// another, it begins again.
func (q *queue) claimAll(ctx context.Context, keys []Key, since time.Time) (*Held, error) {
	for _, key := range keys {
		if err := key.Err(); err != nil {
			return nil, err
		}
	}
	keys = sortKeys(keys)
	if err := admissible(ctx, keys...); err != nil {
		return nil, err
	}
	p := q.patience()
	for {
		t := &tenure{queue: q, values: ctx, keys: keys, claims: make([]*claim, len(keys))}
		if own := t.inTheWay(ctx); own != nil {
			return nil, q.refuseItself(t.keptOutBy(own), since)
		}
		if err := q.claimInOrder(ctx, t, keys, since, &p); err != nil {
			return nil, err
		}
		q.mu.Lock()
		whole := t.over() == nil
		q.mu.Unlock()
		if whole {
			return t.begin(alone), nil
		}
		q.dismiss(t.claims)
	}
}

// claimInOrder enters the claims of t for the sorted keys all at once. Of those
// granted it keeps the ones that lie before the first that is not, waits for that
// one, and enters the rest again: so it waits for a key only while it holds
// smaller ones, and two callers never wait for each other.
func (q *queue) claimInOrder(ctx context.Context, t *tenure, keys []Key, since time.Time, p *patience) (err error) {
	claims := t.claims
	enter := func(from, to int, try bool) {
		for i := from; i < to; i++ {
			c := newClaim(keys[i], alone, try, since, *p, t)
			claims[i] = &c
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
			return nil
		}
		q.dismiss(claims[n+1:])
		if errors.Is(err, ErrBusy) || errors.Is(err, ErrUnavailable) { // wait for it; if ctx has ended, that says so
			enter(n, n+1, false)
			err = q.await(ctx, claims[n])
			*p = claims[n].patience
		}
		if err != nil {
			q.dismiss(claims[:n])
			return err
		}
	}
	return nil
}

// dismiss gives up claims whose caller no longer wants them.
func (q *queue) dismiss(claims []*claim) {
	for _, c := range claims {
		q.withdraw(c, ErrReleased)
		select {
		case <-c.signal: // that it is decided, which nobody waits for
		default:
		}
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
	case <-c.signal:
	case <-ctx.Done():
		q.withdraw(c, causeOf(ctx))
		<-c.signal
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
