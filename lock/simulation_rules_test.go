package lock

import (
	"slices"
	"time"
)

// What must hold after every step, when no goroutine is within a critical section.

func (w *world) check() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dropCut()
	w.checkEvictions()
	stopped := w.Stopped() > 0
	if stopped {
		w.stalled = time.Now()
	}
	stalled := stopped || w.blocked.Load() > 0
	for _, p := range w.processes {
		p.checkEntries(stalled)
		if p.postgres != nil {
			p.checkWaitConns()
			p.checkSessions(stalled)
		}
	}
	w.checkEnded(stalled)
	w.noteBusy()
	w.checkRefused()
	w.checkHolders()
}

// checkEnded checks that no call waits on after its context has ended, except for the server
// to learn of it.
func (w *world) checkEnded(stalled bool) {
	for _, c := range w.calls {
		switch over := c.ctx.Err() != nil && !c.done && !stalled && !c.process.frozen.Load(); {
		case !over:
			c.ended = time.Time{}
		case c.ended.IsZero():
			c.ended = time.Now()
		case time.Since(c.ended) > 2*w.options.Silence:
			w.Problem("OUTSTAYED", "%s: %s of %s in %s waits, though its context ended %v ago", c, c.method, c.keys, c.process, time.Since(c.ended))
		}
	}
}

// noteBusy notes which keys are held or wanted; for shared requests, exclusively.
func (w *world) noteBusy() {
	note := func(key int64, forSharers bool) {
		w.busy[alone][key] = w.Step()
		if forSharers {
			w.busy[shared][key] = w.Step()
		}
	}
	for _, l := range w.server.table {
		for _, g := range l.holders {
			note(l.key, g.n[alone] > 0)
			note(guardedBy(l.key, false), g.n[alone] > 0)
		}
		for _, b := range l.queue {
			note(l.key, b.wait.mode == alone)
		}
	}
	for _, p := range w.processes {
		for id, e := range p.table.entries {
			note(id, e.mode == alone)
			for c := e.waiters.first; c != nil; c = c.next {
				note(id, c.mode == alone)
			}
		}
		if p.postgres != nil {
			for _, r := range p.postgres.evictRequests {
				note(r.key, true)
			}
		}
	}
}

// checkRefused checks that a try is refused only because of another holder or waiter since it
// began; a shared one, only because of an exclusive one.
func (w *world) checkRefused() {
	for _, c := range w.refused {
		m := alone
		if c.method == "TryRLock" {
			m = shared
		}
		if last := w.busy[m][c.keys[0].id]; last < c.step-1 {
			w.Problem("BUSY", "%s was refused, but nobody has kept the key from it since step %d", c, last)
		}
	}
	w.refused = w.refused[:0]
}

func (p *process) checkEntries(stalled bool) {
	q := p.table
	holders, waiters := 0, 0
	asked := p.asked(stalled)
	for id, e := range q.entries {
		if e.key.id != id {
			p.w.Problem("ENTRY", "%s: %s is entered as %d", p, e.key, id)
		}
		holders += len(e.holders)
		waiters += p.checkOrder(e)
		switch e.state {
		case held:
			p.checkHeld(e)
		case pausing:
			if e.timer == nil || e.waiters.n == 0 {
				p.w.Problem("LOST WAKE-UP", "%s: %s pauses for %d, with timer: %t", p, e.key, e.waiters.n, e.timer != nil)
			}
		case asking:
			if asked != nil && asked[e] != 1 {
				p.w.Problem("LOST WAKE-UP", "%s: %s is asked for %d times", p, e.key, asked[e])
			}
			if first := e.first(); e.waitConn != nil && e.timer == nil && first != nil && !first.try && !stalled && time.Since(first.since) > 2*p.w.options.Silence {
				p.w.Problem("PATIENCE", "%s: %s waits at the server, and its waiter's policy is not asked", p, e.key)
			}
		}
		if asked != nil && e.inquiring != (asked[inquiry{e}] == 1) {
			p.w.Problem("LOST WAKE-UP", "%s: it is inquired %d times about %s", p, asked[inquiry{e}], e.key)
		}
		if e.state != held && len(e.holders) > 0 || e.state == asking && e.waitConn == nil && e.timer != nil {
			p.w.Problem("ENTRY", "%s: %s has %d holders, with timer: %t, in state %d", p, e.key, len(e.holders), e.timer != nil, e.state)
		}
	}
	if holders != q.holding || waiters != q.waiting {
		p.w.Problem("STATS", "%s: %d hold and %d wait, counted as %d and %d", p, holders, waiters, q.holding, q.waiting)
	}
	if len(q.entries) > q.maxKeys {
		p.w.Problem("LEAK", "%s has %d entries", p, len(q.entries))
	}
}

// inquiry is what is counted for an entry beside what it is asked for.
type inquiry struct{ *entry }

// asked counts the requests under way for each entry, and inquiries. It returns nil if some
// are with a goroutine that has been stopped.
func (p *process) asked(stalled bool) map[any]int {
	if stalled || p.postgres == nil {
		return nil
	}
	asked := make(map[any]int, len(p.table.entries))
	count := func(o op) {
		if o.code == opWanted {
			asked[inquiry{o.entry}]++
		} else {
			asked[o.entry]++
		}
	}
	for _, o := range p.postgres.backlog {
		count(o)
	}
	for _, s := range p.sessions {
		s.mu.Lock()
		for _, ops := range s.pending {
			for _, o := range ops {
				count(o)
			}
		}
		for _, batch := range s.sent {
			for _, o := range batch.ops {
				count(o)
			}
		}
		s.mu.Unlock()
	}
	return asked
}

// checkOrder checks that waiters are served in the order of their calls. It returns their
// number.
func (p *process) checkOrder(e *entry) int {
	before, waits := p.queues[e], false
	for _, c := range before {
		if waits && c.state == holding {
			p.w.Problem("OVERTAKEN", "%s: who waits for %s", p, e.key)
		}
		waits = waits || c.state == waiting
	}
	waiters := before[:0]
	for c := e.waiters.first; c != nil; c = c.next {
		if c.entry != e || c.state != waiting || c.key.id != e.key.id || c.try && e.state == held && !(c.mode == shared && e.inquiring) {
			p.w.Problem("ORDER", "%s: who waits for %s is none", p, e.key)
		}
		for _, own := range AllFromContext(c.hold.values) {
			if t := own.hold.(*hold); t.table == p.table && t.endErr() == nil && !c.try && !c.hold.any && slices.Contains(own.keys, e.key) {
				p.w.Problem("SELF", "%s: a caller waits for %s, which it holds", p, e.key)
			}
		}
		waiters = append(waiters, c)
	}
	if len(waiters) != e.waiters.n {
		p.w.Problem("ORDER", "%s: %d wait for %s, counted as %d", p, len(waiters), e.key, e.waiters.n)
	}
	if len(waiters) > 0 || before != nil {
		p.queues[e] = waiters
	}
	return len(waiters)
}

// slack allows for delays of a moment.
const slack = 5 * time.Millisecond

// checkHeld checks that the server would not give the key to another, and that holders learn
// of a loss within the time that is promised.
func (p *process) checkHeld(e *entry) {
	if first := e.first(); first != nil && first.mode == shared && e.mode == shared && !e.inquiring && e.timer == nil && !p.table.server.withheld(e) {
		p.w.Problem("LEFT WAITING", "%s: a sharer waits for %s, which others share", p, e.key)
	}
	for i, c := range e.holders {
		if c.entry != e || c.state != holding || c.slot != i || c.key.id != e.key.id {
			p.w.Problem("ENTRY", "%s: holder %d of %s is none", p, i, e.key)
		}
		if start := later(e.periodStart, e.since); c.mode == shared && c.began.Sub(start) > p.table.period {
			p.w.Problem("PERIOD", "%s: a sharer has come to %s %s after the period began", p, e.key, c.began.Sub(start))
		}
		if c.mode == alone && (len(e.holders) > 1 || e.mode != alone) {
			p.w.Problem("EXCLUSION", "%s: %d hold %s, one of them alone", p, len(e.holders), e.key)
		}
		if c.mode == shared && e.mode == alone {
			p.w.Problem("SHARING", "%s: sharers have %s alone", p, e.key)
		}
	}
	if len(e.holders) == 0 {
		p.w.Problem("ENTRY", "%s: nobody holds %s", p, e.key)
	}
	if p.postgres == nil {
		return
	}
	var b *backend
	for _, o := range p.w.server.backends {
		if o.pid == e.session.backend.PID {
			b = o
		}
	}
	if b.alive {
		if p.w.server.table.at(e.key.id).count(b, e.mode) == 0 {
			p.w.Problem("EXCLUSION", "%s: %s is held by %s, which does not have it", p, e.key, b)
		}
	}
	// A reader does not come to the message while a write is stuck. Then silence is the bound.
	if told := b.conn.told; !told.IsZero() && time.Since(told) > slack && time.Since(p.w.stalled) > slack && p.w.blocked.Load() == 0 && !p.frozen.Load() {
		p.w.Problem("TOLD LATE", "%s: %s has said %s ago that it ends, and %s is held", p, b, time.Since(told), e.key)
	}
	// The ping comes after a third of the time, and leaves the server all of it.
	silence := p.w.options.Silence
	if quiet := time.Since(b.conn.heard); quiet > silence+silence/3+slack && time.Since(p.w.stalled) > silence/3+slack && !p.frozen.Load() {
		p.w.Problem("TOLD LATE", "%s: %s has not been heard for %s, and %s is held", p, b, quiet, e.key)
	}
}

func (p *process) checkWaitConns() {
	k := &p.postgres.waitConns
	for _, e := range k.wanted {
		if p.table.entries[e.key.id] != e || !e.wanted {
			p.w.Problem("LEAK", "%s: somebody wants a wait connection for %s, and nobody waits", p, e.key)
		}
	}
	for i, s := range k.idle {
		if !slices.Contains(k.all, s) || slices.Contains(k.idle[i+1:], s) {
			p.w.Problem("WAIT CONNS", "%s: idle session %d is none, or twice", p, s.backend.PID)
		}
		for _, e := range p.table.entries {
			if e.waitConn == s || e.state == held && e.session == s {
				p.w.Problem("WAIT CONNS", "%s: %s has idle session %d", p, e.key, s.backend.PID)
			}
		}
	}
	if len(k.all) > max(0, p.w.options.WaitConns) {
		p.w.Problem("LEAK", "%s: %d wait connections", p, len(k.all))
	}
}

// checkSessions checks that what is requested is sent, and what is in flight is bounded.
func (p *process) checkSessions(stalled bool) {
	left := false
	for _, s := range p.sessions {
		left = left || s.callersRead.Load() // its reader may have yet to send on another
	}
	for _, s := range p.sessions {
		s.mu.Lock()
		pending, inFlight := 0, 0
		for _, ops := range s.pending {
			pending += len(ops)
		}
		for _, b := range s.sent {
			inFlight += len(b.ops)
		}
		if pending != s.waiting || inFlight != s.inFlight {
			p.w.Problem("STATS", "%s: session %d has %d pending and %d in flight, counted as %d and %d", p, s.backend.PID, pending, inFlight, s.waiting, s.inFlight)
		}
		if inFlight > (max(s.pace.maxSent-1, s.pace.maxDepth)+1)*s.pace.maxBatch {
			p.w.Problem("WINDOW", "%s: session %d has %d operations in flight", p, s.backend.PID, inFlight)
		}
		isPart := inFlight <= min(pending, s.pace.maxBatch)*min(s.pace.maxDepth, int(max(0, 3*s.trip-2*s.took)/s.pace.spacing))
		if pending > 0 && (inFlight == 0 || s.blind == 0 && isPart) && s.why == nil && !s.leaving && !stalled && !left && !p.frozen.Load() {
			p.w.Problem("LOST WAKE-UP", "%s: session %d has %d pending and %d in flight, and sends nothing", p, s.backend.PID, pending, inFlight)
		}
		s.mu.Unlock()
	}
}

// checkHolders checks the callers' side: no two holders that believe to hold exclude each
// other, in any process, and the others have been told.
func (w *world) checkHolders() {
	for i, c := range w.calls {
		if c.held == nil || c.unlocking {
			continue
		}
		t := c.held.hold.(*hold)
		if c.over.IsZero() && t.endErr() != nil {
			c.over = time.Now()
		}
		if c.watched != nil && c.watched.Err() == nil && t.endErr() != nil {
			w.Problem("TOLD LATE", "%s no longer holds, and its context lives", c)
		}
		for _, other := range w.calls[i+1:] {
			if other.held == nil || other.unlocking || c.held.shared && other.held.shared {
				continue
			}
			for _, k := range c.held.keys {
				if slices.Contains(other.held.keys, k) && w.holds(c, k) && w.holds(other, k) {
					w.Problem("EXCLUSION", "%s and %s hold %s", c, other, k)
				}
			}
		}
	}
}

// holds reports whether the caller must believe that it has a key. It has the key unless its
// session has just ended.
func (w *world) holds(c *call, k Key) bool {
	for _, request := range c.held.hold.(*hold).requests {
		if request.key == k && request.state == holding {
			return request.session == nil || w.server.backend(int64(request.session.backend.PID)) != nil
		}
	}
	return false
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
