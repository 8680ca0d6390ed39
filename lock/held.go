package lock

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"sync/atomic"
	"time"
)

// Held is a lock in the hands of its holder: one tenure of one key, or of
// several taken together. It is safe for concurrent use.
type Held struct {
	keys   []Key
	shared bool
	tenure Tenure
	ctx    atomic.Pointer[tenureContext] // made when it is first asked for
}

// Tenure is what a [Locker] implementation supplies behind a [Held].
// Its methods are safe for concurrent use. One of an implementation that hands
// keys on by itself has the method Writing, too, as [Held.Writing].
type Tenure interface {
	// Unlock is [Held.Unlock].
	Unlock() error
	// Fence is [Held.Fence].
	Fence(ctx context.Context) (int64, error)
	// Backend is [Held.Backend].
	Backend(key Key) (Backend, bool)
}

// writingTenure is a [Tenure] of a [Locker] that hands keys on from one holder to
// the next without the server: it has to know of writes.
type writingTenure interface {
	// Writing is [Held.Writing].
	Writing() (done func(), err error)
}

// Backend identifies one session of a PostgreSQL server: process ids are used
// again, a process id with its start is not.
type Backend struct {
	PID   uint32    `json:"pid"`            // pg_stat_activity.pid
	Start time.Time `json:"start,omitzero"` // pg_stat_activity.backend_start; zero where the role may not see it
}

// String names the process.
func (b Backend) String() string {
	if b.PID == 0 {
		return "this process" // of a Memory
	}
	return "process " + strconv.FormatUint(uint64(b.PID), 10)
}

// NewHeld is for implementations of [Locker]: a holder of keys, the values of
// ctx in its context, but not its deadline or cancellation. The implementation
// calls cancel with [ErrLost] when the lock is lost and with [ErrReleased]
// when it has been unlocked.
func NewHeld(ctx context.Context, t Tenure, shared bool, keys ...Key) (h *Held, cancel context.CancelCauseFunc) {
	own, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	h = &Held{keys: sortKeys(keys), shared: shared, tenure: t}
	h.ctx.Store(&tenureContext{own, h})
	return h, cancel
}

// sortKeys returns keys in the order of their ids, each id once.
func sortKeys(keys []Key) []Key {
	keys = slices.SortedFunc(slices.Values(keys), func(a, b Key) int { return cmp.Compare(a.id, b.id) })
	return slices.CompactFunc(keys, func(a, b Key) bool { return a.id == b.id })
}

// Key is the key held; one of them where there are several.
func (h *Held) Key() Key { return h.keys[0] }

// Keys are the keys held.
func (h *Held) Keys() []Key { return slices.Clone(h.keys) }

// Shared reports whether others may hold the key at the same time.
func (h *Held) Shared() bool { return h.shared }

// Context lives as long as the lock is held. It is cancelled with cause
// [ErrLost] as soon as the loss of the lock is known, and with cause
// [ErrReleased] by Unlock (see [context.Cause]). It has the values of the
// context given to Lock, but neither its deadline nor its cancellation: the
// deadline for getting a lock does not end it.
//
// Work done under the lock passes this context on (or that of [Held.Bind]);
// callees find the tenure in it by [FromContext].
func (h *Held) Context() context.Context {
	if ctx := h.ctx.Load(); ctx != nil {
		return ctx
	}
	h.ctx.CompareAndSwap(nil, &tenureContext{h.tenure.(*tenure).context(), h})
	return h.ctx.Load()
}

// Bind derives from ctx a context that carries this tenure and is cancelled,
// too, when [Held.Context] is, with its cause. Calling stop releases its
// resources.
func (h *Held) Bind(ctx context.Context) (bound context.Context, stop context.CancelFunc) {
	return h.endWith(&tenureContext{ctx, h})
}

// endWith derives from ctx a context that is cancelled, too, when [Held.Context] is.
func (h *Held) endWith(ctx context.Context) (bound context.Context, stop context.CancelFunc) {
	bound, cancel := context.WithCancelCause(ctx)
	own := h.Context()
	unhook := context.AfterFunc(own, func() { cancel(context.Cause(own)) })
	return bound, func() { unhook(); cancel(context.Canceled) }
}

// Fence returns a number that grows with every tenure: any that a holder of
// this key was given before, in whatever process, is smaller. Give it to
// systems beyond the database, which refuse a number smaller than one they
// have seen. It is asked for on the session that holds the lock, so it proves
// that the lock was held at that moment; the error matches [ErrLost] or
// [ErrReleased] otherwise. A shared lock's fences order its holders against
// those that hold it alone, not among each other.
//
// For [Postgres] it is the session's pg_current_xact_id: comparable within one
// database cluster, across restarts and failover. Where the server has synchronous
// standbys, Fence waits until they have it, on a connection of the host's pool.
func (h *Held) Fence(ctx context.Context) (int64, error) { return h.tenure.Fence(ctx) }

// Unlock gives the lock back and returns nil once that is confirmed. It needs
// no context and cannot be cancelled, but it is bounded: a server that does
// not answer loses the session, and with it the lock. The error then matches
// [ErrLost]: the lock is not held any more, but it may have been somebody
// else's before Unlock was called.
//
// A lock that the next waiter in this process is handed is not given back, so the
// server is not asked, and Unlock returns nil. Should the session have been lost
// just before, unnoticed, it is the next holder who is told.
//
// Unlocking again does nothing and returns what the first call returned. It
// never touches a later tenure of the same key.
func (h *Held) Unlock() error { return h.tenure.Unlock() }

// Writing says that a write under the lock begins that another session makes, as
// package metadata does; the error is why the lock is no longer held. Such a write
// takes the key's guard in its transaction (pg_try_advisory_xact_lock of [Key.Guard]),
// and then looks whether Context has ended, before it stores anything. A write of
// something else than what the key is of, as a leader makes many at a time, takes the
// second guard, which others of its kind share (pg_try_advisory_xact_lock_shared of
// [Key.SharedGuard]); who waits to share the key does not wait for those.
//
// Until done is called, which is when the transaction is known to have ended, the
// key goes from this holder to no other of this process but by the server, and that
// gives it to nobody who asks for it through a [Locker] while its guards are taken. So
// whatever ends the lock, what was written under it is there before the next holder
// begins, or never. Where the outcome remains unknown, done is not called.
func (h *Held) Writing() (done func(), err error) {
	if t, ok := h.tenure.(writingTenure); ok {
		return t.Writing()
	}
	if ctx := h.Context(); ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return func() {}, nil
}

// Backend is the server session that holds key, one of [Held.Keys], if there
// is one.
func (h *Held) Backend(key Key) (b Backend, ok bool) { return h.tenure.Backend(key) }

// FromContext returns the tenure of key that ctx carries, innermost first, or
// nil. The tenure may have been lost or unlocked since: see [Held.Context].
func FromContext(ctx context.Context, key Key) *Held { return FromContextOf(ctx, nil, key) }

// FromContextOf is [FromContext] for what l has granted alone. Of a [Locker] that is
// neither a [Memory] nor a [Postgres], and of nil, that is every Held.
func FromContextOf(ctx context.Context, l Locker, key Key) *Held {
	of := tenureKey{id: key.id}
	switch l := l.(type) {
	case *Memory:
		of.queue = &l.queue
	case *Postgres:
		of.queue = &l.queue
	}
	h, _ := ctx.Value(of).(*Held)
	return h
}

// AllFromContext returns what [FromContext] finds of any key: each Held that ctx
// carries, innermost first.
func AllFromContext(ctx context.Context) []*Held {
	var all allKey
	ctx.Value(&all)
	return all
}

// allKey is a context key whose search gathers all that the context chain carries.
type allKey []*Held

// tenureKey is the context key of a tenure: the context chain itself is the
// list of the locks that its bearer holds.
type tenureKey struct {
	id    int64
	queue *queue // that has granted it; nil: any
}

type tenureContext struct {
	context.Context
	held *Held
}

func (c *tenureContext) Value(key any) any {
	switch of := key.(type) {
	case *allKey:
		*of = append(*of, c.held)
	case tenureKey:
		_, found := slices.BinarySearchFunc(c.held.keys, of.id, func(k Key, id int64) int { return cmp.Compare(k.id, id) })
		if t, _ := c.held.tenure.(*tenure); found && (of.queue == nil || t != nil && t.queue == of.queue) {
			return c.held
		}
	case *tenure:
		if c.held.keepsOut(of) {
			return c.held
		}
	}
	return c.Context.Value(key)
}
