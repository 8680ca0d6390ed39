package metadata

import (
	"errors"
	"time"
)

// Those who decide share commits, too. Each decides on its own goroutine, when it is
// its turn, on the document as the one before has left it:
//
//   - Whoever leads decides first, with nobody taken along: the others can leave
//     meanwhile. If it takes longer than the server keeps the transaction, they go on
//     without it.
//   - The others are asked one after the other, while the leader waits: for each for as
//     long as the budget, and for no more of them once that is used up. One that takes
//     longer is dropped. It lines up again when it has decided, to lead: what it has
//     decided on may be another document by then.
//
// What they decide on is not stored yet. If it is not, as the database rejects it, or
// somebody has the lock or the row, they decide again.

// decideBudget is how long a commit waits for one that decides.
const decideBudget = 20 * time.Millisecond

// A decision is what a call has decided.
type decision struct {
	patch *patch
	err   error
}

// errLate has a call line up again.
var errLate = errors.New("metadata: decided for longer than others wait")

// errStopped is what is decided by a panic, or by runtime.Goexit.
var errStopped = errors.New("metadata: decide did not return")

// answer decides on a document for the leader that asks.
func (c *call) answer(doc Document) {
	d := decision{err: errStopped}
	defer func() { c.decisions <- d }()
	d.patch, d.err = c.decide(doc)
}

// again is a call that has been dropped, with the patience that it has left.
func (c *call) again() *call {
	c.alone = true
	return &call{write: c.write, since: c.since, polls: c.polls, principal: c.principal, attempts: c.attempts, due: c.due}
}

// change has c change a draft, of a commit that has waited for decisions since. It
// reports whether the commit has c in it.
func (p *postgres) change(l *line, c *call, dr *draft, since time.Time) (in bool, err error) {
	budget := min(decideBudget, p.options.Timeout/8)
	switch waits := c.asked != nil && !c.leads; {
	case c.decide == nil:
		return true, c.change(dr)
	case !waits:
		defer time.AfterFunc(p.options.Timeout/2, func() { p.queue.split(l, c) }).Stop()
		return true, dr.make(c.write)
	case time.Since(since) >= budget:
		return false, nil
	}
	timer := time.NewTimer(budget)
	defer timer.Stop()
	c.asked <- dr.document()
	select {
	case d := <-c.decisions:
		return true, dr.decided(d.patch, d.err)
	case <-timer.C:
		p.queue.drop(l, c)
		return false, nil
	}
}
