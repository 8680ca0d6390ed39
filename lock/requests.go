package lock

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// What follows is the holder's side of an eviction: how a session finds out what is
// requested of it, and answers. See requestFormat.

// requestsSQL are the requests of the session's process, one a line, whose roles may
// terminate it (PostgreSQL source, pg_signal_backend).
const requestsSQL = `(SELECT string_agg(a.application_name, chr(10))
FROM pg_stat_get_activity(NULL) AS a, pg_stat_get_activity(pg_backend_pid()) AS own
WHERE starts_with(a.application_name, '` + requestPrefix + `' || own.pid || ' ')
	AND CASE WHEN (SELECT r.rolsuper FROM pg_roles AS r WHERE r.oid = a.usesysid) THEN true
		WHEN (SELECT r.rolsuper FROM pg_roles AS r WHERE r.oid = own.usesysid) THEN false
		ELSE pg_has_role(a.usesysid, own.usesysid, 'USAGE') OR pg_has_role(a.usesysid, 'pg_signal_backend', 'USAGE') END)`

// An inbox is the requests of a session. Guarded by queue.mu.
type inbox struct {
	looking bool      // the server has been asked
	served  []*served // that were there when it was asked last
}

// served is a request that has been served, and is to be answered as long as it is
// there.
type served struct {
	token  int64
	answer int64 // the lock's key
	asked  bool  // the server has been asked for it
	given  bool  // the session has it
}

// lookLater has the sessions look for requests in a while, if there are locks, or
// answers of s to be withdrawn.
func (p *Postgres) lookLater(s *session) {
	if p.look == nil && (p.queue.holding > 0 || len(s.inbox.served) > 0) && !p.queue.closed {
		p.look = time.AfterFunc(p.chance.looks, p.lookNow)
	}
}

// lookNow has every session look for requests that has to. The next time comes with
// an answer.
func (p *Postgres) lookNow() {
	p.queue.mu.Lock()
	defer p.queue.unlock()
	p.look = nil
	holds := make(map[*session]bool)
	for _, e := range p.queue.entries {
		if e.state == held {
			holds[e.session] = true
		}
	}
	for _, s := range p.sessions() {
		if in := &s.inbox; !in.looking && (holds[s] || len(in.served) > 0) && !p.queue.closed {
			in.looking = p.queue.request(s, op{code: opFlagged, key: flagClass<<32 | int64(s.backend.PID)})
		}
	}
}

// flagged takes the answer to whether there are requests. A flag can be down for the
// moment in which another request is looked for: those that were served are looked for
// in any case.
func (p *Postgres) flagged(s *session, o op) {
	in := &s.inbox
	in.looking = (o.err != nil || o.value == 1 || len(in.served) > 0) && p.queue.request(s, op{code: opRequests})
}

// requested takes the requests there are. It serves and answers the new ones, and
// withdraws the answers to those that are gone. It returns the keys that it has taken
// from holders.
func (p *Postgres) requested(s *session, o op, text string) (evicted []Key) {
	in := &s.inbox
	in.looking = false
	if o.err != nil {
		return nil
	}
	var there []*served
	for line := range strings.Lines(text) {
		var pid, key, token int64
		if _, err := fmt.Sscanf(line, requestFormat, &pid, &key, &token); err != nil {
			continue
		}
		i := slices.IndexFunc(in.served, func(r *served) bool { return r.token == token })
		if i >= 0 {
			there = append(there, in.served[i])
			in.served = slices.Delete(in.served, i, i+1)
			continue
		}
		if key, ok := p.giveUp(s, key); ok {
			evicted = append(evicted, key)
		}
		there = append(there, &served{token: token})
	}
	for _, r := range in.served { // whose request is gone
		switch {
		case r.asked:
			there = append(there, r)
		case r.given:
			p.queue.request(s, op{code: opWithdraw, key: r.answer})
		}
	}
	in.served = there
	for _, r := range there {
		if !r.asked && !r.given {
			r.answer = r.token<<32 | int64(p.chance.token())
			r.asked = p.queue.request(s, op{code: opAnswer, key: r.answer})
		}
	}
	return evicted
}

// giveUp ends the holds of a key, and returns it, if the session has it.
func (p *Postgres) giveUp(s *session, key int64) (evicted Key, ok bool) {
	e := p.queue.entries[key]
	if e == nil || e.state != held || e.session != s {
		return Key{}, false
	}
	evicted = e.key
	p.queue.evict(e, errEvicted)
	return evicted, true
}

// given takes the outcome of an answer. Should others have had that very lock, there
// is another when the session looks next.
func (in *inbox) given(o op) {
	for _, r := range in.served {
		if r.asked && r.answer == o.key {
			r.asked, r.given = false, o.err == nil && o.value == 1
		}
	}
}

// withdrawn takes the outcome of an answer's end, which is tried again if it failed.
func (in *inbox) withdrawn(o op) {
	if o.err != nil {
		in.served = append(in.served, &served{token: o.key >> 32, answer: o.key, given: true})
	}
}

var errEvicted = lost(ErrEvicted)
