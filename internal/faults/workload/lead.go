package workload

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"example.com/lockstore/backoff"
	"example.com/lockstore/internal/faults/history"
	"example.com/lockstore/lock"
)

// A Leader is a locker with its own way to lead.
type Leader interface {
	Lead(ctx context.Context, key lock.Key, fn func(ctx context.Context, term int64) error) error
}

// A Limiter is a locker with its own semaphores.
type Limiter interface {
	Acquire(ctx context.Context, name lock.Key, permits int) (*lock.Held, error)
}

// permits is the size of the semaphore.
const permits = 2

// permit takes a permit and keeps it for a while. Each permit is recorded as a separate key.
func (w *worker) permit() {
	ctx, cancel := w.bounded()
	defer cancel()
	e := w.to.Begin(history.Event{Worker: w.n, Kind: history.Hold, Key: history.LockOf("permit")})
	held, err := w.acquire(ctx, lock.Name("permit"))
	if err != nil {
		w.refused(e, err)
		return
	}
	e.Return, e.Outcome, e.Key = time.Now(), history.OK, history.LockOf(held.Key().String())
	w.stay(held, &e, func() {
		for range 5 { // long enough that two holders of one permit meet, even on a slow machine
			w.away(held.Context().Done(), w.Pause)
		}
	})
	w.unlocked(e, held.Unlock())
}

func (w *worker) acquire(ctx context.Context, name lock.Key) (*lock.Held, error) {
	if l, ok := w.locker.(Limiter); ok {
		return l.Acquire(ctx, name, permits)
	}
	sem, err := lock.NewSemaphore(w.locker, name, permits)
	if err != nil {
		return nil, err
	}
	return sem.Acquire(ctx)
}

// lead campaigns and leads once, for a while. Its function takes a moment to notice that its
// context has ended.
func (w *worker) lead(name string) {
	ctx, cancel := w.bounded()
	defer cancel()
	e := w.to.Begin(history.Event{Worker: w.n, Kind: history.Hold, Key: history.LockOf(name)})
	var held *lock.Held
	err := w.leads(ctx, lock.Name(name), func(ctx context.Context, term int64) error {
		held = lock.FromContext(ctx, lock.Name(name))
		e.Return, e.Outcome, e.Fence = time.Now(), history.OK, term
		w.stay(held, &e, func() {
			if w.rand.IntN(2) == 0 {
				w.merge(boundBy(ctx), w.document())
			}
			if w.rand.IntN(2) == 0 {
				cancel()
			}
			w.away(ctx.Done(), w.Pause)
			time.Sleep(rand.N(2 * time.Millisecond))
		})
		return backoff.Permanent(fmt.Errorf("term %d is over", term))
	})
	if held == nil {
		w.refused(e, err)
		return
	}
	w.unlocked(e, held.Unlock()) // returns the same as the first call
}

func (w *worker) leads(ctx context.Context, key lock.Key, fn func(context.Context, int64) error) error {
	if l, ok := w.locker.(Leader); ok {
		return l.Lead(ctx, key, fn)
	}
	return lock.Lead(ctx, w.locker, key, backoff.Constant{Base: time.Millisecond}, fn)
}
