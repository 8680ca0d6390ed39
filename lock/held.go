package lock

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"sync/atomic"
	"time"
)

// Held is a lock that its caller holds, of one key or of several that were taken together. One
// that is dropped without Unlock is unlocked when the garbage collector finds it. Its methods
// are safe for concurrent use.
type Held struct {
	keys   []Key
	shared bool
	hold   Hold
	ctx    atomic.Pointer[holdContext] // made on first use
}

// Hold is what a [Locker] implementation supplies behind a [Held]. Its methods are safe for
// concurrent use. An implementation that hands keys from one holder to the next without a
// server must have the method Writing of [Held.Writing], too.
type Hold interface {
	// Unlock does what [Held.Unlock] says.
	Unlock() error
	// Fence does what [Held.Fence] says.
	Fence(ctx context.Context) (int64, error)
	// Backend does what [Held.Backend] says.
	Backend(key Key) (Backend, bool)
}

// writingHold is a [Hold] of a [Locker] that hands keys from one holder to the next
// without the server. It has to know of writes under way.
type writingHold interface {
	// Writing does what [Held.Writing] says.
	Writing() (done func(), err error)
}

// Backend identifies one session of a PostgreSQL server. A server reuses process ids, but no
// two sessions have the same id and start.
type Backend struct {
	PID   uint32    `json:"pid"`            // pg_stat_activity.pid
	Start time.Time `json:"start,omitzero"` // pg_stat_activity.backend_start; zero where the role may not see it
}

// String returns "process" and the process id, or "this process" for a [Memory].
func (b Backend) String() string {
	if b.PID == 0 {
		return "this process" // of a Memory
	}
	return "process " + strconv.FormatUint(uint64(b.PID), 10)
}

// NewHeld returns a Held of keys, for implementations of [Locker]. Its context has the values
// of ctx, but not its deadline or cancellation. The implementation calls cancel with [ErrLost]
// when the lock is lost, and with [ErrReleased] when it has been unlocked.
func NewHeld(ctx context.Context, hold Hold, shared bool, keys ...Key) (h *Held, cancel context.CancelCauseFunc) {
	own, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	h = &Held{keys: sortKeys(keys), shared: shared, hold: hold}
	h.ctx.Store(&holdContext{own, h})
	return h, cancel
}

// sortKeys returns keys in the order of their ids, each id once.
func sortKeys(keys []Key) []Key {
	keys = slices.SortedFunc(slices.Values(keys), func(a, b Key) int { return cmp.Compare(a.id, b.id) })
	return slices.CompactFunc(keys, func(a, b Key) bool { return a.id == b.id })
}

// Key returns the key, or one of them if there are several.
func (h *Held) Key() Key { return h.keys[0] }

// Keys returns a copy of the list of keys held.
func (h *Held) Keys() []Key { return slices.Clone(h.keys) }

// Shared reports whether the lock is a shared one.
func (h *Held) Shared() bool { return h.shared }

// Context returns a context that ends with the lock. It is canceled with cause [ErrLost] as
// soon as the loss of the lock is known, and with cause [ErrReleased] by Unlock (see
// [context.Cause]).
//
// It has the values of the context given to Lock, but neither its deadline nor its
// cancellation: a deadline for getting the lock does not end the work. To keep them, use
// [Held.Bind].
//
// Pass this context, or that of Bind, to the work done under the lock. [FromContext] finds the
// lock in it.
func (h *Held) Context() context.Context {
	if ctx := h.ctx.Load(); ctx != nil {
		return ctx
	}
	h.ctx.CompareAndSwap(nil, &holdContext{h.hold.(*hold).context(), h})
	return h.ctx.Load()
}

// Bind returns a copy of ctx that carries the lock and is also canceled when [Held.Context]
// is, with the same cause. Call stop to release its resources.
func (h *Held) Bind(ctx context.Context) (bound context.Context, stop context.CancelFunc) {
	return h.endWith(&holdContext{ctx, h})
}

// endWith returns a copy of ctx that is also canceled when [Held.Context] is.
func (h *Held) endWith(ctx context.Context) (bound context.Context, stop context.CancelFunc) {
	bound, cancel := context.WithCancelCause(ctx)
	own := h.Context()
	unhook := context.AfterFunc(own, func() { cancel(context.Cause(own)) })
	return bound, func() { unhook(); cancel(context.Canceled) }
}

// Fence returns a fencing token: a number greater than every one that earlier holders of the
// key were given, in any process. Pass it to systems other than the database, and have them
// refuse a number smaller than one they have seen. SQL of your own can do the same with a column
// that keeps the greatest number.
//
// The session that holds the lock is asked for it, so a nil error proves that the lock was
// held at that moment. Otherwise the error matches [ErrLost] or [ErrReleased]. Tokens of a
// shared lock are ordered against those of exclusive holders, but not among each other.
//
// For [Postgres] it is the session's pg_current_xact_id. Tokens are comparable within one
// database cluster, across restarts, and across a failover as far as transactions were
// replicated. If the server has synchronous standbys, Fence waits until they have the token,
// on a connection of the host's pool.
func (h *Held) Fence(ctx context.Context) (int64, error) { return h.hold.Fence(ctx) }

// Unlock releases the lock and returns nil once that is confirmed. It takes no context and
// cannot be canceled, but it is bounded: if the server does not answer for
// PostgresOptions.Silence, the Locker gives its session up, and with it all locks. The error
// then matches [ErrLost]: the lock is no longer held, and another holder may have had it before
// Unlock was called.
//
// If a goroutine of this process waits for the key, Unlock can hand it the key without asking
// the server, and returns nil. If the session had been lost just before, unnoticed, the next
// holder's context tells so.
//
// A second call does nothing and returns what the first returned. It never affects a later
// hold of the same key.
func (h *Held) Unlock() error { return h.hold.Unlock() }

// Writing announces a write under the lock that another session makes, as package metadata
// does. The error says why the lock is no longer held. The write's transaction must take a
// guard of the key, and then check that Context has not ended, before it stores anything:
//
//   - A write of what the key stands for takes the guard exclusively:
//     pg_try_advisory_xact_lock of [Key.Guard].
//   - Other writes, of which for instance a leader makes many at a time, share the second
//     guard: pg_try_advisory_xact_lock_shared of [Key.SharedGuard]. A waiter for a shared
//     lock does not wait for them.
//
// Call done when the transaction is known to have ended. If its outcome remains unknown, do
// not call it. Until then this holder's key does not go to another one of this process
// directly, but by way of the server, which gives it to no [Locker] while its guards are
// taken. So, whatever ends the lock, a write made under it is there before the next holder
// begins, or never.
func (h *Held) Writing() (done func(), err error) {
	if own, ok := h.hold.(writingHold); ok {
		return own.Writing()
	}
	if ctx := h.Context(); ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return func() {}, nil
}

// Backend returns the server session that holds key, which is one of [Held.Keys]. ok is false
// if there is none.
func (h *Held) Backend(key Key) (b Backend, ok bool) { return h.hold.Backend(key) }

// FromContext returns the innermost Held of key that ctx carries, or nil. Its lock may have
// been lost or unlocked since: see [Held.Context].
func FromContext(ctx context.Context, key Key) *Held { return FromContextOf(ctx, nil, key) }

// FromContextOf is [FromContext] restricted to locks that l has granted. If l is nil, or
// neither a [Memory] nor a [Postgres], any Held of key will do.
func FromContextOf(ctx context.Context, l Locker, key Key) *Held {
	of := holdKey{id: key.id}
	switch l := l.(type) {
	case *Memory:
		of.table = &l.table
	case *Postgres:
		of.table = &l.table
	}
	h, _ := ctx.Value(of).(*Held)
	return h
}

// AllFromContext returns every Held that ctx carries, of any key, innermost first.
func AllFromContext(ctx context.Context) []*Held {
	var all allKey
	ctx.Value(&all)
	return all
}

// allKey is a context key whose lookup collects every Held of the context chain.
type allKey []*Held

// holdKey is the context key of a hold. The context chain itself is the list of the locks
// that a caller holds.
type holdKey struct {
	id    int64
	table *keyTable // that has granted the key; nil: any
}

type holdContext struct {
	context.Context
	held *Held
}

func (c *holdContext) Value(key any) any {
	switch of := key.(type) {
	case *allKey:
		*of = append(*of, c.held)
	case holdKey:
		_, found := slices.BinarySearchFunc(c.held.keys, of.id, func(k Key, id int64) int { return cmp.Compare(k.id, id) })
		if own, _ := c.held.hold.(*hold); found && (of.table == nil || own != nil && own.table == of.table) {
			return c.held
		}
	case *hold:
		if c.held.keepsOut(of) {
			return c.held
		}
	}
	return c.Context.Value(key)
}
