package lock

import "time"

// Stats counts what a Locker has done. The first group is the present, the
// rest is since its beginning. Compare two to see what happened between.
type Stats struct {
	Keys    int // held or wanted here
	Holders int // Helds that have not been unlocked or lost
	Waiters int // calls that wait

	Connections int // of a Postgres, for locks: one, unless it is lost, and those of Parking

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
func (p *Postgres) Stats() Stats {
	s := p.queue.stats()
	p.queue.mu.Lock()
	defer p.queue.mu.Unlock()
	s.Connections = len(p.sessions())
	return s
}
