package lock

import (
	"errors"
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
	wanted  []*entry    // that found none idle, and poll meanwhile
	retire  *time.Timer // of those that have been idle for long
}

// parkingTime is how long a statement waits at most. It holds a snapshot
// meanwhile, which vacuum and CREATE INDEX CONCURRENTLY wait for.
func parkingTime(o *PostgresOptions) time.Duration { return min(time.Second, o.Silence/3) }

// parkingIdle is how long a spare session is kept unused.
const parkingIdle = 30 * time.Second

// park implements server: a spare session waits for the key of e, if one is
// idle; there may be one when it is asked next.
func (p *Postgres) park(e *entry) bool {
	if !e.rival || e.line.tries > 0 || p.opts.Parking < 0 || p.withheld(e) {
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
	p.unpark(e)
	e.turn, e.parked = time.Time{}, s
	return true
}

// unpark implements server.
func (p *Postgres) unpark(e *entry) {
	if e.wanted {
		e.wanted = false
		p.parking.wanted = slices.DeleteFunc(p.parking.wanted, func(other *entry) bool { return other == e })
	}
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

// waited takes the answer to a wait. One slice follows another until the key is
// granted, or nobody waits any more; see [queue.attend] for the waiters' patience.
func (p *Postgres) waited(s *session, o op, at time.Time) {
	if o.err == nil && o.value == waitOver || pgdb.Code(o.err) == queryCanceled {
		o.err = nil
		if p.waitsOn(o.entry) && p.waitOn(s, o.entry) {
			return
		}
		p.vacate(s)
	} else if o.value != 1 { // it failed, or found the key guarded, which there is no queue for
		o.entry.rival = false
		p.vacate(s)
	} else if p.refuses(s, o) {
		o.value = 0
	}
	p.queue.answered(o.entry, o.value == 1, s, o.err, at)
}

// waitsOn reports whether e is to be waited for as it was. If others look for
// a spare session, they get this one, and e polls; tries are not kept waiting.
func (p *Postgres) waitsOn(e *entry) bool {
	first := e.first()
	return first != nil && first.mode == e.mode && e.line.tries == 0 && len(p.parking.wanted) == 0
}

// vacate makes a spare session idle, or gives it to the first who wanted one.
func (p *Postgres) vacate(s *session) {
	if !slices.Contains(p.parking.all, s) {
		return
	}
	p.parking.idle = append(p.parking.idle, s)
	for len(p.parking.wanted) > 0 && len(p.parking.idle) > 0 {
		e := p.parking.wanted[0]
		p.unpark(e)
		p.queue.rouse(e)
	}
	if len(p.parking.idle) > 0 {
		s.unused = time.Now()
		if p.parking.retire == nil {
			p.parking.retire = time.AfterFunc(parkingIdle, p.retire)
		}
	}
}

// retire closes the spare sessions that have been idle for long.
func (p *Postgres) retire() {
	p.queue.mu.Lock()
	p.parking.retire = nil
	var old []*session
	soonest := parkingIdle
	for _, s := range slices.Clone(p.parking.idle) {
		if left := parkingIdle - time.Since(s.unused); left <= 0 {
			old = append(old, s)
			p.parking.remove(s)
		} else {
			soonest = min(soonest, left)
		}
	}
	if len(p.parking.idle) > 0 && !p.queue.closed {
		p.parking.retire = time.AfterFunc(soonest, p.retire)
	}
	p.queue.unlock()
	for _, s := range old {
		s.leave()
	}
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
	if errors.Is(err, errNoQueue) {
		p.opts.Parking = -1
	}
	if err == nil && !closed {
		p.parking.all = append(p.parking.all, s)
		p.queue.counts.Sessions++
		p.vacate(s)
	}
	p.queue.unlock()
	switch {
	case err != nil:
		p.opts.Logger.Warn("lock: cannot open another connection to wait on", "error", err)
	case closed:
		s.end(ErrClosed)
	default:
		p.serve(s)
	}
}
