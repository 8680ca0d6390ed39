package workload

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"example.com/lockstore/internal/faults/history"
	"example.com/lockstore/metadata"
)

// A Watcher reports the states of documents.
type Watcher interface {
	Watch(ctx context.Context, ids ...string) iter.Seq2[metadata.Document, error]
}

// A follower is a watch of the hot documents.
type follower struct {
	*worker
	mu   sync.Mutex
	last map[string]int64 // the last version of each document that it received
}

// follow records what a watcher receives until the others have finished writing, and then
// until it has received the last state. Every other watcher is slow.
func (w *worker) follow(watcher Watcher, written <-chan struct{}) {
	f := &follower{worker: w, last: map[string]int64{}}
	ids := make([]string, w.Hot)
	for i := range ids {
		ids[i] = fmt.Sprint("doc", i)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(w.ctx))
	var group sync.WaitGroup
	defer group.Wait()
	defer stop()
	group.Go(func() {
		for doc, err := range watcher.Watch(ctx, ids...) {
			if ctx.Err() != nil {
				return
			}
			f.record(w.to.Begin(history.Event{Worker: w.n, Kind: history.Watched, Key: doc.ID}), doc, err)
			if w.n%2 == 0 {
				time.Sleep(time.Duration(w.rand.IntN(20)) * time.Millisecond)
			}
		}
	})
	<-written
	for _, id := range ids {
		f.reach(id)
	}
}

func (f *follower) record(e history.Event, doc metadata.Document, err error) {
	f.worker.record(e, doc, err)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last[doc.ID] = doc.Version
}

// reach waits until the follower has received a document's current state, or a later one.
func (f *follower) reach(id string) {
	ctx, cancel := context.WithTimeout(context.Background(), f.Patience)
	defer cancel()
	e := history.Event{Worker: f.n, Kind: history.Watched, Key: id}
	doc, err := f.store.Get(ctx, id)
	if err != nil {
		return // the server is down, or there is no such document
	}
	for told := int64(-1); told < doc.Version; time.Sleep(time.Millisecond) {
		if ctx.Err() != nil {
			e.Version = doc.Version
			f.worker.record(f.to.Begin(e), metadata.Document{}, errors.New("not told"))
			return
		}
		f.mu.Lock()
		told = f.last[id]
		f.mu.Unlock()
	}
}
