package metadata

import (
	"bytes"
	"errors"
	"sync/atomic"
	"time"
)

// Calls with a decide function of the host share commits, too. Each function runs on its own
// caller's goroutine, on the document as the call before it in the batch has left it:
//
//   - The leader decides first, in a batch of its own, so that other calls can still leave. If
//     it takes longer than leaderBudget and others wait, it gives the document up, and they go
//     on without it.
//   - The leader then asks its followers, one after the other. It waits for each for up to
//     decideBudget, and asks no more of them once that time is used up. A follower that takes
//     longer is dropped.
//
// A leader that has given the document up, and a follower that was dropped, join the queue again
// once they have decided, to lead. The decision of such a leader counts if the document is still
// the same. Otherwise decide runs again, each time for twice as long as before, up to a quarter of
// Options.Timeout.
//
// A decision is not stored yet. Its commit can fail or be rolled back, because the database
// rejects it or another session has the lock or the row. Then commit (lead.go) makes the changes
// again at once if the base was stale, or halves the batch if it was rejected. Otherwise the
// followers wait again (settle in queue.go), and the leader makes the commit again after a wait
// by its policy (lead in lead.go); pipelined, all of them wait again (conclude in chain.go).
// When a change is made again, apply keeps the decision of a leader if the document is the one
// that was decided on (holdsFor), and else runs decide again; that of a follower always runs
// again (answer).

// How long a commit waits for decide: of its leader, if others wait, and of its followers.
const (
	leaderBudget = 250 * time.Millisecond
	decideBudget = 20 * time.Millisecond
)

// A decision is what decide has returned for a document.
type decision struct {
	on    Document
	patch *patch
	err   error
}

// holdsFor reports whether d was made for just this document.
func (d *decision) holdsFor(doc Document) bool {
	return d.on.Version == doc.Version && d.on.UpdatedAt.Equal(doc.UpdatedAt) && bytes.Equal(d.on.Metadata, doc.Metadata)
}

// errSlowDecision has a call join the queue again.
var errSlowDecision = errors.New("metadata: decided for longer than others wait")

// errStopped is the decision of a decide function that ended by a panic or runtime.Goexit.
var errStopped = errors.New("metadata: decide did not return")

// apply makes the write's change on a working copy, on the caller's goroutine. If decide takes
// longer than wait while the document is awaited, letGo runs meanwhile. The error is
// errSlowDecision then, and the working copy is of no use.
func (w *write) apply(wc *workingCopy, wait time.Duration, awaited func() bool, letGo func()) error {
	switch {
	case w.decide == nil:
		return w.change(wc)
	case w.lastDecision == nil || !w.lastDecision.holdsFor(wc.doc):
		d := &decision{on: wc.doc}
		slow := during(func() { d.patch, d.err = w.decide(wc.document()) }, wait, awaited, letGo)
		if w.lastDecision = d; slow {
			return errSlowDecision
		}
	}
	return wc.decided(w.lastDecision)
}

// during runs do, and reports whether letGo has run. That runs once, beside do, if do takes
// longer than wait, or a multiple of it, while the document is awaited. If letGo panics, so
// does during.
func during(do func(), wait time.Duration, awaited func() bool, letGo func()) (slow bool) {
	var decided atomic.Bool // by do or for letGo, whichever is first
	gone := make(chan any, 1)
	var look func()
	look = func() {
		switch {
		case decided.Load():
		case !awaited():
			time.AfterFunc(wait, look)
		case decided.CompareAndSwap(false, true):
			defer func() { gone <- recover() }()
			letGo()
		}
	}
	timer := time.AfterFunc(wait, look)
	defer func() {
		timer.Stop()
		if slow = !decided.CompareAndSwap(false, true); slow {
			if p := <-gone; p != nil {
				panic(p)
			}
		}
	}()
	do()
	return
}

// answer runs decide for the leader that asks.
func (c *call) answer(doc Document) {
	d := &decision{err: errStopped}
	c.lastDecision = nil // only its last run counts
	defer func() { c.decisions <- d }()
	d.patch, d.err = c.decide(doc)
}

// again is a call that was left behind, as a new call with the patience that it has left.
func (c *call) again() *call {
	c.alone = true
	return &call{write: c.write, since: c.since, polls: c.polls, principal: c.principal, under: c.under, reports: c.reports, attempts: c.attempts, due: c.due, wait: 2 * c.wait}
}

// change makes c's change on a working copy of a commit that asks for decisions until a time. It
// reports whether c is in the commit. If not, and the error is errSlowDecision, the commit has no
// calls at all.
func (p *postgres) change(s session, wq *waitQueue, c *call, wc *workingCopy, until time.Time) (in bool, err error) {
	switch {
	case c.decide == nil:
		return true, c.change(wc)
	case c.asked == nil || c.leads:
		c.wait = min(max(c.wait, leaderBudget), max(p.options.Timeout/4, time.Millisecond))
		awaited := func() bool { return p.queues.isAwaited(wq) }
		if p.options.MaxBatch == 1 { // it decides once, while the server keeps the document for it
			c.wait, awaited = p.options.Timeout/2, func() bool { p.queues.letGo(wq); return false }
		}
		err = c.apply(wc, c.wait, awaited, func() {
			p.queues.letGo(wq)
			s.undo()
		})
		return err != errSlowDecision, err
	case c.err == errStopped:
		return true, errStopped
	case !time.Now().Before(until):
		return false, nil
	}
	timer := time.NewTimer(p.budget())
	defer timer.Stop()
	c.asked <- wc.document()
	select {
	case d := <-c.decisions:
		return true, wc.decided(d)
	case <-timer.C:
		p.queues.drop(wq, c)
		return false, nil
	}
}

// budget is how long a commit waits for one follower that decides, and for all of them.
func (p *postgres) budget() time.Duration { return min(decideBudget, p.options.Timeout/8) }
