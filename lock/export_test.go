package lock

// Steal takes the lock of key from p's session behind its back.
func (p *Postgres) Steal(key Key) {
	p.queue.mu.Lock()
	p.queue.request(p.session, op{code: opUnlock, key: key.id, blind: true})
	p.queue.unlock()
}
