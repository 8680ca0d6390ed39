// Package seam has types that let a simulation control the library's goroutines. Otherwise
// they behave like those of the standard library.
package seam

import "sync"

// Mutex is a [sync.Mutex] that a simulation can control.
//
// A simulation needs two things that sync.Mutex does not have: to stop a goroutine just
// before a critical section, so that another one can enter first; and that testing/synctest
// counts a goroutine that waits for the mutex as blocked. Otherwise, the cost is a comparison
// with nil.
type Mutex struct {
	mutex sync.Mutex
	yield func()
	taken chan struct{}
}

// Simulate makes every Lock call yield first, which may block for any time. Call it before
// the mutex is used.
func (m *Mutex) Simulate(yield func()) {
	m.yield, m.taken = yield, make(chan struct{}, 1)
}

// Lock locks the mutex, like that of [sync.Mutex].
func (m *Mutex) Lock() {
	if m.yield == nil {
		m.mutex.Lock()
		return
	}
	m.yield()
	m.taken <- struct{}{}
}

// TryLock locks the mutex if it is free, like that of [sync.Mutex].
func (m *Mutex) TryLock() bool {
	if m.yield == nil {
		return m.mutex.TryLock()
	}
	select {
	case m.taken <- struct{}{}:
		return true
	default:
		return false
	}
}

// Unlock unlocks the mutex, like that of [sync.Mutex].
func (m *Mutex) Unlock() {
	if m.yield == nil {
		m.mutex.Unlock()
		return
	}
	<-m.taken
}
