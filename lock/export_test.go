package lock

import "time"

// Steal takes the lock of key from p's session behind its back.
func (p *Postgres) Steal(key Key) {
	p.table.mu.Lock()
	p.table.submit(p.session, op{code: opDrop, key: key.id})
	p.table.unlock()
}

// DescribeWithin sets how long an error is described although the options do not ask for it.
func (p *Postgres) DescribeWithin(d time.Duration) { p.unasked = d }

// Wanted returns the number of keys that want a wait connection.
func (p *Postgres) Wanted() int {
	p.table.mu.Lock()
	defer p.table.mu.Unlock()
	return len(p.waitConns.wanted)
}
