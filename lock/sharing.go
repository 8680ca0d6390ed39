package lock

import "time"

// What follows is how sharers come to a key that others share already. Within a turn
// they get it at once. After that the server is asked whether somebody in another
// process has it alone, or waits to: who does is not kept waiting by a stream of
// sharers, and where nobody does another turn begins.
//
// The server's own answer to a try would not tell: it gives a session what that has.

// share admits the sharers that are first in line behind sharers that hold, or looks
// whether it may.
func (q *queue) share(e *entry) {
	first := e.first()
	if first == nil || first.mode == alone || e.mode == alone || q.server.withheld(e) {
		return
	}
	if now := time.Now(); now.Sub(e.turn) < q.budget {
		q.admit(e, now)
		return
	}
	q.inquire(e)
}

// inquire asks the server on behalf of the sharers that are first in line, and of all who
// just try. Who does not waits for the time that its policy says.
func (q *queue) inquire(e *entry) {
	if e.inquiring || e.state == held && e.timer != nil && e.line.tries == 0 {
		return
	}
	now, sharers := time.Now(), true
	for c := e.first(); c != nil; c = c.next {
		sharers = sharers && c.mode == shared
		if c.try || sharers && e.state == held && !c.due.After(now) {
			c.count()
		}
	}
	e.inquiring = true
	q.server.inquire(e)
}

// inquired takes the answer to inquire: whether the key is wanted, or why that is unknown.
// One that is not, and that is waited for in the server, is about to be granted.
func (q *queue) inquired(e *entry, wanted bool, err error) {
	e.inquiring = false
	sharing := e.state == held && e.mode == shared
	if q.entries[e.key.id] != e || !sharing && e.parked == nil {
		return // what has been asked since is answered
	}
	switch {
	case wanted || err != nil || q.server.withheld(e):
		q.endTries(e, err, func(c *claim) bool { return c.asked })
		if sharing {
			q.denied(e)
		}
	case sharing:
		e.turn = time.Now()
		q.share(e)
		return
	}
	first := e.first()
	switch {
	case e.line.tries > 0 && (sharing || wanted):
		q.inquire(e) // for those who came meanwhile
	case e.line.tries > 0, sharing && first != nil && first.mode == shared:
		q.schedule(e)
	}
}
