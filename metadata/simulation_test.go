package metadata

import (
	"testing"
	"time"

	"example.com/lockstore/internal/simulate"
)

// TestSimulation has writers of a few documents, in one or two processes, on a
// model of the database that is slow, fails and forgets, with hosts that hold
// locks and rows, panic and give up. See package simulate for its flags.
func TestSimulation(t *testing.T) { simulate.Run(t, play) }

func play(s *simulate.Schedule) {
	w := newWorld(s)
	s.Steps(60+s.N(140), w.actions, w.check)
	if s.Broken() == "" {
		w.finish()
	}
}

// actions are what can happen next.
func (w *world) actions() []simulate.Action {
	w.mu.Lock()
	defer w.mu.Unlock()
	some := w.offered[:0]
	can := func(weight int, do func()) { some = append(some, simulate.Action{Weight: weight, Do: do}) }
	can(15, w.newOp)
	can(5, func() { w.Sleep(time.Duration(simulate.One(w.Schedule, 1, 5, 30, 200)) * time.Millisecond) })
	can(2, w.newHold)
	can(1, w.newHost)
	can(1, w.outsider)
	if live := w.live(); len(live) > 0 {
		can(4, func() {
			o := live[w.N(len(live))]
			w.Tell("cancel op %d", o.n)
			o.cancel()
		})
	}
	if len(w.holds) > 0 {
		can(3, w.endHold)
	}
	if w.N(60) == 0 {
		can(10, func() { w.close(simulate.One(w.Schedule, w.processes...)) })
	}
	if w.faults > 0 {
		can(1, w.terminate)
	}
	w.offered = some
	return some
}

func (w *world) newHold() {
	simulate.One(w.Schedule, w.processes...).locker.grant(w.doc())
}

// endHold has a hold end, in one way or another, or a loss be noticed.
func (w *world) endHold() {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.holds[w.N(len(w.holds))]
	switch {
	case t.ended:
	case t.session.ended:
		t.end("noticed")
	default:
		t.end(simulate.One(w.Schedule, "unlocked", "unlocked", "evicted", "lost"))
	}
}

// outsider is somebody who knows nothing of the store, and has a row, a lock or a
// guard for a while, or inserts a row.
func (w *world) outsider() {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := w.server
	if w.stranger != nil && !w.stranger.ended {
		w.Tell("the outsider leaves")
		w.stranger.commit() // what it has inserted, if anything
		w.stranger.end(nil)
		return
	}
	w.stranger = v.connect()
	id := w.doc()
	what := simulate.One(w.Schedule, "row", "row", "key", "guard", "insert")
	w.Tell("an outsider wants %s's %s", id, what)
	w.stranger.inTx = true
	switch r := v.rows[id]; {
	case what == "insert" && r == nil && w.table.Name == "":
		r = &row{id: id}
		v.rows[id], w.inserted = r, true
		w.stranger.gain(r)
		w.stranger.set(r, newImage([]byte("{}"), 1), nil)
	case what == "key":
		w.stranger.try(w.key(id).Int64())
	case what == "guard":
		w.stranger.try(w.key(id).Guard())
	case r != nil && r.holder == nil:
		w.stranger.gain(r)
	}
}

// terminate has the server end a session of the store's.
func (w *world) terminate() {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := simulate.One(w.Schedule, w.processes...)
	if len(p.pool.used) > 0 {
		c := p.pool.used[w.N(len(p.pool.used))]
		w.Tell("session %d is terminated", c.pid)
		w.strange.Store(true)
		c.hangUp(errTerminated)
	}
}

func (w *world) close(p *process) {
	w.Tell("process %d closes its store", p.n)
	w.model(func() { p.closing = true })
	go func() {
		p.store.Close()
		w.Tell("process %d has closed its store", p.n)
		w.mu.Lock()
		defer w.mu.Unlock()
		p.closed = true
		for _, c := range p.pool.used {
			if c.sent != nil && !c.sent.reads {
				w.Problem("CLOSE", "%s of %v is under way", c.sent.what, c.ids)
			}
		}
	}()
}

// finish lets everybody come to an end, and judges what is left.
func (w *world) finish() {
	w.Calm()
	w.model(func() {
		if w.stranger != nil {
			w.stranger.end(nil)
		}
	})
	for range 400 {
		unanswered := 0
		w.model(func() {
			for _, t := range w.holds {
				if !t.ended {
					t.end("unlocked")
				}
			}
		})
		w.Sleep(50 * time.Millisecond)
		w.model(func() { unanswered = len(w.live()) })
		if unanswered == 0 && (len(w.hosts) == 0 || w.hosts[len(w.hosts)-1].done) || w.Broken() != "" {
			break
		}
	}
	w.model(func() {
		for _, o := range w.live() {
			w.Problem("LIVENESS", "%s is not answered", o)
		}
		w.judgeTokens()
	})
	for _, p := range w.processes {
		if w.Broken() == "" {
			w.close(p)
			w.Sleep(time.Second)
			p.judgeEnd()
		}
	}
	w.server.judgeEnd()
}
