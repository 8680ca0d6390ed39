package lock

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A request is one call's request for one key, from the call until the hold has ended. It
// waits, then holds, then has ended; or it ends while it waits.
type request struct {
	key   Key
	mode  mode
	try   bool      // fails rather than waits for another holder
	since time.Time // when the call began

	hold   *hold         // the hold that it is part of, once granted
	signal chan struct{} // receives when it no longer waits, and when its unlock is answered

	// Written before signal, and not changed after it.
	granted bool
	session *session // that holds the key; nil in a Memory

	// Protected by table.mu; err may be read without it once the request has ended
	// without being granted.
	state requestState
	err   error // why it ended, unless by Unlock
	entry *entry
	prev  *request // in entry.waiters, while waiting
	next  *request
	slot  int       // index in entry.holders, while holding
	began time.Time // when it was granted
	patience
	asked  bool          // the server has been asked on its behalf, and has not answered
	wait   time.Duration // until the next attempt, as the policy last said
	due    time.Time     // time of the next attempt; zero: there was none yet
	unlock reply         // of the server to the unlock; done is nil if it was not asked
}

type requestState uint8

const (
	waiting requestState = iota
	holding
	ended
)

func newRequest(key Key, m mode, try bool, since time.Time, p patience, h *hold) request {
	return request{key: key, mode: m, try: try, since: since, patience: p, hold: h, signal: make(chan struct{}, 1)}
}

// raise panics on the caller's goroutine if its backoff policy has panicked on another one.
// Nothing is held by then.
func raise(err error) {
	var foreign *policyPanic
	if errors.As(err, &foreign) {
		panic(foreign.value)
	}
}

// become sets the next state and its reason, and signals that the request no longer waits.
func (r *request) become(s requestState, err error) {
	before := r.state
	r.state, r.err = s, err
	if before == waiting {
		if r.granted = s == holding; r.granted && r.hold.any {
			r.hold.requests = append(r.hold.few[:0], r)
		}
		r.signal <- struct{}{}
	}
}

// endErr returns why a request no longer holds.
func (r *request) endErr() error {
	if r.err == nil {
		return ErrReleased
	}
	return r.err
}

// busy returns the error of a request that was not granted.
func (r *request) busy(cause error) error {
	if r.entry != nil && r.entry.trouble != nil {
		if cause == nil {
			cause = r.entry.trouble
		} else {
			cause = fmt.Errorf("%w (%w)", cause, r.entry.trouble)
		}
	}
	return refused(r.key, r.since, r.attempts, cause)
}

// acquire implements Lock, TryLock, RLock and TryRLock: it makes a request and waits until
// that is granted or has ended, or ctx ends.
func (t *keyTable) acquire(ctx context.Context, key Key, m mode, try bool) (*Held, error) {
	if t.observers.acquire != nil || t.observers.hold != nil {
		a := AcquireStart{operationOf(m, try), []Key{key}}
		return t.observe(ctx, a, func(ctx context.Context, since time.Time) (*Held, error) {
			return t.acquireKey(ctx, key, m, try, since)
		})
	}
	held, err := t.acquireKey(ctx, key, m, try, time.Now())
	t.countBusy(err)
	raise(err)
	return held, err
}

// countBusy counts a call that ends with err, if it was busy.
func (t *keyTable) countBusy(err error) {
	if errors.Is(err, ErrBusy) {
		t.mu.Lock()
		t.counts.Busy++
		t.mu.Unlock()
	}
}

// acquireAll implements LockAll.
func (t *keyTable) acquireAll(ctx context.Context, keys []Key) (*Held, error) {
	return t.observe(ctx, AcquireStart{"LockAll", keys}, func(ctx context.Context, since time.Time) (*Held, error) {
		return t.acquireKeys(ctx, keys, since)
	})
}

func (t *keyTable) acquireKey(ctx context.Context, key Key, m mode, try bool, since time.Time) (*Held, error) {
	if err := admissible(ctx, since, key); err != nil {
		return nil, err
	}
	p := t.patience()
	for {
		h := &hold{table: t, values: ctx}
		h.keys = append(h.key[:0], key)
		own := h.inTheWay(ctx)
		if own != nil && !(own.shared && m == shared) {
			return nil, refused(key, since, 0, ErrHeld)
		}
		r := &h.one
		*r = newRequest(key, m, try || own != nil, since, p, h)
		h.requests = append(h.few[:0], r)
		t.enter(h.requests...)
		err := t.await(ctx, r)
		switch {
		case err == nil:
			return h.begin(m), nil
		case own == nil, errors.Is(err, ctx.Err()), try && !errors.Is(err, ErrBusy):
			return nil, err
		case errors.Is(err, ErrBusy):
			return nil, refused(key, since, r.attempts, ErrHeld)
		case !errors.Is(err, ErrUnavailable):
			return nil, err
		}
		// Perhaps the caller's own hold is lost, which is not known yet.
		r.attempts = max(r.attempts, p.attempts+1)
		p = r.patience
		if end := p.pause(ctx); end != nil {
			return nil, refused(key, since, r.attempts, fmt.Errorf("%w (%w)", end, err))
		}
	}
}

// acquireKeys takes all of keys. If one that it has is lost while it waits for another, it
// begins again.
func (t *keyTable) acquireKeys(ctx context.Context, keys []Key, since time.Time) (*Held, error) {
	for _, key := range keys {
		if err := key.Err(); err != nil {
			return nil, err
		}
	}
	keys = sortKeys(keys)
	if err := admissible(ctx, since, keys...); err != nil {
		return nil, err
	}
	p := t.patience()
	for {
		h := &hold{table: t, values: ctx, keys: keys, requests: make([]*request, len(keys))}
		if own := h.inTheWay(ctx); own != nil {
			return nil, refused(h.keptOutBy(own), since, 0, ErrHeld)
		}
		if err := t.acquireInOrder(ctx, h, keys, since, &p); err != nil {
			return nil, err
		}
		t.mu.Lock()
		whole := h.endErr() == nil
		t.mu.Unlock()
		if whole {
			return h.begin(alone), nil
		}
		t.dismiss(h.requests)
	}
}

// acquireInOrder tries all of the sorted keys at once. Of those granted it keeps the ones before
// the first that is not, waits for that one, and tries the rest again. So it waits for a key
// only while it holds smaller ones, and calls never wait for each other.
func (t *keyTable) acquireInOrder(ctx context.Context, h *hold, keys []Key, since time.Time, p *patience) (err error) {
	requests := h.requests
	enter := func(from, to int, try bool) {
		for i := from; i < to; i++ {
			r := newRequest(keys[i], alone, try, since, *p, h)
			requests[i] = &r
		}
		t.enter(requests[from:to]...)
	}
	for n := 0; n < len(keys); n++ { // n keys are held
		enter(n, len(keys), true)
		for ; n < len(keys); n++ {
			if err = t.await(ctx, requests[n]); err != nil {
				break
			}
		}
		if err == nil {
			return nil
		}
		t.dismiss(requests[n+1:])
		if errors.Is(err, ErrBusy) || errors.Is(err, ErrUnavailable) { // wait for it; if ctx has ended, the error says so
			enter(n, n+1, false)
			err = t.await(ctx, requests[n])
			*p = requests[n].patience
		}
		if err != nil {
			t.dismiss(requests[:n])
			return err
		}
	}
	return nil
}

// dismiss withdraws requests or releases what they were granted.
func (t *keyTable) dismiss(requests []*request) {
	for _, r := range requests {
		t.withdraw(r, ErrReleased)
		select {
		case <-r.signal: // which nothing waits for any more
		default:
		}
	}
	_ = t.release(requests) // a loss is reported to the caller by the other keys
}

// admissible returns why a call for keys does not begin, or nil.
func admissible(ctx context.Context, since time.Time, keys ...Key) error {
	if len(keys) == 0 {
		return fmt.Errorf("%w: none given", ErrInvalidKey)
	}
	if err := keys[0].Err(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return refused(keys[0], since, 0, causeOf(ctx))
	}
	return nil
}

// refused returns the error of a call for key that ends because of why.
func refused(key Key, since time.Time, attempts int, why error) error {
	return &BusyError{Key: key, Waited: time.Since(since), Attempts: attempts, Cause: why}
}

// await waits until r is granted, has ended, or ctx ends. It returns why r is not granted.
func (t *keyTable) await(ctx context.Context, r *request) error {
	select {
	case <-r.signal:
	case <-ctx.Done():
		t.withdraw(r, causeOf(ctx))
		<-r.signal
	}
	if r.granted {
		return nil
	}
	return r.err
}

// causeOf returns why ctx ended: an error that matches ctx.Err() and the cause.
func causeOf(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) {
		return cause
	}
	return fmt.Errorf("%w: %w", err, cause)
}
