package metadata

import (
	"bytes"
	"errors"
	"sync/atomic"
	"time"
)

// Those who decide share commits, too. Each decides on its own goroutine, when it is
// its turn, on the document as the one before has left it:
//
//   - The leader decides first, with nobody taken along: the others can leave meanwhile.
//     If it takes long and others wait, it lets the document go, and they go on without it.
//   - The others are asked one after the other, while the leader waits: for each for as
//     long as the budget, and for no more of them once that is used up. One that takes
//     longer is dropped.
//
// Whoever was left behind lines up again when it has decided, to lead. What it has decided
// for the document that was let go counts if that is the same still; else it decides again,
// and has twice the time.
//
// What is decided on is not stored yet. If it is not, as the database rejects it, or
// somebody has the lock or the row, those concerned decide again.

// How long a commit waits for those who decide: for its leader, if others are in line, and
// for the others.
const (
	leaderBudget = 250 * time.Millisecond
	decideBudget = 20 * time.Millisecond
)

// A decision is what a write has decided on a document.
type decision struct {
	on    Document
	patch *patch
	err   error
}

// holdsFor reports whether it was decided on just this document.
func (d *decision) holdsFor(doc Document) bool {
	return d.on.Version == doc.Version && d.on.UpdatedAt.Equal(doc.UpdatedAt) && bytes.Equal(d.on.Metadata, doc.Metadata)
}

// errLate has a call line up again.
var errLate = errors.New("metadata: decided for longer than others wait")

// errStopped is what is decided by a panic, or by runtime.Goexit.
var errStopped = errors.New("metadata: decide did not return")

// apply has a write change a draft, on its caller's goroutine. If that decides for longer
// than wait while the document is awaited, letGo runs meanwhile, the error is errLate, and
// the draft is of no use.
func (w *write) apply(dr *draft, wait time.Duration, awaited func() bool, letGo func()) error {
	switch {
	case w.decide == nil:
		return w.change(dr)
	case w.late == nil || !w.late.holdsFor(dr.doc):
		d := &decision{on: dr.doc}
		late := during(func() { d.patch, d.err = w.decide(dr.document()) }, wait, awaited, letGo)
		if w.late = d; late {
			return errLate
		}
	}
	return dr.decided(w.late)
}

// during runs do, and letGo besides, once, if do has not ended after wait, or some times
// as much, while the document is awaited. It returns whether that has run, and panics as
// that did.
func during(do func(), wait time.Duration, awaited func() bool, letGo func()) (late bool) {
	var decided atomic.Bool // whether there is to be letGo
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
		if late = !decided.CompareAndSwap(false, true); late {
			if p := <-gone; p != nil {
				panic(p)
			}
		}
	}()
	do()
	return
}

// answer decides on a document for the leader that asks.
func (c *call) answer(doc Document) {
	d := &decision{err: errStopped}
	c.late = nil // what it decided before, as only its last run counts
	defer func() { c.decisions <- d }()
	d.patch, d.err = c.decide(doc)
}

// again is a call that was left behind, with the patience that it has left.
func (c *call) again() *call {
	c.alone = true
	return &call{write: c.write, since: c.since, polls: c.polls, principal: c.principal, under: c.under, reports: c.reports, attempts: c.attempts, due: c.due, wait: 2 * c.wait}
}

// change has c change a draft, of a commit that asks for decisions until then. It
// reports whether the commit has c in it; if not, errLate says that it is without all.
func (p *postgres) change(s session, l *line, c *call, dr *draft, until time.Time) (in bool, err error) {
	switch {
	case c.decide == nil:
		return true, c.change(dr)
	case c.asked == nil || c.leads:
		c.wait = min(max(c.wait, leaderBudget), max(p.options.Timeout/4, time.Millisecond))
		awaited := func() bool { return p.queue.isAwaited(l) }
		if p.options.MaxBatch == 1 { // it decides once, for as long as the server keeps the document
			c.wait, awaited = p.options.Timeout/2, func() bool { p.queue.letGo(l); return false }
		}
		err = c.apply(dr, c.wait, awaited, func() {
			p.queue.letGo(l)
			s.undo()
		})
		return err != errLate, err
	case c.err == errStopped:
		return true, errStopped
	case !time.Now().Before(until):
		return false, nil
	}
	timer := time.NewTimer(p.budget())
	defer timer.Stop()
	c.asked <- dr.document()
	select {
	case d := <-c.decisions:
		return true, dr.decided(d)
	case <-timer.C:
		p.queue.drop(l, c)
		return false, nil
	}
}

// budget is how long a commit waits for one that decides, and for all of them.
func (p *postgres) budget() time.Duration { return min(decideBudget, p.options.Timeout/8) }
