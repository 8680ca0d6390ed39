package lock

import "time"

// This file is how requests for a shared lock join holders here that share the key. Within the
// period of this process they get it at once. After that the server is asked whether another
// process has the key exclusively, or waits to. If so, they wait, so that a stream of shared
// requests does not starve it. If not, another period begins.
//
// A try at the server would not answer that: it grants a session what the session already has.

// share admits the first waiters, if they and the holders are shared, or asks the server
// whether it may.
func (t *keyTable) share(e *entry) {
	first := e.first()
	if first == nil || first.mode == alone || e.mode == alone || t.server.withheld(e) {
		return
	}
	if now := time.Now(); now.Sub(e.periodStart) < t.period {
		t.admit(e, now)
		return
	}
	t.inquire(e)
}

// inquire asks the server on behalf of the shared waiters at the front, and of all tries.
// Other waiters than tries wait for the time that their policy says.
func (t *keyTable) inquire(e *entry) {
	if e.inquiring || e.state == held && e.timer != nil && e.waiters.tries == 0 {
		return
	}
	now, sharers := time.Now(), true
	for r := e.first(); r != nil; r = r.next {
		sharers = sharers && r.mode == shared
		if r.try || sharers && e.state == held && !r.due.After(now) {
			r.count()
		}
	}
	e.inquiring = true
	t.server.inquire(e)
}

// inquired takes the answer to inquire: whether the key is wanted, or why that is unknown. A
// key that is not wanted, and is waited for at the server, is about to be granted.
func (t *keyTable) inquired(e *entry, wanted bool, err error) {
	e.inquiring = false
	sharing := e.state == held && e.mode == shared
	if t.entries[e.key.id] != e || !sharing && e.waitConn == nil {
		return // the answer is out of date
	}
	switch {
	case wanted || err != nil || t.server.withheld(e):
		t.endTries(e, err, func(r *request) bool { return r.asked })
		if sharing {
			t.denied(e)
		}
	case sharing:
		e.periodStart = time.Now()
		t.share(e)
		return
	}
	first := e.first()
	switch {
	case e.waiters.tries > 0 && (sharing || wanted):
		t.inquire(e) // for tries that came meanwhile
	case e.waiters.tries > 0, sharing && first != nil && first.mode == shared:
		t.schedule(e)
	}
}
