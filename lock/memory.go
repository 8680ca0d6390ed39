package lock

import (
	"context"
	"math"
	"sync/atomic"
	"time"
)

// Memory is a [Locker] of a single process, without a server: for hosts' unit
// tests, and for programs that are alone. It keeps the promises that
// [Postgres] keeps. Its locks cannot be lost.
type Memory struct {
	queue  queue
	fences atomic.Int64
}

var _ AllLocker = (*Memory)(nil)

// NewMemory returns a Memory in which every key is free. Observers are told of locks and
// holds.
func NewMemory(observers ...Observer) *Memory {
	m := new(Memory)
	o := (&PostgresOptions{HandOff: math.MaxInt64, MaxKeys: math.MaxInt, Observers: observers}).withDefaults()
	m.queue.init(m, o)
	return m
}

// Lock is [Locker].Lock.
func (m *Memory) Lock(ctx context.Context, key Key) (*Held, error) {
	return m.queue.acquire(ctx, key, alone, false)
}

// TryLock is [Locker].TryLock.
func (m *Memory) TryLock(ctx context.Context, key Key) (*Held, error) {
	return m.queue.acquire(ctx, key, alone, true)
}

// RLock is [Locker].RLock.
func (m *Memory) RLock(ctx context.Context, key Key) (*Held, error) {
	return m.queue.acquire(ctx, key, shared, false)
}

// TryRLock is [Locker].TryRLock.
func (m *Memory) TryRLock(ctx context.Context, key Key) (*Held, error) {
	return m.queue.acquire(ctx, key, shared, true)
}

// LockAll takes several keys: all of them, or none. It waits like
// [Locker].Lock, in whatever order the keys are given, and never for somebody
// who waits for it in LockAll. Keys given twice count once.
func (m *Memory) LockAll(ctx context.Context, keys ...Key) (*Held, error) {
	return m.queue.acquireAll(ctx, keys)
}

// Status tells who holds key, and who waits for it. No process of a server has it: that of
// each [Holder] and [Waiter] is zero.
func (m *Memory) Status(_ context.Context, key Key) (Status, error) {
	if err := key.Err(); err != nil {
		return Status{}, err
	}
	s := m.queue.describe(Status{Key: key})
	s.gather([]account{{Keys: m.queue.account(), by: Waiter{InThisLocker: true}}})
	s.Key = key
	return s, nil
}

// Stats returns the counts so far.
func (m *Memory) Stats() Stats { return m.queue.stats() }

// With no other process to ask, every key that nobody here holds is free.

func (m *Memory) ask(e *entry)               { m.queue.answered(e, true, nil, nil, time.Now()) }
func (m *Memory) park(*entry) bool           { return false }
func (m *Memory) inquire(e *entry)           { m.queue.inquired(e, false, nil) }
func (m *Memory) abandon(*entry)             {}
func (m *Memory) unpark(*entry)              {}
func (m *Memory) withheld(*entry) bool       { return false }
func (m *Memory) release(_ *entry, r *reply) { r.settle(1, nil) }
func (m *Memory) fence(*claim) *reply        { return settled(m.fences.Add(1), nil) }

func (*Memory) confirm(context.Context, *session) error { return nil }
func (*Memory) database() database                      { return database{} }
