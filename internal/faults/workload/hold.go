package workload

import (
	"context"
	"fmt"
	"time"

	"example.com/lockstore/internal/faults/history"
	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
)

// stuck is a key that is held until its holder is evicted, for at most stuckLasts.
const (
	stuck      = "stuck"
	stuckLasts = 3 * time.Second
)

// hold takes a lock in one of several ways and keeps it for a while: a key that is no
// document's, or a document's lock, under which it then writes.
func (w *worker) hold(what, name string) {
	ctx, cancel := w.bounded()
	defer cancel()
	key := lock.Name(name)
	if what == "doc" {
		key = w.store.Key(name)
	}
	take, shared, pause := w.locker.Lock, false, w.Pause
	switch n := w.rand.IntN(10); {
	case what == stuck:
		take, pause = w.locker.TryLock, stuckLasts
	case n == 0:
		take = w.locker.TryLock
	case n == 1 && what == "key":
		take, shared = w.locker.RLock, true
	case n == 2 && what == "key":
		take, shared = w.locker.TryRLock, true
	}
	e := w.to.Begin(history.Event{Worker: w.n, Kind: history.Hold, Key: history.LockOf(name), Shared: shared})
	held, err := take(ctx, key)
	if err != nil {
		w.refused(e, err)
		return
	}
	e.Return, e.Outcome = time.Now(), history.OK
	written := func() {}
	w.stay(held, &e, func() {
		if w.rand.IntN(2) == 0 && !shared {
			if fence, err := held.Fence(ctx); err == nil {
				e.Fence = fence
				w.to.Record(e)
			}
		}
		if what == "doc" {
			written = w.writeUnder(func() (context.Context, context.CancelFunc) { return held.Bind(ctx) }, name)
		}
		w.away(held.Context().Done(), pause)
	})
	w.unlocked(e, held.Unlock())
	written()
}

// refused records that a lock was not granted.
func (w *worker) refused(e history.Event, err error) {
	e.Return, e.Outcome, e.Error = time.Now(), history.Failed, err.Error()
	w.to.Record(e)
	if unavailable(err) {
		w.rest(err)
	}
}

// stay records how long a hold lasts: while do runs, unless it is lost.
func (w *worker) stay(held *lock.Held, e *history.Event, do func()) {
	w.to.Record(*e)
	told := make(chan time.Time, 1)
	stop := context.AfterFunc(held.Context(), func() { told <- time.Now() })
	do()
	if stop() {
		e.Until = time.Now()
	} else {
		e.Until, e.Lost = <-told, true
	}
	w.to.Record(*e)
}

// away waits for a random time, or until done.
func (w *worker) away(done <-chan struct{}, most time.Duration) {
	if most > 0 {
		select {
		case <-w.ctx.Done():
		case <-done:
		case <-time.After(time.Duration(w.rand.Int64N(int64(most)))):
		}
	}
}

// unlocked records what Unlock has returned.
func (w *worker) unlocked(e history.Event, err error) {
	if err != nil {
		e.Lost, e.Error = true, err.Error()
	}
	e.Unlocked = time.Now()
	w.to.Record(e)
}

// writeUnder writes a document whose hold b's contexts carry. It may return while a write is in
// progress; the function that it returns waits for that.
func (w *worker) writeUnder(b bound, id string) (written func()) {
	if w.rand.IntN(2) == 0 {
		_, _ = w.get(b, id)
	}
	switch w.rand.IntN(6) {
	case 0:
		return w.mergeMeanwhile(b, id)
	case 1:
		if host, ok := w.store.(Host); ok {
			return w.commitLate(host, b, id)
		}
	case 2:
		w.increment(b, id)
		return func() {}
	}
	for range 1 + w.rand.IntN(2) {
		switch w.rand.IntN(3) {
		case 0:
			w.merge(b, id)
		case 1:
			w.update(b, id)
		case 2:
			w.replace(b, id)
		}
	}
	return func() {}
}

// mergeMeanwhile merges while its caller continues, perhaps with Unlock.
func (w *worker) mergeMeanwhile(b bound, id string) (written func()) {
	ctx, cancel := b()
	e, patch := w.patch(id)
	return background(func() {
		defer cancel()
		doc, err := w.store.Merge(ctx, id, patch)
		w.record(e, doc, err)
	})
}

// commitLate merges in a transaction of the host and commits while its caller continues, perhaps
// with Unlock.
func (w *worker) commitLate(host Host, b bound, id string) (written func()) {
	own, cancel := w.long()
	tx, err := host.Begin(own)
	if err != nil {
		cancel()
		w.rest(err)
		return func() {}
	}
	e, patch := w.patch(id)
	ctx, done := b()
	defer done()
	doc, err := tx.Merge(ctx, id, patch)
	late := time.Duration(w.rand.IntN(5000)) * time.Microsecond
	return background(func() {
		defer cancel()
		if err != nil {
			_ = tx.Rollback(own)
		} else {
			time.Sleep(late)
			if err = tx.Commit(own); err != nil {
				err = fmt.Errorf("%w: %w", metadata.ErrUnknownOutcome, err)
			}
		}
		w.record(e, doc, err)
	})
}

// background runs do in another goroutine; wait waits for it.
func background(do func()) (wait func()) {
	over := make(chan struct{})
	go func() {
		defer close(over)
		do()
	}()
	return func() { <-over }
}

// evict evicts the holders of a lock and records that.
func (w *worker) evict() {
	evicter, ok := w.locker.(Evicter)
	if !ok {
		return
	}
	name := stuck
	key := lock.Name(name)
	switch w.rand.IntN(3) {
	case 0:
		name = w.hot("key")
		key = lock.Name(name)
	case 1:
		name = w.hot("doc")
		key = w.store.Key(name)
	}
	ctx, cancel := w.long() // holders need a moment to notice
	defer cancel()
	e := w.to.Begin(history.Event{Worker: w.n, Kind: history.Eviction, Key: history.LockOf(name)})
	err := evicter.Evict(ctx, key, w.Grace)
	e.Return, e.Outcome = time.Now(), history.OK
	if err != nil {
		e.Outcome, e.Error = history.Failed, err.Error()
	}
	w.to.Record(e)
}
