package metadata

import "time"

// Overlap has the store's commits of a document overlap as if the server were far, from a
// commit on that knows of none before.
func (p *Postgres) Overlap() {
	p.pg.queues.pace, p.pg.queues.recent = pace{trip: time.Hour, work: 1}, recent{}
}

// RowOrderLock is the number of the lock that orders the hosts' transactions that wait for a row.
var RowOrderLock = rowOrderLock
