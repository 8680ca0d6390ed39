package lock

import "time"

// Steal takes the lock of key from p's session behind its back.
func (p *Postgres) Steal(key Key) {
	p.queue.mu.Lock()
	p.queue.request(p.session, op{code: opDrop, key: key.id})
	p.queue.unlock()
}

// DescribeWithin is for how long an error is described that nobody has asked to have described.
func (p *Postgres) DescribeWithin(d time.Duration) { p.unasked = d }

// Wanted is the number of keys that wait for a connection to wait on.
func (p *Postgres) Wanted() int {
	p.queue.mu.Lock()
	defer p.queue.mu.Unlock()
	return len(p.parking.wanted)
}
