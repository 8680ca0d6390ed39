package lock

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	others "example.com/lockstore/internal/waiting"
)

// This file is the holder's side of an eviction: how a session finds what is requested of it,
// and answers. See evictFormat. It finds questions about waiters in the same way.

// evictRequestsSQL reads the requests to the session's process, one a line, of roles that may
// terminate it (PostgreSQL source, pg_signal_backend), and the questions of roles that may see
// what it does (PostgreSQL documentation, 27.2.3 pg_stat_activity).
const evictRequestsSQL = `(SELECT string_agg(a.application_name, chr(10))
FROM pg_stat_get_activity(NULL) AS a, pg_stat_get_activity(pg_backend_pid()) AS own
WHERE CASE WHEN starts_with(a.application_name, '` + evictPrefix + `' || own.pid || ' ') THEN
		CASE WHEN (SELECT r.rolsuper FROM pg_roles AS r WHERE r.oid = a.usesysid) THEN true
		WHEN (SELECT r.rolsuper FROM pg_roles AS r WHERE r.oid = own.usesysid) THEN false
		ELSE pg_has_role(a.usesysid, own.usesysid, 'USAGE') OR pg_has_role(a.usesysid, 'pg_signal_backend', 'USAGE') END
	WHEN a.datid = own.datid AND starts_with(a.application_name, '` + questionPrefix + `') THEN
		pg_has_role(a.usesysid, own.usesysid, 'USAGE') OR pg_has_role(a.usesysid, 'pg_read_all_stats', 'USAGE')
	ELSE false END)`

// flagged reports whether the session's flag is raised, or the flag for questions to all
// processes.
var flagged = "NOT (pg_try_advisory_xact_lock(key) AND pg_try_advisory_xact_lock_shared(" + strconv.FormatInt(flags, 10) + "))"

// An evictRequest is what another session asks of one here, for as long as it asks.
//
// A session looks for requests now and then, so the time of a request is known only to lie
// between two looks. What was held at the last look without the request is given up at once,
// and other holds one look later. So a hold that began after the request ends only if it lasts
// from one look to the next. From the first look on the key is withheld: no other caller here
// takes it over.
type evictRequest struct {
	session *session
	key     int64
	token   uint32
	seen    time.Time // when it was first seen
}

// looks are when a session looked for requests. Protected by table.mu.
type looks struct {
	asking bool      // a look is under way
	begun  time.Time // start of the last look
	before time.Time // start of the last look that has been answered
	moved  bool      // the session has done something since its last opRest
}

// isActive reports whether there are locks, waiters, requests or questions.
func (p *Postgres) isActive() bool {
	return p.table.holding+p.table.waiting+len(p.evictRequests)+len(p.questions) > 0 || others.Any()
}

// lookLater schedules the next look for requests: soon if calls wait, about which others may
// ask, and very soon for a while after a question. When there is nothing to report any more,
// the session says so instead of looking.
func (p *Postgres) lookLater() {
	if p.look != nil || p.table.closed || !p.isActive() && (p.session == nil || !p.session.looks.moved) {
		return
	}
	wait := p.chance.looks
	switch {
	case time.Since(p.asked) < askedAgain:
		wait /= 10
	case p.table.waiting > 0 || others.Any():
		wait /= 5
	}
	p.look = time.AfterFunc(wait, p.lookNow)
}

// lookNow looks for requests on every session that holds a key, or that has requests. While
// any key is being asked for, it does so on all of them: a session may hold a key that many
// want for a moment, again and again, but at no look. A session that waits at the server looks
// when that wait is answered. The answers schedule the next look.
func (p *Postgres) lookNow() {
	p.table.mu.Lock()
	defer p.table.unlock()
	p.look = nil
	if p.session != nil && !p.isActive() {
		p.session.looks.moved = false
		p.table.submit(p.session, op{code: opRest})
		return
	}
	looks, all := map[*session]bool{p.session: true}, false
	for _, r := range p.evictRequests {
		looks[r.session] = true
	}
	for _, e := range p.table.entries {
		if e.state == held {
			looks[e.session] = true
		} else {
			all = true
		}
	}
	for _, s := range p.sessions() {
		if (all || looks[s]) && !s.looks.asking && !p.table.closed {
			s.looks.begun = time.Now()
			s.looks.asking = p.table.submit(s, op{code: opFlagged, key: flags | int64(s.backend.PID)})
		}
	}
}

// flagged takes the answer to whether there are requests. A flag that is down does not mean
// that the known requests are gone.
func (p *Postgres) flagged(s *session, o op) {
	known := slices.ContainsFunc(p.evictRequests, func(r *evictRequest) bool { return r.session == s }) || s == p.session && len(p.questions) > 0
	if o.err == nil && o.value != 1 && !known {
		s.looks.asking, s.looks.before = false, s.looks.begun
		return
	}
	s.looks.asking = p.table.submit(s, op{code: opRequests})
}

// readEvictRequests takes the present requests to a session, one a line of s.text, and returns
// the keys that it has taken from holders.
func (p *Postgres) readEvictRequests(s *session, o op) (evicted []Key) {
	s.looks.asking = false
	if o.err != nil {
		return nil
	}
	there := make(map[uint32]bool)
	var questions []question
	for line := range strings.Lines(s.text) {
		var q question
		if _, err := fmt.Sscanf(line, questionFormat, &q.key, &q.token); err == nil && len(questions) < mostQuestions {
			questions = append(questions, q)
		}
		var pid int64
		r := &evictRequest{session: s}
		if _, err := fmt.Sscanf(line, evictFormat, &pid, &r.key, &r.token); err != nil {
			continue
		}
		there[r.token] = true
		if !slices.ContainsFunc(p.evictRequests, func(o *evictRequest) bool { return o.session == s && o.token == r.token }) {
			p.evictRequests = append(p.evictRequests, r)
		}
	}
	p.dropEvictRequests(func(r *evictRequest) bool { return r.session == s && !there[r.token] })
	if s == p.session {
		p.questioned(questions)
		if len(questions) > 0 {
			p.sayAgain(s)
		}
	}
	for _, r := range p.evictRequests {
		if r.session == s {
			evicted = append(evicted, p.giveUp(r)...)
		}
	}
	s.looks.before = s.looks.begun
	return evicted
}

// giveUp ends the holds that a request is meant for, and returns their key if there were any.
func (p *Postgres) giveUp(r *evictRequest) []Key {
	before, now := r.session.looks.before, time.Now()
	switch {
	case r.seen.IsZero():
		r.seen = now
	case now.Sub(r.seen) >= p.chance.looks:
		before = now
	default:
		return nil
	}
	e := p.table.entries[r.key]
	if e == nil || e.state != held || e.session != r.session {
		return nil
	}
	key := e.key
	if p.table.evict(e, before, errEvicted) == 0 {
		return nil
	}
	return []Key{key}
}

// dropEvictRequests forgets requests that are gone, and lets the waiters for their keys go on.
func (p *Postgres) dropEvictRequests(gone func(*evictRequest) bool) {
	before := p.evictRequests
	p.evictRequests = slices.DeleteFunc(slices.Clone(before), gone)
	for _, r := range before {
		e := p.table.entries[r.key]
		switch {
		case e == nil || !gone(r) || p.withheld(e):
		case e.state == held:
			p.table.share(e)
		default:
			p.table.retryNow(e)
		}
	}
}

// withheld implements server. It reports whether others have requested the key.
func (p *Postgres) withheld(e *entry) bool {
	return slices.ContainsFunc(p.evictRequests, func(r *evictRequest) bool { return r.key == e.key.id })
}

// refuses gives back a key that was granted while others have requested it.
func (p *Postgres) refuses(s *session, o op) bool {
	if !p.withheld(o.entry) {
		return false
	}
	unlock := op{code: opUnlock, key: o.key}
	if o.code == opTryShared || o.code == opWaitShared {
		unlock.code = opUnlockShared
	}
	return p.table.submit(s, unlock)
}

var errEvicted = lost(ErrEvicted)
