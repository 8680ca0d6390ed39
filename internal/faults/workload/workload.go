// Package workload uses lockers and stores hard, and records what happens.
package workload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"example.com/lockstore/internal/faults/history"
	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
)

// Config says how much is done, and on what.
type Config struct {
	Process    int // tells this process's values from those of others
	Generation int // and from those of processes that had its number before
	Workers    int
	Hot, Cold  int // documents, and keys
	Patience   time.Duration
	Pause      time.Duration // that a holder stays away at most
	Seed       uint64
}

// A Store is what is used of one: its Key is that of a document's lock.
type Store interface {
	metadata.MetadataStore
	Key(id string) lock.Key
}

// A ManyMerger merges into several documents by one call.
type ManyMerger interface {
	MergeMany(ctx context.Context, patches []metadata.Patch) ([]metadata.Result, error)
}

// An Evicter can take a lock from its holder.
type Evicter interface {
	Evict(ctx context.Context, key lock.Key, grace time.Duration) error
}

// Run has workers at work until ctx ends, and returns when the last call has.
func Run(ctx context.Context, locker lock.Locker, store Store, to *history.Recorder, c Config) {
	var group sync.WaitGroup
	for n := range c.Workers {
		w := &worker{Config: c, n: n, ctx: ctx, locker: locker, store: store, to: to, rand: rand.New(rand.NewPCG(c.Seed, uint64(c.Process)<<32|uint64(c.Generation)<<16|uint64(n)))}
		group.Go(func() {
			for ctx.Err() == nil {
				w.next()
			}
		})
	}
	group.Wait()
}

type worker struct {
	Config
	n      int
	ctx    context.Context
	locker lock.Locker
	store  Store
	to     *history.Recorder
	rand   *rand.Rand
	serial int
}

// next makes a random call.
func (w *worker) next() {
	switch n := w.rand.IntN(100); {
	case n < 40:
		w.merge(w.bounded, w.document())
	case n < 45:
		w.mergeMany()
	case n < 55:
		w.update(w.bounded, w.hot("doc"))
	case n < 63:
		w.get(w.document())
	case n < 85:
		w.hold("key")
	case n < 99:
		w.hold("doc")
	default:
		w.evict()
	}
}

func (w *worker) hot(what string) string { return fmt.Sprint(what, w.rand.IntN(w.Hot)) }

func (w *worker) document() string {
	if w.rand.IntN(3) > 0 {
		return w.hot("doc")
	}
	return fmt.Sprint("doc", w.Hot+w.rand.IntN(w.Cold))
}

// bounded is the context of a call. The call that is under way when the
// workload ends is not cut short.
func (w *worker) bounded() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(w.ctx), w.Patience)
}

// ended records what a call returned, and rests if it failed.
func (w *worker) ended(e history.Event, doc metadata.Document, err error) {
	if w.record(e, doc, err) == history.Failed {
		w.rest()
	}
}

// rest keeps a server that is down from filling the history with failures.
func (w *worker) rest() { time.Sleep(time.Duration(w.rand.IntN(10)) * time.Millisecond) }

func (w *worker) record(e history.Event, doc metadata.Document, err error) history.Outcome {
	e.Return = time.Now()
	switch {
	case err == nil:
		e.Outcome, e.Version, e.Document = history.OK, doc.Version, doc.Metadata
	case errors.Is(err, metadata.ErrUnknownOutcome):
		e.Error = err.Error()
	default:
		e.Outcome, e.Error = history.Failed, err.Error()
	}
	w.to.Record(e)
	return e.Outcome
}

// patch begins the event of a merge, which sets this worker's field.
func (w *worker) patch(id string) (history.Event, json.RawMessage) {
	w.serial++
	field, value := fmt.Sprintf("w%d_%d", w.Process, w.n), fmt.Sprintf("%d.%06d", w.Generation+1, w.serial)
	e := w.to.Begin(history.Event{Worker: w.n, Kind: history.Merge, Key: id, Field: field, Value: json.RawMessage(value)})
	return e, json.RawMessage(`{"` + field + `":` + value + `}`)
}

func (w *worker) merge(bounded func() (context.Context, context.CancelFunc), id string) {
	ctx, cancel := bounded()
	defer cancel()
	e, patch := w.patch(id)
	doc, err := w.store.Merge(ctx, id, patch)
	w.ended(e, doc, err)
}

func (w *worker) mergeMany() {
	many, ok := w.store.(ManyMerger)
	if !ok {
		return
	}
	ctx, cancel := w.bounded()
	defer cancel()
	events, patches := map[string]history.Event{}, []metadata.Patch{}
	for range 1 + w.rand.IntN(10) {
		id := w.document()
		if _, twice := events[id]; twice {
			continue
		}
		e, patch := w.patch(id)
		events[id], patches = e, append(patches, metadata.Patch{ID: id, Patch: patch})
	}
	results, err := many.MergeMany(ctx, patches)
	for i, p := range patches {
		w.record(events[p.ID], results[i].Document, results[i].Err)
	}
	if err != nil {
		w.rest()
	}
}

func (w *worker) update(bounded func() (context.Context, context.CancelFunc), id string) {
	ctx, cancel := bounded()
	defer cancel()
	e := w.to.Begin(history.Event{Worker: w.n, Kind: history.Update, Key: id, Field: history.Counter})
	doc, err := w.store.Update(ctx, id, func(doc metadata.Document) (json.RawMessage, error) {
		var counted struct{ Count int }
		if len(doc.Metadata) > 0 {
			if err := json.Unmarshal(doc.Metadata, &counted); err != nil {
				return nil, err
			}
		}
		e.Value = fmt.Append(nil, counted.Count+1)
		w.to.Record(e) // its value is known before it can be in the document
		return fmt.Appendf(nil, `{"%s":%d}`, history.Counter, counted.Count+1), nil
	})
	if err != nil && e.Value == nil {
		e.Value = json.RawMessage("0")
	}
	w.ended(e, doc, err)
}

func (w *worker) get(id string) {
	ctx, cancel := w.bounded()
	defer cancel()
	e := w.to.Begin(history.Event{Worker: w.n, Kind: history.Get, Key: id})
	doc, err := w.store.Get(ctx, id)
	w.ended(e, doc, err)
}

// hold takes a lock in one of several ways, and stays away for a while: a key
// of its own, or a document's, which is then written under the tenure.
func (w *worker) hold(what string) {
	ctx, cancel := w.bounded()
	defer cancel()
	name := w.hot(what)
	key := lock.Name(name)
	if what == "doc" {
		key = w.store.Key(name)
	}
	take, shared := w.locker.Lock, false
	switch n := w.rand.IntN(10); {
	case n == 0:
		take = w.locker.TryLock
	case n == 1 && what == "key":
		take, shared = w.locker.RLock, true
	}
	e := w.to.Begin(history.Event{Worker: w.n, Kind: history.Tenure, Key: history.LockOf(name), Shared: shared})
	held, err := take(ctx, key)
	e.Return = time.Now()
	if err != nil {
		e.Outcome, e.Error = history.Failed, err.Error()
		w.to.Record(e)
		return
	}
	e.Outcome = history.OK
	w.to.Record(e)
	told := make(chan time.Time, 1)
	stop := context.AfterFunc(held.Context(), func() { told <- time.Now() })
	if w.rand.IntN(2) == 0 && !shared {
		if fence, err := held.Fence(ctx); err == nil {
			e.Fence = fence
			w.to.Record(e)
		}
	}
	if what == "doc" {
		bound := func() (context.Context, context.CancelFunc) { return held.Bind(ctx) }
		if w.rand.IntN(2) == 0 {
			w.merge(bound, name)
		} else {
			w.update(bound, name)
		}
	}
	if w.Pause > 0 {
		select {
		case <-held.Context().Done():
		case <-time.After(time.Duration(w.rand.Int64N(int64(w.Pause)))):
		}
	}
	if stop() {
		e.Until = time.Now()
	} else {
		e.Until, e.Lost = <-told, true
	}
	w.to.Record(e)
	if err := held.Unlock(); err != nil {
		e.Lost, e.Error = true, err.Error()
	}
	e.Unlocked = time.Now()
	w.to.Record(e)
}

func (w *worker) evict() {
	if e, ok := w.locker.(Evicter); ok {
		ctx, cancel := w.bounded()
		defer cancel()
		_ = e.Evict(ctx, lock.Name(w.hot("key")), time.Second) // whoever it hits, records it
	}
}
