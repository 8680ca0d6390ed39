package lock

import (
	"slices"
)

// This file is a model of the server's lock table, with the semantics that PostgreSQL
// documents in 9.28.10, Advisory Lock Functions, and 13.3.5.

// lockTable has one lock for each number that was ever asked for, in the order of first use.
type lockTable []*tableLock

type tableLock struct {
	key     int64 // or a guard, or a flag
	holders []grant
	queue   []*backend // waiters, first come first
}

// A grant counts how often a backend has a lock, by mode.
type grant struct {
	backend *backend
	n       [2]int
}

func (t *lockTable) at(key int64) *tableLock {
	for _, l := range *t {
		if l.key == key {
			return l
		}
	}
	l := &tableLock{key: key}
	*t = append(*t, l)
	return l
}

// count returns how often b has the lock in a mode.
func (l *tableLock) count(b *backend, m mode) int {
	for _, g := range l.holders {
		if g.backend == b {
			return g.n[m]
		}
	}
	return 0
}

// isFree reports whether b could have the lock at once, with so many ahead in the queue.
func (l *tableLock) isFree(b *backend, m mode, ahead int) bool {
	for _, g := range l.holders {
		if g.backend != b && (g.n[alone] > 0 || m == alone && g.n[shared] > 0) {
			return false
		}
	}
	for _, w := range l.queue[:ahead] {
		if m == alone || w.wait.mode == alone {
			return false
		}
	}
	return true
}

// wanted reports whether a session has the lock exclusively, or waits to.
func (l *tableLock) wanted() bool {
	return slices.ContainsFunc(l.holders, func(g grant) bool { return g.n[alone] > 0 }) ||
		slices.ContainsFunc(l.queue, func(b *backend) bool { return b.wait.mode == alone })
}

func (l *tableLock) grant(b *backend, m mode) {
	i := slices.IndexFunc(l.holders, func(g grant) bool { return g.backend == b })
	if i < 0 {
		i = len(l.holders)
		l.holders = append(l.holders, grant{backend: b})
	}
	l.holders[i].n[m]++
}

// try grants the lock if b can have it at once, or has it already.
func (l *tableLock) try(b *backend, m mode) bool {
	if l.count(b, m) == 0 && !l.isFree(b, m, len(l.queue)) {
		return false
	}
	l.grant(b, m)
	return true
}

// unlock takes back one grant. It reports false if there is none.
func (l *tableLock) unlock(b *backend, m mode) bool {
	i := slices.IndexFunc(l.holders, func(g grant) bool { return g.backend == b })
	if i < 0 || l.holders[i].n[m] == 0 {
		return false
	}
	if l.holders[i].n[m]--; l.holders[i].n == [2]int{} {
		l.holders = slices.Delete(l.holders, i, i+1)
	}
	l.wake()
	return true
}

// wake grants the lock to those in the queue that can have it now.
func (l *tableLock) wake() {
	for i := 0; i < len(l.queue); {
		w := l.queue[i]
		if !l.isFree(w, w.wait.mode, i) {
			i++
			continue
		}
		l.queue = slices.Delete(l.queue, i, i+1)
		l.grant(w, w.wait.mode)
		w.wait.granted = true
	}
}

// forget makes b wait no longer.
func (l *tableLock) forget(b *backend) {
	if i := slices.Index(l.queue, b); i >= 0 {
		l.queue = slices.Delete(l.queue, i, i+1)
		l.wake()
	}
}

// release takes back all locks of b, as the end of its session does.
func (t *lockTable) release(b *backend) {
	for _, l := range *t {
		l.forget(b)
		if i := slices.IndexFunc(l.holders, func(g grant) bool { return g.backend == b }); i >= 0 {
			l.holders = slices.Delete(l.holders, i, i+1)
			l.wake()
		}
	}
}
