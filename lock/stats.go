package lock

import (
	"context"
	"time"
)

// Stats counts what a Locker has done. The first group is the present, the
// rest is since its beginning. Compare two to see what happened between.
type Stats struct {
	Keys    int // held or wanted here
	Holders int // Helds that have not been unlocked or lost
	Waiters int // calls that wait

	Acquired   int64         // locks granted
	WaitTime   time.Duration // that they waited, in sum
	HandedOn   int64         // of them, those that passed within the process, without the server
	Busy       int64         // calls that ended because the key was held by others
	Lost       int64         // locks lost with their session
	Evicted    int64         // locks taken back by Evict
	Sessions   int64         // connections opened for locks
	Batches    int64         // round trips
	Operations int64         // that these carried
}

func (q *queue) stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.counts
	s.Keys, s.Holders, s.Waiters = len(q.entries), q.holding, q.waiting
	return s
}

// Stats returns the counts so far. It does not ask the server.
func (p *Postgres) Stats() Stats { return p.queue.stats() }

// An Observer is told of every lock, for metrics and traces. Its methods are
// called on the caller's own goroutine, and delay it.
type Observer interface {
	// Acquired tells that a call of Lock or its kin has ended, after waited:
	// with the lock, or with err.
	Acquired(ctx context.Context, key Key, waited time.Duration, err error)

	// Released tells that a lock has been unlocked after it was held for so
	// long; err is what Unlock returned.
	Released(key Key, held time.Duration, err error)
}
