package lock

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	others "example.com/lockstore/internal/waiting"
)

// What follows is the holder's side of an eviction: how a session finds out what is
// requested of it, and answers. See requestFormat. It finds questions in the same way.

// requestsSQL are the requests of the session's process, one a line, whose roles may
// terminate it (PostgreSQL source, pg_signal_backend), and the questions of those who may
// see what it does (PostgreSQL documentation, 27.2.3 pg_stat_activity).
const requestsSQL = `(SELECT string_agg(a.application_name, chr(10))
FROM pg_stat_get_activity(NULL) AS a, pg_stat_get_activity(pg_backend_pid()) AS own
WHERE CASE WHEN starts_with(a.application_name, '` + requestPrefix + `' || own.pid || ' ') THEN
		CASE WHEN (SELECT r.rolsuper FROM pg_roles AS r WHERE r.oid = a.usesysid) THEN true
		WHEN (SELECT r.rolsuper FROM pg_roles AS r WHERE r.oid = own.usesysid) THEN false
		ELSE pg_has_role(a.usesysid, own.usesysid, 'USAGE') OR pg_has_role(a.usesysid, 'pg_signal_backend', 'USAGE') END
	WHEN a.datid = own.datid AND starts_with(a.application_name, '` + questionPrefix + `') THEN
		pg_has_role(a.usesysid, own.usesysid, 'USAGE') OR pg_has_role(a.usesysid, 'pg_read_all_stats', 'USAGE')
	ELSE false END)`

// flagged tells that the session's flag is up, or that of all who are asked who waits.
var flagged = "NOT (pg_try_advisory_xact_lock(key) AND pg_try_advisory_xact_lock_shared(" + strconv.FormatInt(flags, 10) + "))"

// A request is what another session asks of one here, for as long as it does.
//
// When it was made is known by the looks alone: after the last one without it. What was
// held before that is given up at once, and what is held besides at a look later: so a
// hold that began after the request is ended only if it lasts from one look to the
// next. From the first look on the key is withheld: nobody here takes it over.
type request struct {
	session *session
	key     int64
	token   uint32
	seen    time.Time // first
}

// looks are those of a session. Guarded by queue.mu.
type looks struct {
	asking bool      // the server
	begun  time.Time // the last one
	before time.Time // the last one of which the answer is known, when that was begun
	moved  bool      // it has done something since it rested
}

// isActive reports whether there are locks, calls that wait, requests or questions.
func (p *Postgres) isActive() bool {
	return p.queue.holding+p.queue.waiting+len(p.requests)+len(p.questions) > 0 || others.Any()
}

// lookLater has the sessions look for requests in a while: soon where calls wait, whom
// others may ask about, and very soon for a while after somebody has. Where there is
// nothing to tell any more, the session says that instead.
func (p *Postgres) lookLater() {
	if p.look != nil || p.queue.closed || !p.isActive() && (p.session == nil || !p.session.looks.moved) {
		return
	}
	wait := p.chance.looks
	switch {
	case time.Since(p.asked) < askedAgain:
		wait /= 10
	case p.queue.waiting > 0 || others.Any():
		wait /= 5
	}
	p.look = time.AfterFunc(wait, p.lookNow)
}

// lookNow has every session look that holds a key, or that something is requested of, and
// all of them while a key is on its way: one that many want is held by a session for a
// moment, again and again, but at no look. What waits in the server looks then. The next
// time comes with an answer.
func (p *Postgres) lookNow() {
	p.queue.mu.Lock()
	defer p.queue.unlock()
	p.look = nil
	if p.session != nil && !p.isActive() {
		p.session.looks.moved = false
		p.queue.request(p.session, op{code: opRest})
		return
	}
	looks, all := map[*session]bool{p.session: true}, false
	for _, r := range p.requests {
		looks[r.session] = true
	}
	for _, e := range p.queue.entries {
		if e.state == held {
			looks[e.session] = true
		} else {
			all = true
		}
	}
	for _, s := range p.sessions() {
		if (all || looks[s]) && !s.looks.asking && !p.queue.closed {
			s.looks.begun = time.Now()
			s.looks.asking = p.queue.request(s, op{code: opFlagged, key: flags | int64(s.backend.PID)})
		}
	}
}

// flagged takes the answer to whether there are requests. A flag that is down does not
// tell that those which are known are gone.
func (p *Postgres) flagged(s *session, o op) {
	known := slices.ContainsFunc(p.requests, func(r *request) bool { return r.session == s }) || s == p.session && len(p.questions) > 0
	if o.err == nil && o.value != 1 && !known {
		s.looks.asking, s.looks.before = false, s.looks.begun
		return
	}
	s.looks.asking = p.queue.request(s, op{code: opRequests})
}

// requested takes the requests of a session that there are, one a line, and returns the
// keys that it has taken from holders.
func (p *Postgres) requested(s *session, o op, text string) (evicted []Key) {
	s.looks.asking = false
	if o.err != nil {
		return nil
	}
	there := make(map[uint32]bool)
	var questions []question
	for line := range strings.Lines(text) {
		var q question
		if _, err := fmt.Sscanf(line, questionFormat, &q.key, &q.token); err == nil && len(questions) < mostQuestions {
			questions = append(questions, q)
		}
		var pid int64
		r := &request{session: s}
		if _, err := fmt.Sscanf(line, requestFormat, &pid, &r.key, &r.token); err != nil {
			continue
		}
		there[r.token] = true
		if !slices.ContainsFunc(p.requests, func(o *request) bool { return o.session == s && o.token == r.token }) {
			p.requests = append(p.requests, r)
		}
	}
	p.dropRequests(func(r *request) bool { return r.session == s && !there[r.token] })
	if s == p.session {
		p.questioned(questions)
	}
	for _, r := range p.requests {
		if r.session == s {
			evicted = append(evicted, p.giveUp(r)...)
		}
	}
	s.looks.before = s.looks.begun
	return evicted
}

// giveUp ends the holds that a request is meant for, and returns their key if there
// were any.
func (p *Postgres) giveUp(r *request) (evicted []Key) {
	before, now := r.session.looks.before, time.Now()
	switch {
	case r.seen.IsZero():
		r.seen = now
	case now.Sub(r.seen) >= p.chance.looks:
		before = now
	default:
		return nil
	}
	e := p.queue.entries[r.key]
	if e == nil || e.state != held || e.session != r.session {
		return nil
	}
	key := e.key
	if p.queue.evict(e, before, errEvicted) > 0 {
		evicted = append(evicted, key)
	}
	return evicted
}

// dropRequests forgets requests that are gone, and has those served who wait for their
// keys.
func (p *Postgres) dropRequests(gone func(*request) bool) {
	before := p.requests
	p.requests = slices.DeleteFunc(slices.Clone(before), gone)
	for _, r := range before {
		e := p.queue.entries[r.key]
		switch {
		case e == nil || !gone(r) || p.withheld(e):
		case e.state == held:
			p.queue.share(e)
		default:
			p.queue.rouse(e)
		}
	}
}

// withheld implements server: others have requested the key.
func (p *Postgres) withheld(e *entry) bool {
	return slices.ContainsFunc(p.requests, func(r *request) bool { return r.key == e.key.id })
}

// refuses gives a key back that was granted while others have requested it.
func (p *Postgres) refuses(s *session, o op) bool {
	if !p.withheld(o.entry) {
		return false
	}
	unlock := op{code: opUnlock, key: o.key}
	if o.code == opTryShared || o.code == opWaitShared {
		unlock.code = opUnlockShared
	}
	return p.queue.request(s, unlock)
}

var errEvicted = lost(ErrEvicted)
