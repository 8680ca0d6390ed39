package lock

import (
	"context"
	"fmt"
	"math"
	"time"

	"example.com/lockstore/backoff"
)

// This file has how long calls wait for what others hold. Each call has its own backoff, which
// starts with the call, wherever in the wait queue it is.

// patience is the backoff of one call. It starts with the call, whatever waited before it.
type patience struct {
	polls    backoff.Sequence
	attempts int // how often the key was tried for the call
}

// patience returns that of a call that begins now.
func (t *keyTable) patience() patience { return patience{polls: backoff.Start(t.policy)} }

// count notes that the server is asked on behalf of r.
func (r *request) count() {
	r.asked = true
	r.attempts++
}

// poll returns how long to wait before the next attempt after one has failed; ok=false: the
// policy gives up. The policy is foreign code: if it panics, the request ends, and raise
// panics for its caller.
func (r *request) poll() (wait time.Duration, ok bool, gaveUp error) {
	defer func() {
		if p := recover(); p != nil {
			wait, ok, gaveUp = 0, false, &policyPanic{p}
		}
	}()
	wait, ok = r.polls.Next()
	return wait, ok, backoff.ErrExhausted
}

// pause waits for the next attempt, on the caller's goroutine, and returns why there is none.
func (p *patience) pause(ctx context.Context) error {
	wait, ok := p.polls.Next()
	if !ok {
		return backoff.ErrExhausted
	}
	timer := time.NewTimer(max(wait, leastWait))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return causeOf(ctx)
	}
}

// policyPanic ends a request whose policy has panicked on another goroutine than its caller's.
type policyPanic struct{ value any }

func (p *policyPanic) Error() string { return fmt.Sprint("policy panicked: ", p.value) }
func (p *policyPanic) Unwrap() error { return errPanicked }

// Waiters whose attempts do not ask the server have these shortest intervals: the first of a
// wait queue, and those behind it.
const (
	leastWait   = time.Millisecond
	leastBehind = 5 * time.Millisecond
)

// denied consults the policies of the waiters for which the server was asked, which did not
// grant the key, or could not be asked.
func (t *keyTable) denied(e *entry) {
	now := time.Now()
	for r := e.first(); r != nil; r = r.next {
		if r.asked {
			r.due = now
		}
	}
	t.consult(e, now)
}

// consult asks the policies of the waiters whose next attempt is due when to try again, and
// ends those whose policy gives up.
func (t *keyTable) consult(e *entry, now time.Time) {
	for r := e.first(); r != nil; {
		behind := r.next
		if !r.try && !r.due.After(now) {
			if !r.asked {
				r.attempts++
			}
			r.asked = false
			wait, ok, gaveUp := r.poll()
			switch {
			case !ok:
				t.end(r, r.busy(gaveUp))
			case r != e.first():
				wait = max(wait, leastBehind)
			case e.waitConn != nil:
				wait = max(wait, leastWait)
			}
			r.wait, r.due = wait, now.Add(wait)
		}
		r = behind
	}
}

// scheduleServerWait makes the first waiter due after the time that its policy gave for the
// next attempt, while it waits at the server.
func (t *keyTable) scheduleServerWait(e *entry) {
	if first := e.first(); first.asked {
		first.due = time.Now().Add(max(first.wait, leastBehind))
	}
	t.schedule(e)
}

// pause asks for e again after a while.
func (t *keyTable) pause(e *entry, wait time.Duration) {
	e.state = pausing
	e.first().due = time.Now().Add(wait)
	t.schedule(e)
}

// schedule calls attend when the next waiter is due.
func (t *keyTable) schedule(e *entry) {
	now, wait := time.Now(), time.Duration(math.MaxInt64)
	for r := e.first(); r != nil && wait > leastBehind; r = r.next {
		switch {
		case r.try:
			wait = leastBehind
		case r == e.first():
			wait = r.due.Sub(now)
		default:
			wait = min(wait, max(r.due.Sub(now), leastBehind))
		}
	}
	e.stopTimer()
	var timer *time.Timer
	timer = time.AfterFunc(wait, func() {
		t.mu.Lock()
		defer t.unlock()
		if e.timer == timer { // and has not been stopped too late
			e.timer = nil
			t.attend(e)
		}
	})
	e.timer = timer
}

// attend does what is due for waiters. It asks again for an entry that pauses, or has shared
// holders. If one waits at the server, it goes on, if its first waiter does.
func (t *keyTable) attend(e *entry) {
	now := time.Now()
	switch {
	case e.state == held:
		t.share(e)
		return
	case e.waiters.n == 0:
		return // abandoned
	case e.state == pausing && !e.first().due.After(now):
		t.ask(e)
		return
	}
	t.consult(e, now)
	t.reconsider(e)
	if e.waiters.n > 0 {
		t.schedule(e)
	}
}

// reconsider ends a wait at the server that is not for the first waiter, and asks the server
// on behalf of tries for the key that is waited for there.
func (t *keyTable) reconsider(e *entry) {
	switch first := e.first(); {
	case e.waitConn == nil:
	case first == nil || first.mode != e.mode:
		t.server.abandon(e)
	case e.waiters.tries > 0 && !first.try:
		t.inquire(e)
	}
}

// retryNow asks at once for an entry that pauses.
func (t *keyTable) retryNow(e *entry) {
	if e.state == pausing && e.timer != nil {
		t.ask(e)
	}
}

func (e *entry) stopTimer() {
	if e.timer != nil {
		e.timer.Stop()
		e.timer = nil
	}
}
