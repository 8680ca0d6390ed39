package workload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"example.com/lockstore/internal/faults/history"
	"example.com/lockstore/metadata"
)

// bound returns the context of a call.
type bound = func() (context.Context, context.CancelFunc)

// boundBy binds calls to a context that their caller cancels.
func boundBy(ctx context.Context) bound {
	return func() (context.Context, context.CancelFunc) { return ctx, func() {} }
}

// patch begins the event of a merge. It sets this worker's field to a unique value. Some hasty
// workers share a field, so that documents stay small.
func (w *worker) patch(id string) (history.Event, json.RawMessage) {
	w.serial++
	field := fmt.Sprintf("w%d_%d", w.Process, w.n)
	if w.haste {
		field = fmt.Sprintf("h%d_%d", w.Process, w.n%4)
	}
	value := fmt.Sprintf("%d.%03d%06d", w.Generation+1, w.n, w.serial)
	e := w.to.Begin(history.Event{Worker: w.n, Kind: history.Merge, Key: id, Field: field, Value: json.RawMessage(value)})
	return e, json.RawMessage(`{"` + field + `":` + value + `}`)
}

func (w *worker) merge(b bound, id string) {
	ctx, cancel := b()
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
		w.rest(err)
	}
}

func (w *worker) update(b bound, id string) {
	ctx, cancel := b()
	defer cancel()
	e := w.to.Begin(history.Event{Worker: w.n, Kind: history.Update, Key: id, Field: history.Counter})
	doc, err := w.store.Update(ctx, id, func(doc metadata.Document) (json.RawMessage, error) {
		count, err := next(doc)
		if err != nil {
			return nil, err
		}
		e.Value = fmt.Append(nil, count)
		w.to.Record(e) // record the value before it can be in the document
		return fmt.Appendf(nil, `{"%s":%d}`, history.Counter, count), nil
	})
	if err != nil && e.Value == nil {
		e.Value = json.RawMessage("0")
	}
	w.ended(e, doc, err)
}

// increment is an update by hand: it reads, decides and merges with separate calls. Only the
// holder of the document's lock may call it, before it writes anything else.
func (w *worker) increment(b bound, id string) {
	ctx, cancel := b()
	defer cancel()
	base, err := w.get(boundBy(ctx), id)
	if err != nil && !errors.Is(err, metadata.ErrNotFound) {
		return
	}
	count, err := next(base)
	if err != nil {
		return
	}
	e := w.to.Begin(history.Event{Worker: w.n, Kind: history.Guarded, Key: id, Field: history.Counter, Value: fmt.Append(nil, count), Base: base.Metadata, BaseVersion: base.Version})
	doc, err := w.store.Merge(ctx, id, fmt.Appendf(nil, `{"%s":%d}`, history.Counter, count))
	w.ended(e, doc, err)
}

// next returns the next count of a document.
func next(doc metadata.Document) (int, error) {
	var counted struct{ Count int }
	if len(doc.Metadata) > 0 {
		if err := json.Unmarshal(doc.Metadata, &counted); err != nil {
			return 0, err
		}
	}
	return counted.Count + 1, nil
}

func (w *worker) get(b bound, id string) (metadata.Document, error) {
	ctx, cancel := b()
	defer cancel()
	e := w.to.Begin(history.Event{Worker: w.n, Kind: history.Get, Key: id})
	doc, err := w.store.Get(ctx, id)
	w.ended(e, doc, err)
	return doc, err
}

// replace is a merge by hand: it reads, changes and replaces the document. Only the holder of
// the document's lock may call it.
func (w *worker) replace(b bound, id string) {
	store, ok := w.store.(Replacer)
	if !ok {
		w.merge(b, id)
		return
	}
	ctx, cancel := b()
	defer cancel()
	doc, err := w.get(boundBy(ctx), id)
	if err != nil && !errors.Is(err, metadata.ErrNotFound) {
		return
	}
	e, patch := w.patch(id)
	e.Kind = history.Replace
	document, err := metadata.MergePatch(doc.Metadata, patch)
	if err == nil {
		doc, err = store.Replace(ctx, id, document)
	}
	w.ended(e, doc, err)
}
