// Package workload puts a heavy load on lockers and stores, and records what happens.
package workload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"example.com/lockstore/internal/faults/history"
	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
)

// Config is the size of a workload, and what it uses.
type Config struct {
	Process    int // makes this process's values differ from those of others
	Generation int // and from those of earlier processes of its number
	Workers    int // patient workers: see Patience
	Hasty      int // workers whose contexts end about when their calls do: see hasty
	Watchers   int // of the hot documents, if the store is a Watcher
	Repeaters  int // workers that write with tokens, if the store is a Repeater
	Hot, Cold  int // numbers of documents, and of keys
	Patience   time.Duration
	Pause      time.Duration // how long a holder keeps a lock, at most
	Rest       time.Duration // of a patient worker between two calls
	Grace      time.Duration // for evicted holders
	Seed       uint64
}

// Run runs workers until ctx ends, and returns when the last call has ended.
func Run(ctx context.Context, locker lock.Locker, store Store, to *history.Recorder, c Config) {
	var group sync.WaitGroup
	pace := newPace()
	for n := range c.Workers + c.Hasty {
		w := newWorker(ctx, n, locker, store, to, c)
		w.pace = pace
		run := w.patient
		if n >= c.Workers {
			w.haste, run = true, w.hasty
		}
		group.Go(run)
	}
	var watchers sync.WaitGroup
	written := make(chan struct{})
	if watcher, ok := store.(Watcher); ok {
		for n := range c.Watchers {
			w := newWorker(ctx, 1000*(c.Generation+1)+n, locker, store, to, c)
			watchers.Go(func() { w.follow(watcher, written) })
		}
	}
	if repeater, ok := store.(Repeater); ok {
		for n := range c.Repeaters {
			w := newWorker(ctx, 2000*(c.Generation+1)+n, locker, store, to, c)
			group.Go(func() { w.repeat(repeater) })
		}
	}
	group.Wait()
	close(written)
	watchers.Wait()
}

// HoldDocuments runs more workers until ctx ends, which use the store only under the locks of
// its documents.
func HoldDocuments(ctx context.Context, workers int, locker lock.Locker, store Store, to *history.Recorder, c Config) {
	var group sync.WaitGroup
	for n := range workers {
		w := newWorker(ctx, c.Workers+c.Hasty+n, locker, store, to, c)
		group.Go(func() {
			for ctx.Err() == nil {
				w.hold("doc", w.hot("doc"))
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
	haste  bool
	pace   *pace
}

func newWorker(ctx context.Context, n int, locker lock.Locker, store Store, to *history.Recorder, c Config) *worker {
	seed := rand.NewPCG(c.Seed, uint64(c.Process)<<32|uint64(c.Generation)<<16|uint64(n))
	return &worker{Config: c, n: n, ctx: ctx, locker: locker, store: store, to: to, rand: rand.New(seed), pace: newPace()}
}

func (w *worker) patient() {
	for w.ctx.Err() == nil {
		w.next()
		if w.Rest > 0 {
			select {
			case <-w.ctx.Done():
			case <-time.After(w.Rest):
			}
		}
	}
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
	case n < 62:
		w.get(w.bounded, w.document())
	case n < 63:
		w.hold(stuck, stuck)
	case n < 71:
		w.hold("key", w.hot("key"))
	case n < 77:
		w.permit()
	case n < 83:
		w.lead("leader")
	case n < 98:
		w.hold("doc", w.hot("doc"))
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

// bounded returns the context of a call. The end of the workload does not cancel a call in
// progress.
func (w *worker) bounded() (context.Context, context.CancelFunc) {
	if w.haste {
		return w.pace.bounded(w.ctx, w.rand)
	}
	return w.long()
}

// long returns a context that hasty workers do not cut short, either.
func (w *worker) long() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(w.ctx), w.Patience)
}

// ended records what a call returned, and rests if it failed before its context ended.
func (w *worker) ended(e history.Event, doc metadata.Document, err error) {
	if w.record(e, doc, err) == history.Failed && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
		w.rest(err)
	}
}

// rest waits, so that failures do not fill the history, and callers do not overload a server
// that is down or has just come back.
func (w *worker) rest(err error) { time.Sleep(restAfter(err, w.rand)) }

func restAfter(err error, r *rand.Rand) time.Duration {
	if unavailable(err) {
		return time.Duration(r.IntN(200)) * time.Millisecond
	}
	return time.Duration(r.IntN(10)) * time.Millisecond
}

func unavailable(err error) bool {
	return errors.Is(err, metadata.ErrUnavailable) || errors.Is(err, lock.ErrUnavailable)
}

func (w *worker) record(e history.Event, doc metadata.Document, err error) history.Outcome {
	e.Return = time.Now()
	switch {
	case err == nil:
		e.Outcome, e.Answer, e.Version, e.Document = history.OK, doc.ID, doc.Version, doc.Metadata
		w.pace.took(e.Return.Sub(e.Call), w.haste || e.Kind == history.Get)
	case errors.Is(err, metadata.ErrUnknownOutcome):
		e.Error = err.Error()
	default:
		e.Outcome, e.Error = history.Failed, err.Error()
	}
	w.to.Record(e)
	return e.Outcome
}
