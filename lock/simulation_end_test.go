package lock

import (
	"context"
	"time"
)

// How a play ends: all damage is repaired, every call is answered, and nothing is left.

func (w *world) finish() {
	for _, p := range w.processes {
		if p.frozen.Load() {
			p.thaw()
		}
	}
	w.model(func() {
		w.server.down = false
		for len(w.outsiders) > 0 {
			w.endOutsider(0)
		}
	})
	w.Calm()
	w.answerAll()
	w.awaitWorkers()
	w.comeToRest()
	if w.Broken() == "" {
		w.checkRest()
	}
	w.closeAll()
}

// pump runs all that can happen at once. It reports whether no rule was broken.
func (w *world) pump() bool {
	for any := true; any; {
		any = false
		for _, b := range w.server.backends {
			tripped := false
			w.model(func() { tripped = b.conn != nil && b.conn.trip() })
			if tripped {
				any = true
				w.Settle()
			}
		}
		for len(w.dials) > 0 {
			w.accept(w.dials[0])
			any = true
		}
		w.Settle()
		w.check()
		if w.Broken() != "" {
			return false
		}
	}
	return true
}

// longest is how long everything may take at the end: sessions that are cut off must be
// noticed, and waiters be served.
const longest = 90 * time.Second

// until pumps, and lets time pass, until done. It reports false if that takes too long.
func (w *world) until(done func() bool) bool {
	begin, pause := time.Now(), 2*time.Millisecond
	for w.pump() {
		if done() {
			return true
		}
		if time.Since(begin) > longest {
			return false
		}
		w.Sleep(pause)
		pause = min(2*pause, w.options.Silence/8)
	}
	return true
}

// answerAll lets every call end, and unlocks what it got.
func (w *world) answerAll() {
	answered := w.until(func() bool {
		var holders []*call
		w.model(func() { holders = w.holders() })
		for _, c := range holders {
			c.unlock(false, 1)
			w.Settle()
		}
		over := false
		w.model(func() { over = len(w.calls) == 0 })
		return over
	})
	if !answered {
		for _, l := range w.server.table {
			for _, g := range l.holders {
				w.Tell("%s has %v: %v", g.backend, l.key, g.n)
			}
		}
		for _, c := range w.calls {
			w.Problem("LIVENESS", "%s, %s of %s, is not over: answered: %t, unlocked: %t", c, c.method, c.keys, c.done, c.unlocked)
		}
	}
}

// awaitWorkers waits for evictions, and calls of Close, which end by themselves.
func (w *world) awaitWorkers() {
	over := make(chan struct{})
	go func() {
		w.working.Wait()
		close(over)
	}()
	isOver := func() bool {
		select {
		case <-over:
			return true
		default:
			return false
		}
	}
	if !w.until(isOver) {
		w.Problem("LIVENESS", "Evict or Close does not return")
	}
}

func (w *world) comeToRest() {
	rests := w.until(func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, b := range w.server.backends {
			if b.alive && b.conn != nil && b.conn.cut != (cut{}) {
				return false
			}
		}
		for _, p := range w.processes {
			if p.postgres == nil || p.closing {
				continue
			}
			if k := &p.postgres.waitConns; p.postgres.session == nil || p.postgres.session.looks.moved || len(k.all) != len(k.idle) || len(p.table.entries)+len(p.postgres.evictRequests) > 0 {
				return false
			}
			for _, s := range p.sessions {
				if s.isBusy() {
					return false
				}
			}
		}
		for _, l := range w.server.table {
			if len(l.holders)+len(l.queue) > 0 {
				return false
			}
		}
		return true
	})
	if !rests {
		for _, l := range w.server.table {
			for _, g := range l.holders {
				w.Problem("LEAK", "%s has %v: %v", g.backend, l.key, g.n)
			}
		}
		for _, p := range w.processes {
			w.Problem("LEAK", "%s does not come to rest: %+v", p, p.table.stats())
		}
	}
}

// checkRest checks that nothing is left, and that the counts agree with what callers were
// told.
func (w *world) checkRest() {
	for _, p := range w.processes {
		q, o, s := p.table, &p.outcomes, p.table.stats()
		if s.Keys+s.Holders+s.Waiters+len(q.unsent) > 0 {
			w.Problem("LEAK", "%s: %+v, %d to be flushed", p, s, len(q.unsent))
		}
		if s.Busy != o.busy && o.panics == 0 {
			w.Problem("STATS", "%s: %d calls were busy, counted as %d", p, o.busy, s.Busy)
		}
		if !w.all && o.panics == 0 {
			if s.Acquired != o.granted || s.Evicted != o.evicted || s.Lost > o.lost {
				w.Problem("STATS", "%s: %+v, counted as %+v", p, *o, s)
			}
		} else if s.Acquired < o.granted || s.Busy < o.busy || s.Evicted < o.evicted {
			w.Problem("STATS", "%s: at least %+v, counted as %+v", p, *o, s)
		}
		if s.WaitTime > o.waited && !w.all && o.panics == 0 || s.HandedOff > s.Acquired {
			w.Problem("STATS", "%s: %+v, counted as %+v", p, *o, s)
		}
		if p.observer != nil {
			if b := p.observer; !w.panics && (b.calls.open()|b.holds.open()|b.connects.open()|b.batches.open() != 0 ||
				!w.all && (b.calls.ended != o.calls || b.holds.ended != o.granted)) {
				w.Problem("STATS", "%s: an observer was told %+v of %+v", p, *b, *o)
			}
		}
		if g := p.postgres; g != nil && !p.closing && len(g.backlog)+len(g.evictRequests)+len(g.waitConns.wanted) > 0 {
			w.Problem("LEAK", "%s: %d in the backlog, %d requests, %d want a wait connection", p, len(g.backlog), len(g.evictRequests), len(g.waitConns.wanted))
		}
		if g := p.postgres; g != nil && !p.closing && g.session != nil {
			if b := w.server.backend(int64(g.session.backend.PID)); b != nil && b.last != opRest {
				w.Problem("REST", "%s has nothing to tell, and does not say so", b)
			}
		}
	}
}

// closeAll closes every Locker. A goroutine that is left then fails the play.
func (w *world) closeAll() {
	if w.memory || w.Broken() != "" { // what hangs cannot be ended
		return
	}
	for _, p := range w.processes {
		w.model(func() { p.closing = true })
		w.working.Go(func() {
			if err := p.postgres.Close(context.Background()); err != nil {
				w.Problem("ERROR", "%s: Close: %v", p, err)
			}
		})
	}
	w.Settle()
	w.awaitWorkers()
	for _, b := range w.server.backends {
		if b.conn != nil && !b.conn.closed {
			w.Problem("LEAK", "the connection of %s is open", b)
		}
	}
	w.Sleep(time.Minute) // what timers are left
}
