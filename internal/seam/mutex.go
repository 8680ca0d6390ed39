// Package seam is where a simulation takes hold of the library: a few types that
// do the plain thing at run time, and let a test decide who goes next.
package seam

import "sync"

// Mutex is a [sync.Mutex] in whose stead a test can put one of its own making.
//
// A simulation needs two things that sync.Mutex does not give: to stop a
// goroutine just before it enters a critical section, which is where another one
// can come first; and that testing/synctest counts as blocked who waits for the
// mutex. At run time it costs a comparison with nil.
type Mutex struct {
	mutex sync.Mutex
	yield func()
	taken chan struct{}
}

// Simulate has every Lock call yield before it asks for the mutex, which yield may
// delay for as long as it likes. It is called before the mutex is used.
func (m *Mutex) Simulate(yield func()) {
	m.yield, m.taken = yield, make(chan struct{}, 1)
}

// Lock is that of [sync.Mutex].
func (m *Mutex) Lock() {
	if m.yield == nil {
		m.mutex.Lock()
		return
	}
	m.yield()
	m.taken <- struct{}{}
}

// TryLock is that of [sync.Mutex].
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

// Unlock is that of [sync.Mutex].
func (m *Mutex) Unlock() {
	if m.yield == nil {
		m.mutex.Unlock()
		return
	}
	<-m.taken
}
