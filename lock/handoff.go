package lock

import (
	"slices"
	"time"
)

// What follows is the second half of the queue: how a key that this process has
// goes from holder to holder, and back to the server.

// leave ends a tenure: the key passes to the next holder here, or is given
// back to the server, whose answer then comes by c.unlock. The error says that
// the tenure had ended before.
func (q *queue) leave(c *claim) error {
	if c.state != holding {
		return c.err
	}
	q.endTenure(c, nil)
	if len(c.entry.holders) == 0 {
		c.unlock.done = c.signal
		if !q.vacated(c.entry, &c.unlock) {
			c.unlock.done = nil
		}
	}
	return nil
}

// endTenure makes a holder one no longer. One that did not unlock is told why,
// before anybody else can get the key: this is the one foreign call that is made
// with the mutex held, and contexts call nobody back.
func (q *queue) endTenure(c *claim, why error) {
	if why != nil && c.tenure.cancel != nil {
		c.tenure.cancel(why)
	}
	if why != nil && c.tenure.until.IsZero() {
		c.tenure.until = time.Now()
	}
	e, last := c.entry, len(c.entry.holders)-1
	e.writing = e.writing || c.tenure.writes > 0
	e.holders[c.slot], e.holders[last].slot = e.holders[last], c.slot
	e.holders[last] = nil
	e.holders = e.holders[:last]
	q.holding--
	c.become(ended, why)
}

// vacated gives on a key whose last holder here has left, to whom it is due here, or
// else to the server, which answers to r. It reports whether it will. Where a write of a
// tenure that has ended may be under way, the key goes by the server, which does not
// give it to anybody before that write's transaction has ended.
func (q *queue) vacated(e *entry, r *reply) (released bool) {
	q.prune(e)
	if e.line.n == 0 {
		q.giveBack(e, r)
		q.forget(e)
		return true
	}
	now := time.Now()
	over := now.Sub(e.turn) >= q.budget
	if !over && !e.writing && e.mode == e.first().mode && e.passed < q.passes.of(e) && !q.server.withheld(e) {
		e.passed++
		q.counts.HandedOn++
		q.admit(e, now)
		return false
	}
	q.giveBack(e, r)
	if over && e.line.tries == 0 {
		// Who is parked at the server has the key by now. The pause is for
		// processes that only poll.
		e.turn = time.Time{}
		q.pause(e, q.budget/50)
	} else {
		q.next(e)
	}
	return true
}

func (q *queue) giveBack(e *entry, r *reply) {
	q.server.release(e, r)
	e.session, e.writing = nil, false
}

// passes is how often a key is handed on before it is offered to those who are
// parked at the server. Where another process wants it that is a few times only:
// more would be faster, but the others would wait many times longer than those
// here. Where none was seen it costs a round trip to find that out.
type passes struct{ rival, alone int }

func (p passes) of(e *entry) int {
	if e.rival {
		return p.rival
	}
	return p.alone
}

// pass gives a key that the server has granted to whom it is due, or back. A key is
// held as those here hold it: what sharers share here, other processes can share.
func (q *queue) pass(e *entry, now time.Time) {
	q.prune(e)
	if first := e.first(); first != nil && first.mode == e.mode {
		q.admit(e, now)
		return
	}
	q.giveBack(e, nil)
	q.next(e)
}

// admit makes the first waiter a holder, and with a sharer all sharers that
// follow it directly, or have only tries before them, which have failed.
func (q *queue) admit(e *entry, now time.Time) {
	for first := e.first(); first != nil; first = e.first() {
		if len(e.holders) > 0 && (first.mode == alone || e.holders[0].mode == alone) {
			if !first.try {
				return
			}
			q.end(first, first.busy(nil))
			continue
		}
		q.leaveLine(first)
		first.slot, e.holders = len(e.holders), append(e.holders, first)
		q.holding++
		first.session, first.began = e.session, now
		first.become(holding, nil)
		q.counts.Acquired++
		q.counts.WaitTime += max(0, now.Sub(first.since))
	}
}

// evict ends the tenures of an entry that have not begun after before, and gives the
// key back if that was all. It returns how many it has ended.
func (q *queue) evict(e *entry, before time.Time, why error) (evicted int) {
	for _, c := range slices.Clone(e.holders) {
		if !c.began.After(before) {
			q.endTenure(c, why)
			evicted++
		}
	}
	q.counts.Evicted += int64(evicted)
	if len(e.holders) == 0 {
		q.vacated(e, nil)
	}
	return evicted
}

// endAll ends every tenure of an entry, and returns their number.
func (q *queue) endAll(e *entry, why error) int {
	holders := slices.Clone(e.holders)
	for _, c := range holders {
		q.endTenure(c, why)
	}
	return len(holders)
}

// lose ends every tenure that session held, and has their waiters ask again.
// It returns the number of tenures.
func (q *queue) lose(s *session, why error) (lost int) {
	for _, e := range q.sorted() {
		if e.state == held && e.session == s {
			lost += q.endAll(e, why)
			e.session, e.turn, e.writing = nil, time.Time{}, false
			q.next(e)
		}
	}
	q.counts.Lost += int64(lost)
	return lost
}
