package metadata

import "time"

// Overlap has the store's commits of a document overlap as if the server were far, from a
// commit on that knows of none before.
func (p *Postgres) Overlap() {
	p.pg.queue.pace, p.pg.queue.recent = pace{trip: time.Hour, work: 1}, recent{}
}

// TurnOf is the number of the lock by which hosts' transactions take turns.
var TurnOf = turnOf
