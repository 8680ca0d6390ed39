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
	looking  bool       // the server has been asked
	begun    time.Time  // when it was asked last
	before   time.Time  // and the time before that, of which the answer is known
	requests []*request // that were there then
}

// A request is to be served once, and answered as long as it is there.
//
//	new      --what was held before it was made has ended--> served
//	         --there are younger holds of the key----------> doubtful
//	doubtful --a look later--------------------------------> served
//
// When a request was made is known by the looks alone: after the last one without it.
// Of the holds that have begun since that, those are ended that last until the look
// after it is seen. So a hold that begins after a request is ended only if it lasts
// from one look to the next.
type request struct {
	key, token int64
	seen       time.Time // when it was doubtful
	served     bool
	answer     int64 // the lock's key
	asked      bool  // the server has been asked for it
	given      bool  // the session has it
}

// lookLater has the sessions look for requests in a while, if there are locks, or
// answers of s to be withdrawn.
func (p *Postgres) lookLater(s *session) {
	if p.look == nil && (p.queue.holding > 0 || len(s.inbox.requests) > 0) && !p.queue.closed {
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
		if in := &s.inbox; !in.looking && (holds[s] || len(in.requests) > 0) && !p.queue.closed {
			in.begun = time.Now()
			in.looking = p.queue.request(s, op{code: opFlagged, key: flagClass<<32 | int64(s.backend.PID)})
		}
	}
}

// flagged takes the answer to whether there are requests. A flag that is down does not
// tell that those which are known are gone.
func (p *Postgres) flagged(s *session, o op) {
	in := &s.inbox
	if o.err == nil && o.value != 1 && len(in.requests) == 0 {
		in.looking, in.before = false, in.begun
		return
	}
	in.looking = p.queue.request(s, op{code: opRequests})
}

// requested takes the requests there are. It serves and answers those that are new,
// and withdraws the answers to those that are gone. It returns the keys that it has
// taken from holders.
func (p *Postgres) requested(s *session, o op, text string) (evicted []Key) {
	in := &s.inbox
	in.looking = false
	if o.err != nil {
		return nil
	}
	for _, r := range in.receive(text) {
		if r.given {
			p.queue.request(s, op{code: opWithdraw, key: r.answer})
		}
	}
	for _, r := range in.requests {
		if !r.served {
			if key, ok := p.serve(s, r); ok {
				evicted = append(evicted, key)
			}
		}
		if r.served && !r.asked && !r.given {
			r.answer = r.token<<32 | int64(p.chance.token())
			r.asked = p.queue.request(s, op{code: opAnswer, key: r.answer})
		}
	}
	in.before = in.begun
	return evicted
}

// receive has the inbox be the requests of a text, and returns those that are gone.
func (in *inbox) receive(text string) (gone []*request) {
	before := in.requests
	in.requests = nil
	for line := range strings.Lines(text) {
		var pid int64
		r := new(request)
		if _, err := fmt.Sscanf(line, requestFormat, &pid, &r.key, &r.token); err != nil {
			continue
		}
		if i := slices.IndexFunc(before, func(o *request) bool { return o.token == r.token }); i >= 0 {
			r = before[i]
			before = slices.Delete(before, i, i+1)
		}
		in.requests = append(in.requests, r)
	}
	for _, r := range before {
		if r.asked { // of which the outcome is to come
			in.requests = append(in.requests, r)
		} else {
			gone = append(gone, r)
		}
	}
	return gone
}

// serve ends the holds that a request is meant for, if the session has its key. It
// returns the key if it has ended any.
func (p *Postgres) serve(s *session, r *request) (evicted Key, ok bool) {
	e := p.queue.entries[r.key]
	if e == nil || e.state != held || e.session != s {
		r.served = true
		return Key{}, false
	}
	before, again := s.inbox.before, !r.seen.IsZero()
	switch {
	case again && time.Since(r.seen) < p.chance.looks: // two looks in quick succession
		return Key{}, false
	case again:
		before = r.seen
	}
	evicted = e.key
	n, left := p.queue.evict(e, before, errEvicted)
	r.seen, r.served = time.Now(), again || left == 0
	return evicted, n > 0
}

// given takes the outcome of an answer. Should others have had that very lock, there
// is another when the session looks next.
func (in *inbox) given(o op) {
	for _, r := range in.requests {
		if r.asked && r.answer == o.key {
			r.asked, r.given = false, o.err == nil && o.value == 1
		}
	}
}

// withdrawn takes the outcome of an answer's end, which is tried again if it failed.
func (in *inbox) withdrawn(o op) {
	if o.err != nil {
		in.requests = append(in.requests, &request{token: o.key >> 32, answer: o.key, served: true, given: true})
	}
}

var errEvicted = lost(ErrEvicted)
