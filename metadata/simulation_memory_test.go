package metadata

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"example.com/lockstore/internal/simulate"
	"example.com/lockstore/lock"
)

// TestSimulationOfMemory has writers and holders of a few documents' locks on a
// [Memory].
func TestSimulationOfMemory(t *testing.T) { simulate.Run(t, playMemory) }

// A memoryWorld is a Memory, its locker, and what was asked of it.
type memoryWorld struct {
	*simulate.Schedule
	locker *lock.Memory
	store  *Memory
	docs   []string
	asked  []*memoryWrite
	going  atomic.Int32
	moment atomic.Int64
	holds  map[string]*lock.Held
}

// A memoryWrite is one call.
type memoryWrite struct {
	n       int
	doc     string
	kind    string
	view    int64
	cancel  context.CancelFunc
	token   bool // it is made once
	repeats *memoryWrite
	decided int
	begun   int64 // its moments among all
	ended   int64
	got     Document
	err     error
}

func playMemory(s *simulate.Schedule) {
	w := &memoryWorld{Schedule: s, locker: lock.NewMemory(), docs: []string{"d0", "d1"}, holds: map[string]*lock.Held{}}
	var err error
	if w.store, err = NewMemory(w.locker, &Options{MaxDocumentBytes: simulate.One(s, 0, 30, 60), Table: Table{Tokens: DefaultTokens}}); err != nil {
		panic(err)
	}
	s.Steps(40+s.N(80), w.actions, func() {})
	s.Calm()
	for range 100 {
		for id := range w.holds {
			w.unlock(id)
		}
		if w.Sleep(time.Second); w.going.Load() == 0 {
			break
		}
	}
	if w.going.Load() > 0 {
		w.Problem("LIVENESS", "%d are not answered", w.going.Load())
	}
	for _, id := range w.docs {
		w.judge(id)
	}
}

func (w *memoryWorld) actions() []simulate.Action {
	return []simulate.Action{
		{Weight: 15, Do: w.write},
		{Weight: 4, Do: w.hold},
		{Weight: 4, Do: func() { w.unlock(simulate.One(w.Schedule, w.docs...)) }},
		{Weight: 4, Do: func() {
			if len(w.asked) > 0 {
				simulate.One(w.Schedule, w.asked...).cancel()
			}
		}},
		{Weight: 3, Do: func() { w.Sleep(10 * time.Millisecond) }},
	}
}

func (w *memoryWorld) hold() {
	id := simulate.One(w.Schedule, w.docs...)
	if held, err := w.locker.TryLock(context.Background(), w.store.Key(id)); err == nil {
		w.Tell("%s is held", id)
		w.holds[id] = held
	}
}

func (w *memoryWorld) unlock(id string) {
	if held := w.holds[id]; held != nil {
		w.Tell("%s is unlocked", id)
		delete(w.holds, id)
		if err := held.Unlock(); err != nil {
			w.Problem("UNLOCK", "%s: %v", id, err)
		}
	}
}

func (w *memoryWorld) write() {
	o := &memoryWrite{n: len(w.asked), doc: simulate.One(w.Schedule, w.docs...), view: -1}
	if o.n >= maxMarks || w.going.Load() > 10 {
		return
	}
	o.kind = simulate.One(w.Schedule, "merge", "merge", "merge", "merge", "update", "update", "failing update", "idle merge", "replace", "delete")
	if o.token = (o.kind == "merge" || o.kind == "update") && w.N(3) == 0; o.token && w.N(2) == 0 {
		w.repeat(o)
	}
	ctx := context.Background()
	if held := w.holds[o.doc]; held != nil && w.N(2) == 0 {
		ctx = held.Context()
	}
	ctx, o.cancel = context.WithTimeout(ctx, time.Duration(1+w.N(int(100*time.Millisecond))))
	store := w.store
	if o.repeats == nil && w.N(6) == 0 {
		doc, _ := store.Get(context.Background(), o.doc)
		o.view = max(0, doc.Version-int64(w.N(2)))
	}
	if o.view >= 0 {
		store = store.IfVersion(o.view)
	}
	if o.token {
		store = store.Once(fmt.Sprint(o.root().n))
	}
	w.asked = append(w.asked, o)
	w.going.Add(1)
	o.begun = w.moment.Add(1)
	w.Tell("write %d: %s of %s, view %d", o.n, o.kind, o.doc, o.view)
	go func() {
		defer o.cancel()
		patch := json.RawMessage(fmt.Sprintf(`{"w%d":1,"last":%d}`, o.root().n, o.root().n))
		switch o.kind {
		case "merge":
			o.got, o.err = store.Merge(ctx, o.doc, patch)
		case "idle merge":
			o.got, o.err = store.Merge(ctx, o.doc, json.RawMessage(`{"absent":null}`))
		case "replace":
			o.got, o.err = store.Replace(ctx, o.doc, patch)
		case "delete":
			o.err = store.Delete(ctx, o.doc)
		default:
			o.got, o.err = store.Update(ctx, o.doc, func(Document) (json.RawMessage, error) {
				o.decided++
				w.Yield("decide")
				if o.kind == "failing update" {
					return nil, errDecided
				}
				return patch, nil
			})
		}
		o.ended = w.moment.Add(1)
		w.Tell("write %d is told: %s, version %d: %v", o.n, o.got.Metadata, o.got.Version, o.err)
		w.going.Add(-1)
	}()
}

// repeat has a write be the repetition of another, if there is one.
func (w *memoryWorld) repeat(o *memoryWrite) {
	for _, of := range w.asked {
		if of.token && of.repeats == nil && (o.repeats == nil || w.N(2) == 0) {
			o.repeats, o.doc, o.kind, o.view = of, of.doc, of.kind, of.view
		}
	}
}

// root is the write that others repeat.
func (o *memoryWrite) root() *memoryWrite {
	if o.repeats != nil {
		return o.repeats
	}
	return o
}
