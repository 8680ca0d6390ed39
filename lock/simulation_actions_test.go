package lock

import (
	"time"

	"example.com/lockstore/internal/simulate"
)

// What can happen next in a world, and how often.

func (w *world) offer() []simulate.Action {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.actions = w.actions[:0]
	add := func(weight int, do func()) {
		w.actions = append(w.actions, simulate.Action{Weight: weight, Do: do})
	}
	model := func(weight int, do func()) { add(weight, func() { w.model(do) }) }
	add(14, w.callAny)
	add(8, func() {
		w.Sleep(simulate.One(w.Schedule, 100*time.Microsecond, time.Millisecond, 3*time.Millisecond, 10*time.Millisecond, 60*time.Millisecond))
	})
	add(1, func() { w.Sleep(simulate.One(w.Schedule, 300*time.Millisecond, time.Second)) })
	w.offerHolders(add)
	if w.memory {
		return w.actions
	}
	w.offerWire(model)
	for _, d := range w.dials {
		add(10, func() {
			if w.server.down || w.Chance(w.faults) {
				w.refuse(d)
			} else {
				w.accept(d)
			}
		})
	}
	model(1, w.outsider)
	if n := len(w.outsiders); n > 0 {
		model(6, func() { w.endOutsider(w.N(n)) })
	}
	p := simulate.One(w.Schedule, w.processes...)
	add(1, func() {
		if !p.closing && w.N(4) == 0 {
			w.close(p, simulate.One(w.Schedule, time.Millisecond, time.Hour))
		}
	})
	if p.frozen.Load() {
		add(10, func() { p.thaw() })
	}
	if w.faults > 0 {
		model(1+w.faults/15, w.fault)
	}
	return w.actions
}

// model does something in the model.
func (w *world) model(do func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	do()
}

// offerHolders offers what callers do that wait or hold.
func (w *world) offerHolders(add func(int, func())) {
	if holders := w.holders(); len(holders) > 0 {
		c := simulate.One(w.Schedule, holders...)
		add(8*min(len(holders), 5), func() { c.unlock(!w.panics && w.N(10) == 0, 1+w.N(10)/9) })
		if w.writers {
			add(12, c.write)
		}
		add(6, c.fence)
		add(2, c.watch)
		if !w.memory && len(w.evictions) < 4 {
			add(1, func() {
				w.evict(simulate.One(w.Schedule, w.processes...), c.held.Key(), simulate.One(w.Schedule, 0, 10*time.Millisecond, time.Hour), simulate.One(w.Schedule, 20*time.Millisecond, time.Minute))
			})
		}
	}
	add(3, func() {
		if len(w.calls) == 0 {
			return
		}
		c := simulate.One(w.Schedule, w.calls...)
		w.Tell("%s: its context ends", c)
		c.cancel()
	})
}

// offerWire offers what the server and the connections to it do.
func (w *world) offerWire(add func(int, func())) {
	for _, b := range w.server.backends {
		c := b.conn
		if c == nil || !b.alive && len(c.down) == 0 && !c.over {
			continue
		}
		up, down := c.canSend(), c.canDeliver()
		if up {
			add(12, func() { c.send(1 + w.N(len(c.up)+1)) })
		}
		if b.canGo() {
			add(12, func() { b.step(w.mishap()) })
		}
		if down {
			add(12, func() { c.deliver(len(c.down)) })
			add(6, func() { c.deliver(1 + w.N(len(c.down)+1)) })
		}
		if up || down || b.canGo() {
			add(24, func() { c.trip() })
		}
	}
}

func (w *world) mishap() mishap {
	if w.Chance(w.faults) {
		return simulate.One(w.Schedule, before, after)
	}
	return none
}

func (c *simConn) canSend() bool {
	return (len(c.up) > 0 || c.hungUp) && c.backend.alive && !c.cut.up && !c.backend.process.frozen.Load()
}

func (c *simConn) canDeliver() bool {
	return (len(c.down) > 0 || c.over) && !c.cut.down && !c.backend.process.frozen.Load()
}

// trip delivers, runs and answers all that is on the way. It reports whether there was
// anything.
func (c *simConn) trip() (any bool) {
	b := c.backend
	if c.canSend() {
		c.send(len(c.up))
		any = true
	}
	for b.canGo() {
		b.step(c.w.mishap())
		any = true
	}
	if c.canDeliver() {
		c.deliver(len(c.down))
		any = true
	}
	return any
}

// fault does some damage.
func (w *world) fault() {
	b := simulate.One(w.Schedule, w.server.backends...)
	if b.conn == nil || !b.alive {
		return
	}
	switch w.N(12) {
	case 0, 1, 2:
		if w.N(2) == 0 {
			b.conn.down = nil // its last answers are lost
		}
		b.end(simulate.One(w.Schedule, told, reset, lingering, silent))
	case 3, 4, 5:
		w.Tell("%s is cancelled", b)
		b.canceled()
	case 6:
		w.Tell("the server restarts")
		w.server.restart(w.N(2) == 0)
		w.server.down = w.N(2) == 0
	case 7:
		w.server.down = !w.server.down
		w.Tell("the server is down: %t", w.server.down)
	case 8, 9, 10:
		b.conn.interrupt()
	case 11:
		w.Tell("%s stands still", b.process)
		b.process.frozen.Store(true)
	}
}

// interrupt cuts a connection, or heals it.
func (c *simConn) interrupt() {
	if c.cut != (cut{}) {
		c.w.Tell("%s is connected again", c.backend)
		c.cut = cut{}
		return
	}
	direction := c.w.N(3)
	c.cut = cut{up: direction != 0, down: direction != 1, since: time.Now()}
	c.cut.full = c.cut.up && c.w.N(4) == 0
	c.w.Tell("%s is cut off, to the server: %t, to the client: %t, full: %t", c.backend, c.cut.up, c.cut.down, c.cut.full)
}

func (p *process) thaw() {
	p.w.Tell("%s goes on", p)
	p.frozen.Store(false)
}

// dropCut ends, as the server, the sessions that it has not heard for long. Their holders must
// have been told before.
func (w *world) dropCut() {
	for _, b := range w.server.backends {
		if b.conn == nil || !b.alive || b.conn.cut == (cut{}) || time.Since(b.conn.cut.since) <= 2*w.options.Silence+time.Second {
			continue
		}
		for _, e := range b.process.table.entries {
			if e.state == held && e.session.backend.PID == b.pid && w.Stopped() == 0 && !b.process.frozen.Load() {
				w.Problem("TOLD LATE", "%s was cut off for %s, and those who hold %s by it do not know", b, time.Since(b.conn.cut.since), e.key)
			}
		}
		b.end(silent)
	}
}
