package workload

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// Hasty workers of all processes start at the same moment: enough of them to disturb each other
// more than a steady load, and rarely enough to keep the history small.
const (
	squallEvery = time.Second
	squallLasts = 300 * time.Millisecond
	squallCalls = 30 // per worker, at most
)

// hasty makes calls whose contexts end before the call begins, after it is done, and at every
// moment between.
func (w *worker) hasty() {
	for w.ctx.Err() == nil {
		squall := time.Now().Truncate(squallEvery)
		for n := 0; n < squallCalls && time.Since(squall) < squallLasts && w.ctx.Err() == nil; n++ {
			w.hurry(int(squall.Unix()) % w.Hot)
			if w.pace.stands() {
				break
			}
		}
		select {
		case <-w.ctx.Done():
		case <-time.After(time.Until(squall.Add(squallEvery))):
		}
	}
}

// hurry makes a random call. Most are merges into a document of this process, which is rarely
// locked, so that many share a commit; the others use the hot document of this squall.
func (w *worker) hurry(number int) {
	own, doc, key := fmt.Sprint("hasty", w.Process), fmt.Sprint("doc", number), fmt.Sprint("key", number)
	switch n := w.rand.IntN(200); {
	case n < 130:
		w.merge(w.bounded, own)
	case n < 140:
		w.update(w.bounded, own)
	case n < 141:
		w.hold("doc", own)
	case n < 156:
		w.merge(w.bounded, doc)
	case n < 160:
		w.update(w.bounded, doc)
	case n < 164:
		w.mergeMany()
	case n < 168:
		w.get(w.bounded, own)
	case n < 190:
		w.hold("key", key)
	case n < 198:
		w.hold("doc", doc)
	default:
		w.evict()
	}
}

// Contexts of hasty workers end after a random time between these two, or after about the
// current duration of calls.
const (
	soonest = 500 * time.Microsecond
	latest  = 30 * time.Millisecond

	together = 4 * time.Millisecond
)

// A pace measures the duration of a process's calls.
type pace struct {
	typical atomic.Int64 // nanoseconds
	last    atomic.Int64 // when a call succeeded, in nanoseconds
}

func newPace() *pace {
	p := new(pace)
	p.typical.Store(int64(latest / 4))
	return p
}

// took records a call that succeeded. Calls of workers that are not hasty show how long a call
// takes without waiting.
func (p *pace) took(d time.Duration, tells bool) {
	p.last.Store(time.Now().UnixNano())
	if tells {
		p.typical.Add((int64(d) - p.typical.Load()) / 32)
	}
}

// stands reports whether no call has succeeded for a while. Each squall then makes one call
// only: new connections would cost the server so much that no call ever succeeded.
func (p *pace) stands() bool { return time.Since(time.Unix(0, p.last.Load())) > time.Second }

// bounded returns a context that ends soon, by its deadline or by cancellation.
func (p *pace) bounded(ctx context.Context, r *rand.Rand) (context.Context, context.CancelFunc) {
	d := soonest + time.Duration(r.Int64N(int64(latest-soonest)))
	if typical := time.Duration(p.typical.Load()); r.IntN(2) == 0 && typical > soonest {
		d = typical/2 + time.Duration(r.Int64N(int64(typical)*3/2))
	}
	if end := time.Now().Add(d); r.IntN(2) == 0 { // many end at the same moment
		d = time.Until(end.Truncate(together).Add(together))
	}
	ctx = context.WithoutCancel(ctx)
	if r.IntN(4) > 0 {
		return context.WithTimeout(ctx, d)
	}
	ctx, cancel := context.WithCancel(ctx)
	timer := time.AfterFunc(d, cancel)
	return ctx, func() { timer.Stop(); cancel() }
}
