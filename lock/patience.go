package lock

import (
	"context"
	"fmt"
	"math"
	"time"

	"example.com/lockstore/backoff"
)

// What follows is how long callers wait for what others have. Each has its own
// patience, from its own call on, wherever in line it stands.

// patience is how long one caller waits, by its own policy and from its own call
// on, whoever stood before it.
type patience struct {
	polls    backoff.Sequence
	attempts int // how often it was looked whether the caller can have the key
}

// patience is that of a call that begins now.
func (q *queue) patience() patience { return patience{polls: backoff.Start(q.policy)} }

// count notes that the server is asked on behalf of c.
func (c *claim) count() {
	c.asked = true
	c.attempts++
}

// poll is how long to wait before the next attempt, now that one has failed;
// ok=false: the policy gives up. The policy is foreign code: should it panic, the
// claim ends, and its caller gets to know of what.
func (c *claim) poll() (wait time.Duration, ok bool, gaveUp error) {
	defer func() {
		if p := recover(); p != nil {
			wait, ok, gaveUp = 0, false, &policyPanic{p}
		}
	}()
	wait, ok = c.polls.Next()
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

// policyPanic is the end of a claim whose policy has panicked on another goroutine
// than its caller's.
type policyPanic struct{ value any }

func (p *policyPanic) Error() string { return fmt.Sprint("policy panicked: ", p.value) }
func (p *policyPanic) Unwrap() error { return errPanicked }

// Where the server is not asked, nobody is looked after more often than that: the
// first in line, and those behind it.
const (
	leastWait   = time.Millisecond
	leastBehind = 5 * time.Millisecond
)

// denied has the policies be asked of those for whom the server was, which does not
// give them the key, or could not be asked.
func (q *queue) denied(e *entry) {
	now := time.Now()
	for c := e.first(); c != nil; c = c.next {
		if c.asked {
			c.due = now
		}
	}
	q.consult(e, now)
}

// consult asks the policies of those in line whose time it is when to look again, and
// ends those that give up.
func (q *queue) consult(e *entry, now time.Time) {
	for c := e.first(); c != nil; {
		behind := c.next
		if !c.try && !c.due.After(now) {
			if !c.asked {
				c.attempts++
			}
			c.asked = false
			wait, ok, gaveUp := c.poll()
			switch {
			case !ok:
				q.end(c, c.busy(gaveUp))
			case c != e.first():
				wait = max(wait, leastBehind)
			case e.parked != nil:
				wait = max(wait, leastWait)
			}
			c.wait, c.due = wait, now.Add(wait)
		}
		c = behind
	}
}

// parked gives the first in line as long to be granted what it waits for in the
// server as its policy has it wait for the next attempt.
func (q *queue) parked(e *entry) {
	if first := e.first(); first.asked {
		first.due = time.Now().Add(max(first.wait, leastBehind))
	}
	q.schedule(e)
}

// pause has e be asked for again after a while.
func (q *queue) pause(e *entry, wait time.Duration) {
	e.state = pausing
	e.first().due = time.Now().Add(wait)
	q.schedule(e)
}

// schedule has e attended to when the next one in line is due.
func (q *queue) schedule(e *entry) {
	now, wait := time.Now(), time.Duration(math.MaxInt64)
	for c := e.first(); c != nil && wait > leastBehind; c = c.next {
		switch {
		case c.try:
			wait = leastBehind
		case c == e.first():
			wait = c.due.Sub(now)
		default:
			wait = min(wait, max(c.due.Sub(now), leastBehind))
		}
	}
	e.stopTimer()
	var timer *time.Timer
	timer = time.AfterFunc(wait, func() {
		q.mu.Lock()
		defer q.unlock()
		if e.timer == timer { // and has not been stopped too late
			e.timer = nil
			q.attend(e)
		}
	})
	e.timer = timer
}

// attend does what is due for those that wait for others: it asks again for an entry
// that pauses, or is held by sharers. One that is parked goes on waiting, if its first
// waiter does.
func (q *queue) attend(e *entry) {
	now := time.Now()
	switch {
	case e.state == held:
		q.share(e)
		return
	case e.line.n == 0:
		return // abandoned
	case e.state == pausing && !e.first().due.After(now):
		q.ask(e)
		return
	}
	q.consult(e, now)
	q.reconsider(e)
	if e.line.n > 0 {
		q.schedule(e)
	}
}

// reconsider ends a wait in the server that is not for the first in line, and has it
// looked after those that try for what is waited for there.
func (q *queue) reconsider(e *entry) {
	switch first := e.first(); {
	case e.parked == nil:
	case first == nil || first.mode != e.mode:
		q.server.abandon(e)
	case e.line.tries > 0 && !first.try:
		q.inquire(e)
	}
}

// rouse asks at once for an entry that pauses.
func (q *queue) rouse(e *entry) {
	if e.state == pausing && e.timer != nil {
		q.ask(e)
	}
}

func (e *entry) stopTimer() {
	if e.timer != nil {
		e.timer.Stop()
		e.timer = nil
	}
}
