package faults_test

import (
	"context"
	"encoding/json"
	"iter"
	"sync"

	"example.com/lockstore/internal/faults/workload"
	"example.com/lockstore/metadata"
)

// A bulletin carries hints to watchers.
type bulletin struct {
	mu      sync.Mutex
	changed chan struct{}
}

func (b *bulletin) hint() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changed != nil {
		close(b.changed)
	}
	b.changed = nil
}

func (b *bulletin) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changed == nil {
		b.changed = make(chan struct{})
	}
	return b.changed
}

// hintingStore watches by hints alone, which its writes do not always give.
type hintingStore struct {
	workload.Store
	*bulletin
	commit func(hint func(), write func() error) error
}

func (s hintingStore) Merge(ctx context.Context, id string, patch json.RawMessage) (doc metadata.Document, err error) {
	err = s.commit(s.hint, func() (err error) { doc, err = s.Store.Merge(ctx, id, patch); return err })
	return doc, err
}

func (s hintingStore) Update(ctx context.Context, id string, decide func(metadata.Document) (json.RawMessage, error)) (doc metadata.Document, err error) {
	err = s.commit(s.hint, func() (err error) { doc, err = s.Store.Update(ctx, id, decide); return err })
	return doc, err
}

func (s hintingStore) Watch(ctx context.Context, ids ...string) iter.Seq2[metadata.Document, error] {
	return func(yield func(metadata.Document, error) bool) {
		last := map[string]int64{}
		for {
			changed := s.next()
			for _, id := range ids {
				doc, err := s.Get(ctx, id)
				if err == nil && doc.Version > last[id] {
					last[id] = doc.Version
					if !yield(doc, nil) {
						return
					}
				}
			}
			select {
			case <-changed:
			case <-ctx.Done():
				yield(metadata.Document{}, ctx.Err())
				return
			}
		}
	}
}

// laggingWatcher delivers every fifth state late.
type laggingWatcher struct {
	workload.Store
	watcher workload.Watcher
}

func (s *laggingWatcher) Watch(ctx context.Context, ids ...string) iter.Seq2[metadata.Document, error] {
	return func(yield func(metadata.Document, error) bool) {
		told, kept := 0, metadata.Document{}
		for doc, err := range s.watcher.Watch(ctx, ids...) {
			if told++; told%5 == 0 && err == nil {
				kept = doc
				continue
			}
			if !yield(doc, err) || kept.Metadata != nil && kept.ID == doc.ID && !yield(kept, nil) {
				return
			}
			kept = metadata.Document{}
		}
	}
}
