package metadata

import (
	"context"
	"errors"

	"example.com/lockstore/internal/simulate"
)

// A host has a transaction of its own in which it writes, too.
type host struct {
	link *link
	done bool
	only string // the document that it writes; empty: it may write several
}

// newHost begins a host's transaction. Where there are two at a time one writes a single
// document, and none under a lock that it can give back: hosts that wait for each other for
// good are not the store's to mend.
func (w *world) newHost() {
	h := &host{}
	underWay := 0
	for _, other := range w.hosts {
		if !other.done {
			if underWay++; other.only == "" {
				h.only = "d0"
			}
		}
	}
	if underWay > 1 || underWay > 0 && !w.hostsMeet {
		return
	}
	p := simulate.One(w.Schedule, w.processes...)
	w.model(func() {
		h.link = &link{backend: w.server.connect(), at: p}
		h.link.inTx = true
	})
	w.hosts = append(w.hosts, h)
	go h.run(p)
}

func (h *host) run(p *process) {
	w := p.world
	defer func() {
		h.link.kill(nil)
		h.done = true
	}()
	d := p.store.documents
	d.engine = &hosted{p.store.pg, h.link, nil}
	var kept, undone []*op
	for range 1 + w.N(3) {
		w.Stop("host")
		if w.isFull() {
			break
		}
		from := len(kept)
		behind := w.N(4) == 0 && h.control("SAVEPOINT host") == nil // its own
		for range 1 + w.N(2) {
			var o *op
			w.model(func() { o = w.draw(p, h) })
			kept = append(kept, o)
			o.run(d)
		}
		if behind && w.N(2) == 0 && h.control("ROLLBACK TO SAVEPOINT host") == nil {
			kept, undone = kept[:from], append(undone, kept[from:]...)
		}
	}
	w.Stop("host ends")
	commits := w.N(3) > 0
	var err error
	if commits {
		w.Tell("host commits")
		err = h.link.send(context.Background(), &request{what: "COMMIT", commits: true, run: func(*backend) error { return nil }})
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range undone {
		w.judgeHosted(o, false, nil)
	}
	for _, o := range kept {
		w.judgeHosted(o, commits, err)
	}
}

func (h *host) control(sql string) error {
	_, err := h.link.Exec(context.Background(), sql)
	return err
}

// judgeHosted judges what became of a write in a host's transaction. Its caller has
// the world's mutex.
func (w *world) judgeHosted(o *op, commits bool, err error) {
	switch {
	case commits && err == nil:
		w.judge(o)
	case o.token != "": // see judgeTokens
		o.voided, o.unsure = true, commits && uncertain(err)
	case o.applied > 0 && (!commits || !uncertain(err)):
		w.Problem("DENIED THOUGH MADE", "%s: its host has not committed: %v", o, err)
	}
}

func uncertain(err error) bool { return err != nil && !errors.Is(err, errUnsent{}) }
