package lock

import (
	"slices"
	"time"

	"example.com/lockstore/internal/pgdb"
)

// parking are the spare sessions, on which keys are waited for in the
// server's own queue. That queue is fair between processes where polling is
// not: the server gives a key that is unlocked to the first in it, and denies
// a try while there is one.
//
//	idle     no key's
//	waiting  for a key, in slices of parkingTime
//	holding  the key, until its last holder here has left
//
//	idle    --park---------> waiting
//	waiting --granted------> holding
//	        --slice is over> waiting  or idle, if nobody waits here any more
//	        --cancelled----> the same
//	        --guarded------> idle     and the key is polled for
//	holding --unlocked-----> idle
//
// Guarded by queue.mu.
type parking struct {
	all     []*session
	idle    []*session
	opening bool
	wanted  []*entry // that found none idle, and poll meanwhile
}

// parkingTime is how long a statement waits at most. It holds a snapshot
// meanwhile, which vacuum and CREATE INDEX CONCURRENTLY wait for.
func parkingTime(o *PostgresOptions) time.Duration { return min(time.Second, o.Silence/3) }

// parkingIdle is how long a spare session is kept unused.
const parkingIdle = 30 * time.Second

// park implements server: a spare session waits for the key of e, if one is
// idle; there may be one when it is asked next.
func (p *Postgres) park(e *entry) bool {
	if !e.rival || e.first().try {
		return false
	}
	if len(p.parking.idle) == 0 {
		if !e.wanted {
			e.wanted = true
			p.parking.wanted = append(p.parking.wanted, e)
		}
		if len(p.parking.all) < p.opts.Parking && !p.parking.opening && !p.queue.closed {
			p.parking.opening = true
			p.work.Go(p.openSpare)
		}
		return false
	}
	s := p.parking.idle[0]
	p.parking.idle = p.parking.idle[1:]
	if !p.waitOn(s, e) {
		p.parking.remove(s)
		return false
	}
	e.turn, e.parked = time.Time{}, s
	return true
}

func (p *Postgres) waitOn(s *session, e *entry) bool {
	if e.mode == shared {
		return p.queue.request(s, op{code: opWaitShared, key: e.key.id, entry: e})
	}
	return p.queue.request(s, op{code: opWait, key: e.key.id, entry: e})
}

// abandon implements server: it has a wait end at once that nobody waits for.
// Should the cancellation come too late, it does no harm to the next.
func (p *Postgres) abandon(e *entry) {
	if e.parked != nil && p.session != nil {
		p.queue.request(p.session, op{code: opCancel, key: int64(e.parked.backend.PID)})
	}
}

// waited takes the answer to a wait. One slice follows another until the key
// is granted; the policy is asked whenever its next poll would have been due.
func (p *Postgres) waited(s *session, o op, at time.Time) {
	if code := pgdb.Code(o.err); code == pgdb.LockNotAvailable || code == queryCanceled {
		o.err = nil
		if p.waitsOn(o.entry) && p.waitOn(s, o.entry) {
			return
		}
		p.vacate(s)
	} else if o.value != 1 { // it failed, or found the key guarded, which there is no queue for
		o.entry.rival = false
		p.vacate(s)
	}
	p.queue.answered(o.entry, o.value == 1, s, o.err, at)
}

// waitsOn reports whether e is to be waited for as it was. If others look for
// a spare session, they get this one, and e polls.
func (p *Postgres) waitsOn(e *entry) bool {
	first := e.first()
	if first == nil || first.mode != e.mode || len(p.parking.wanted) > 0 {
		return false
	}
	if now := time.Now(); now.After(e.due) {
		wait, ok := e.polls.Next()
		if !ok {
			return false
		}
		first.attempts++
		e.due = now.Add(wait)
	}
	return true
}

// vacate makes a spare session idle, or gives it to the first who wanted one.
func (p *Postgres) vacate(s *session) {
	if !slices.Contains(p.parking.all, s) {
		return
	}
	p.parking.idle = append(p.parking.idle, s)
	for len(p.parking.wanted) > 0 && len(p.parking.idle) > 0 {
		e := p.parking.wanted[0]
		p.parking.wanted = p.parking.wanted[1:]
		e.wanted = false
		p.queue.rouse(e)
	}
	if len(p.parking.idle) > 0 {
		s.unused = time.Now()
		time.AfterFunc(parkingIdle, func() { p.retire(s) })
	}
}

// retire closes a spare session that has been idle since it was vacated.
func (p *Postgres) retire(s *session) {
	p.queue.mu.Lock()
	i := slices.Index(p.parking.idle, s)
	if i < 0 || time.Since(s.unused) < parkingIdle {
		p.queue.unlock()
		return
	}
	p.parking.remove(s)
	p.queue.unlock()
	s.leave()
}

func (k *parking) remove(s *session) {
	is := func(t *session) bool { return s == t }
	k.all, k.idle = slices.DeleteFunc(k.all, is), slices.DeleteFunc(k.idle, is)
}

// openSpare adds a spare session, and serves it.
func (p *Postgres) openSpare() {
	s, err := p.connect(p.life, true)
	p.queue.mu.Lock()
	p.parking.opening = false
	closed := p.queue.closed
	if err == nil && !closed {
		p.parking.all = append(p.parking.all, s)
		p.queue.counts.Sessions++
		p.vacate(s)
	}
	p.queue.unlock()
	switch {
	case err != nil:
		p.opts.Logger.Warn("lock: cannot open another connection to wait on", "err", err)
	case closed:
		s.end(ErrClosed)
	default:
		s.serve()
	}
}
