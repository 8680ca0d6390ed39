package metadata

import "time"

// Overlap has the store's commits of a document overlap as if the server were far.
func (p *Postgres) Overlap() { p.pg.queue.pace = pace{trip: time.Hour, work: 1} }
