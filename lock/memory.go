package lock

import (
	"context"
	"math"
	"sync/atomic"
	"time"
)

// Memory is a [Locker] of a single process, without a server, for unit tests of hosts and for
// programs that run alone. It makes the same promises as [Postgres]. Its locks cannot be lost.
// Its methods are safe for concurrent use. Make one with [NewMemory].
type Memory struct {
	table  keyTable
	fences atomic.Int64
}

var _ AllLocker = (*Memory)(nil)

// NewMemory returns a Memory in which every key is free. Observers are notified of locks and
// holds.
func NewMemory(observers ...Observer) *Memory {
	m := new(Memory)
	o := (&PostgresOptions{HandOff: math.MaxInt64, MaxKeys: math.MaxInt, Observers: observers}).withDefaults()
	m.table.init(m, o)
	return m
}

// Lock waits until no other caller holds key, and takes it exclusively. See [Locker.Lock].
func (m *Memory) Lock(ctx context.Context, key Key) (*Held, error) {
	return m.table.acquire(ctx, key, alone, false)
}

// TryLock takes key exclusively if it is free and has no waiter. See [Locker.TryLock].
func (m *Memory) TryLock(ctx context.Context, key Key) (*Held, error) {
	return m.table.acquire(ctx, key, alone, true)
}

// RLock waits until no other caller holds key exclusively, and takes a shared lock. See
// [Locker.RLock].
func (m *Memory) RLock(ctx context.Context, key Key) (*Held, error) {
	return m.table.acquire(ctx, key, shared, false)
}

// TryRLock takes a shared lock unless key is held or waited for exclusively. See
// [Locker.TryRLock].
func (m *Memory) TryRLock(ctx context.Context, key Key) (*Held, error) {
	return m.table.acquire(ctx, key, shared, true)
}

// LockAll takes all of keys exclusively, or none of them. See [AllLocker.LockAll]. It waits
// like Lock, in whatever order the keys are given, and never deadlocks with another LockAll. A
// key given twice counts once.
func (m *Memory) LockAll(ctx context.Context, keys ...Key) (*Held, error) {
	return m.table.acquireAll(ctx, keys)
}

// Status returns who holds key and who waits for it. There is no server session: the Backend
// of each [Holder] and [Waiter] is zero.
func (m *Memory) Status(_ context.Context, key Key) (Status, error) {
	if err := key.Err(); err != nil {
		return Status{}, err
	}
	s := m.table.describe(Status{Key: key})
	s.gather([]report{{Keys: m.table.report(), by: Waiter{InThisLocker: true}}})
	s.Key = key
	return s, nil
}

// Stats returns the counts so far.
func (m *Memory) Stats() Stats { return m.table.stats() }

// There is no other process to ask, so every key that is not held here is free.

func (m *Memory) ask(e *entry)               { m.table.answered(e, true, nil, nil, time.Now()) }
func (m *Memory) waitAtServer(*entry) bool   { return false }
func (m *Memory) inquire(e *entry)           { m.table.inquired(e, false, nil) }
func (m *Memory) abandon(*entry)             {}
func (m *Memory) dropWanted(*entry)          {}
func (m *Memory) withheld(*entry) bool       { return false }
func (m *Memory) release(_ *entry, r *reply) { r.settle(1, nil) }
func (m *Memory) fence(*request) *reply      { return settled(m.fences.Add(1), nil) }

func (*Memory) confirm(context.Context, *session) error { return nil }
func (*Memory) database() database                      { return database{} }
