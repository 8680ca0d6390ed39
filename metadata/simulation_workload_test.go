package metadata

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"example.com/lockstore/internal/simulate"
)

const maxLive = 12

// errDecided is what decide fails of, where it does.
var errDecided = errors.New("decided against it")

// newOp draws a write, or a reading, and has it begin.
func (w *world) newOp() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.live()) >= maxLive || len(w.ops)+8 >= maxMarks {
		return
	}
	o := w.draw(simulate.One(w.Schedule, w.processes...), nil)
	if o.kind == "many" {
		o.many = 1 + w.N(4)
		for range o.many {
			more := w.add(&op{at: o.at, kind: "merge", doc: w.doc(), view: -1, ctx: o.ctx, cancel: o.cancel, since: o.since, group: o, rights: o.rights})
			more.patch = w.patch(more)
			w.Tell("%s: %s", more, more.patch)
		}
	}
	go o.run(o.at.store.documents)
}

func (w *world) doc() string { return w.docs[min(w.N(3), w.N(3))] }

// isFull reports whether there are marks for no more ops.
func (w *world) isFull() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.ops)+8 >= maxMarks
}

func (w *world) add(o *op) *op {
	o.n = len(w.ops)
	w.ops = append(w.ops, o)
	return o
}

// draw makes an op that has not begun, perhaps in a host's transaction. Its caller
// has the world's mutex.
func (w *world) draw(p *process, h *host) *op {
	o := w.add(&op{at: p, host: h, doc: w.doc(), view: -1, since: time.Now(), rights: simulate.One(w.Schedule, "a", "a", "b")})
	o.kind = simulate.One(w.Schedule, "merge", "merge", "merge", "merge", "merge", "merge", "update", "update", "replace", "delete", "get", "get many", "many", "idle merge", "idle update", "failing update")
	repeats := false
	if h != nil && h.only != "" {
		o.doc = h.only
	} else {
		repeats = w.drawToken(o)
	}
	parent := context.Background()
	if held := w.holdsOf(p, o.doc); h != nil && w.hostsMeet {
	} else if len(held) > 0 && w.N(2) == 0 {
		o.ownHold = held[w.N(len(held))]
		parent = o.ownHold.held.Context()
	} else if held := w.holdsOf(p, w.doc()); len(held) > 0 && o.kind != "many" && w.N(2) == 0 && held[0].id != o.doc {
		o.leads = held[w.N(len(held))]
		parent = o.leads.held.Context()
	}
	parent = context.WithValue(parent, opKey{}, o)
	if w.N(4) == 0 {
		o.ctx, o.cancel = context.WithTimeout(parent, w.about(simulate.One(w.Schedule, time.Millisecond, 20*time.Millisecond, 300*time.Millisecond)))
	} else {
		o.ctx, o.cancel = context.WithCancel(parent)
	}
	if !repeats && w.N(8) == 0 && o.kind != "many" && o.kind != "get" && o.kind != "get many" {
		if m := w.server.committed(o.doc); m != nil {
			o.view = max(0, m.version-int64(w.N(2)))
		} else {
			o.view = 0
		}
	}
	if !repeats {
		o.patch = w.patch(o)
	}
	o.first = len(w.server.history[o.doc])
	if h != nil && (o.kind == "many" || o.kind == "get many") {
		o.kind = "merge"
	}
	w.Tell("%s, rights %s, hold %v, leads %v, view %d, token %q: %s", o, o.rights, o.ownHold != nil, o.leads != nil, o.view, o.token, o.patch)
	return o
}

// patch is what an op wants the document to have: a member of its own, perhaps
// one that others set, too, and perhaps what the table refuses.
func (w *world) patch(o *op) json.RawMessage {
	if strings.HasPrefix(o.kind, "idle") {
		return json.RawMessage(`{"absent":null}`)
	}
	more := ""
	switch w.N(16) {
	case 0, 1, 2, 7, 8:
		more = fmt.Sprintf(`,"last":%d`, o.n)
	case 3:
		more = fmt.Sprintf(`,"last":%q`, strings.Repeat("x", w.N(100)))
	case 4:
		more = `,"bad":1`
	case 5:
		if w.N(2) == 0 {
			more = `,"mute":1`
		}
	case 6:
		more = `,"alter":1`
	case 9:
		more = costlyMembers
	}
	return json.RawMessage(fmt.Sprintf(`{"w%d":1%s}`, o.n, more))
}

func (o *op) refused() bool {
	return strings.Contains(string(o.patch), `"bad"`) || strings.Contains(string(o.patch), `"mute"`)
}

// run has the op happen on a store, and judges its answer.
func (o *op) run(d documents) {
	w := o.at.world
	defer func() {
		if o.panicked = recover(); o.panicked != nil {
			if _, ok := o.panicked.(planned); !ok {
				stack := make([]byte, 4096)
				w.Problem("PANIC", "%v\n%s", o.panicked, stack[:runtime.Stack(stack, false)])
			}
		}
		o.cancel()
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, each := range w.group(o) {
			each.done, each.panicked = true, o.panicked
			w.Tell("%s is told: %s, version %d: %v, panic %v", each, each.got.Metadata, each.got.Version, each.err, each.panicked)
			if each.host == nil {
				w.judge(each)
			}
		}
	}()
	if o.view >= 0 {
		d.version = &o.view
	}
	if o.token != "" {
		d.token = &o.token
	}
	switch o.kind {
	case "merge", "idle merge":
		o.got, o.err = d.Merge(o.ctx, o.doc, o.patch)
	case "update", "idle update", "failing update":
		o.got, o.err = d.Update(o.ctx, o.doc, func(doc Document) (json.RawMessage, error) {
			w.model(func() { o.decided, o.basis, o.asked = o.decided+1, doc, time.Now() })
			defer w.model(func() { o.asked = time.Time{} })
			w.judgeOrigin(o, doc)
			w.foreign(o, "decide")
			switch {
			case o.kind == "failing update":
				return nil, errDecided
			case o.kind == "idle update":
				return nil, nil
			}
			return o.patch, nil
		})
	case "replace":
		o.got, o.err = d.Replace(o.ctx, o.doc, o.patch)
	case "delete":
		o.err = d.Delete(o.ctx, o.doc)
	case "get":
		o.got, o.err = d.Get(o.ctx, o.doc)
	case "get many":
		var found map[string]Document
		found, o.err = o.at.store.GetMany(o.ctx, w.docs...)
		o.got = found[o.doc]
		if _, ok := found[o.doc]; !ok && o.err == nil {
			o.err = ErrNotFound
		}
	case "many":
		var patches []Patch
		var ops []*op
		w.model(func() { ops = w.group(o)[1:] })
		for _, each := range ops {
			patches = append(patches, Patch{ID: each.doc, Patch: each.patch})
		}
		results, err := o.at.store.MergeMany(o.ctx, patches)
		if len(results) != len(patches) {
			w.Problem("RESULTS", "%s: %d results of %d patches", o, len(results), len(patches))
			return
		}
		failed := false
		for i, each := range ops {
			each.got, each.err = results[i].Document, results[i].Err
			failed = failed || each.err != nil
		}
		w.model(func() { w.judgeOrder(ops) })
		if failed != (err != nil) {
			w.Problem("RESULTS", "%s: error %v, but results %v", o, err, results)
		}
	}
}

// What is below is for who has the world's mutex.

// group is an op with those that it makes together.
func (w *world) group(o *op) []*op { return w.ops[o.n : o.n+o.many+1] }

// live are the ops that have not been answered.
func (w *world) live() []*op {
	some := w.pending[:0]
	for _, o := range w.ops[w.settled:] {
		if !o.done && o.group == nil {
			some = append(some, o)
		} else if len(some) == 0 && o.done {
			w.settled = o.n + 1
		}
	}
	w.pending = some
	return some
}

func (w *world) holdsOf(p *process, id string) (some []*hold) {
	for _, t := range w.holds {
		if t.id == id && t.locker == p.locker && t.number+1 >= w.holdsBegun[id] {
			some = append(some, t)
		}
	}
	return some
}
