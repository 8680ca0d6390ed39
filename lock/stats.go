package lock

import "time"

// Stats counts what a Locker has done. The first two groups describe the present, the last
// counts since the Locker was made: subtract two of them for what happened in between.
type Stats struct {
	Keys    int // keys held or waited for here
	Holders int // holds that have not been unlocked or lost, one for each key
	Waiters int // requests that wait, one for each key

	Connections int // open connections of a Postgres for locks: one, unless it is lost, and those of PostgresOptions.WaitConns

	Acquired   int64         // locks granted
	WaitTime   time.Duration // sum of the waits for them
	HandedOff  int64         // locks handed off within the process without asking the server; included in Acquired
	Busy       int64         // calls that ended with [ErrBusy]
	Lost       int64         // locks lost with their session
	Evicted    int64         // locks taken back by Evict
	Sessions   int64         // connections opened for locks
	Batches    int64         // round trips
	Operations int64         // operations that these carried
}

func (t *keyTable) stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.counts
	s.Keys, s.Holders, s.Waiters = len(t.entries), t.holding, t.waiting
	return s
}

// Stats returns the counts so far. It does not ask the server.
func (p *Postgres) Stats() Stats {
	s := p.table.stats()
	p.table.mu.Lock()
	defer p.table.mu.Unlock()
	s.Connections = len(p.sessions())
	return s
}
