package lock

import (
	"errors"
	"slices"
	"time"

	"example.com/lockstore/internal/pgdb"
)

// waitConns holds the wait connections: sessions that wait for keys in the server's own queue.
// That queue is fair between processes, while polling is not: the server gives an unlocked key
// to the first in the queue, and denies a try while there is one.
//
//	idle     has no key
//	waiting  for a key, in slices of waitSlice
//	holding  the key, until its last holder here has left
//
//	idle    --waitAtServer-> waiting
//	waiting --granted------> holding
//	        --slice is over> waiting  or idle, if nothing waits here any more
//	        --canceled-----> the same
//	        --guarded------> idle     and the key is polled for
//	holding --unlocked-----> idle
//
// Protected by table.mu.
type waitConns struct {
	all     []*session
	idle    []*session
	opening bool
	wanted  []*entry    // entries that found none idle, and poll meanwhile
	retire  *time.Timer // closes those that have been idle for long
}

// waitSlice is how long one statement waits at most. It holds a snapshot meanwhile, which
// vacuum and CREATE INDEX CONCURRENTLY wait for.
func waitSlice(o *PostgresOptions) time.Duration { return min(time.Second, o.Silence/3) }

// waitConnIdle is how long an idle wait connection is kept.
const waitConnIdle = 30 * time.Second

// waitAtServer implements server. An idle wait connection waits for the key of e. If none is
// idle it reports false; there may be one when it is called next.
func (p *Postgres) waitAtServer(e *entry) bool {
	if !e.contended || e.waiters.tries > 0 || p.opts.WaitConns < 0 || p.withheld(e) {
		return false
	}
	if len(p.waitConns.idle) == 0 {
		if !e.wanted {
			e.wanted = true
			p.waitConns.wanted = append(p.waitConns.wanted, e)
		}
		if len(p.waitConns.all) < p.opts.WaitConns && !p.waitConns.opening && !p.table.closed {
			p.waitConns.opening = true
			p.work.Go(p.openWaitConn)
		}
		return false
	}
	s := p.waitConns.idle[0]
	p.waitConns.idle = p.waitConns.idle[1:]
	if !p.waitOn(s, e) {
		p.waitConns.remove(s)
		return false
	}
	p.dropWanted(e)
	e.periodStart, e.waitConn = time.Time{}, s
	return true
}

// dropWanted implements server.
func (p *Postgres) dropWanted(e *entry) {
	if e.wanted {
		e.wanted = false
		p.waitConns.wanted = slices.DeleteFunc(p.waitConns.wanted, func(other *entry) bool { return other == e })
	}
}

func (p *Postgres) waitOn(s *session, e *entry) bool {
	if e.mode == shared {
		return p.table.submit(s, op{code: opWaitShared, key: e.key.id, entry: e})
	}
	return p.table.submit(s, op{code: opWait, key: e.key.id, entry: e})
}

// abandon implements server. It ends at once a wait at the server that nothing here waits for.
// A cancellation that comes too late does no harm to the next wait.
func (p *Postgres) abandon(e *entry) {
	if e.waitConn != nil && p.session != nil {
		p.table.submit(p.session, op{code: opCancel, key: int64(e.waitConn.backend.PID)})
	}
}

// waited takes the answer to a wait at the server. One slice follows another until the key is
// granted, or nothing waits any more. [keyTable.attend] applies the waiters' policies meanwhile.
func (p *Postgres) waited(s *session, o op, at time.Time) {
	if o.err == nil && o.value == waitEnded || pgdb.Code(o.err) == queryCanceled {
		o.err = nil
		if p.waitsOn(o.entry) && p.waitOn(s, o.entry) {
			return
		}
		p.freeWaitConn(s)
	} else if o.value != 1 { // it failed, or the key is guarded, for which there is no queue
		o.entry.contended = false
		p.freeWaitConn(s)
	} else if p.refuses(s, o) {
		o.value = 0
	}
	p.table.answered(o.entry, o.value == 1, s, o.err, at)
}

// waitsOn reports whether the next slice is to follow. If other entries want a wait
// connection, they get this one, and e polls. Tries must not wait for it.
func (p *Postgres) waitsOn(e *entry) bool {
	first := e.first()
	return first != nil && first.mode == e.mode && e.waiters.tries == 0 && len(p.waitConns.wanted) == 0
}

// freeWaitConn makes a wait connection idle, or gives it to the first entry that wants one.
func (p *Postgres) freeWaitConn(s *session) {
	if !slices.Contains(p.waitConns.all, s) {
		return
	}
	p.waitConns.idle = append(p.waitConns.idle, s)
	for len(p.waitConns.wanted) > 0 && len(p.waitConns.idle) > 0 {
		e := p.waitConns.wanted[0]
		p.dropWanted(e)
		p.table.retryNow(e)
	}
	if len(p.waitConns.idle) > 0 {
		s.unused = time.Now()
		if p.waitConns.retire == nil {
			p.waitConns.retire = time.AfterFunc(waitConnIdle, p.retire)
		}
	}
}

// retire closes the wait connections that have been idle for long.
func (p *Postgres) retire() {
	p.table.mu.Lock()
	p.waitConns.retire = nil
	var old []*session
	soonest := waitConnIdle
	for _, s := range slices.Clone(p.waitConns.idle) {
		if left := waitConnIdle - time.Since(s.unused); left <= 0 {
			old = append(old, s)
			p.waitConns.remove(s)
		} else {
			soonest = min(soonest, left)
		}
	}
	if len(p.waitConns.idle) > 0 && !p.table.closed {
		p.waitConns.retire = time.AfterFunc(soonest, p.retire)
	}
	p.table.unlock()
	for _, s := range old {
		s.leave()
	}
}

func (k *waitConns) remove(s *session) {
	is := func(t *session) bool { return s == t }
	k.all, k.idle = slices.DeleteFunc(k.all, is), slices.DeleteFunc(k.idle, is)
}

// openWaitConn opens a wait connection, and serves it.
func (p *Postgres) openWaitConn() {
	s, err := p.connect(p.life, true)
	p.table.mu.Lock()
	p.waitConns.opening = false
	closed := p.table.closed
	if errors.Is(err, errNoQueue) {
		p.opts.WaitConns = -1
	}
	if err == nil && !closed {
		p.waitConns.all = append(p.waitConns.all, s)
		p.table.counts.Sessions++
		p.freeWaitConn(s)
	}
	p.table.unlock()
	switch {
	case err != nil:
		p.opts.Logger.Warn("lock: cannot open another connection to wait on", "error", err)
	case closed:
		s.end(ErrClosed)
	default:
		p.serve(s)
	}
}
