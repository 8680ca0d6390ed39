package lock

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// An Option changes how [Do] and [Ensure] take the lock. Without options they do as Lock does.
type Option func(*taking)

type taking struct {
	keys   []Key
	shared bool
	try    bool
	wait   time.Duration // 0: as long as the context lasts
}

// And takes more keys together with the first, all or none, exclusively. The Locker must be an
// [AllLocker], and neither [Shared] nor [Try] may be given. Otherwise the error matches
// [ErrUnsupported].
func And(keys ...Key) Option { return func(t *taking) { t.keys = append(t.keys, keys...) } }

// Shared takes the lock as RLock does.
func Shared() Option { return func(t *taking) { t.shared = true } }

// Try takes the lock as TryLock does: it does not wait for other holders. It is for a single
// key.
func Try() Option { return func(t *taking) { t.try = true } }

// WaitAtMost bounds the wait for the lock, and leaves the work the time of the context. Beyond
// d the error matches [ErrBusy] and [context.DeadlineExceeded].
func WaitAtMost(d time.Duration) Option { return func(t *taking) { t.wait = max(d, 1) } }

// Do calls fn while it holds key, and unlocks in any case, also if fn panics. It blocks as
// [Locker.Lock] does. The context given to fn is ctx, which is also canceled with cause
// [ErrLost] if the lock is lost, and carries the lock as [Held.Context] does.
//
// The error is that of taking the lock, in which case fn was not called; or that of fn, joined
// with that of the unlock unless it contains it already. So after a loss errors.Is(err,
// ErrLost) is true, whatever fn returned.
func Do(ctx context.Context, l Locker, key Key, fn func(context.Context) error, options ...Option) (err error) {
	held, err := newTaking(key, options).lock(ctx, l)
	if err != nil {
		return err
	}
	defer func() { err = unlessSaid(err, held.Unlock()) }()
	ctx, stop := held.Bind(ctx)
	defer stop()
	return fn(ctx)
}

// Ensure calls fn under a lock that ctx carries, or takes the lock as [Do] does. It is for
// code that may be called with the lock or without.
//
// If ctx carries a hold of key, and of every other one asked for, fn runs under it, and Ensure
// does not unlock it. A shared hold suffices for [Shared] only. If that hold has ended, fn is
// not called, and the error is the cause.
//
// Code outside this package could not tell whether a hold in ctx is of the same Locker and
// suffices, nor would its loss end a context that only carries it.
func Ensure(ctx context.Context, l Locker, key Key, fn func(context.Context) error, options ...Option) error {
	holds := newTaking(key, options).carriedBy(ctx, l)
	if holds == nil {
		return Do(ctx, l, key, fn, options...)
	}
	for _, h := range holds {
		if own := h.Context(); own.Err() != nil {
			return fmt.Errorf("lock: %s: %w", key, context.Cause(own))
		}
		bound, stop := h.endWith(ctx)
		defer stop()
		ctx = bound
	}
	err := fn(ctx)
	for _, h := range holds {
		err = unlessSaid(err, context.Cause(h.Context()))
	}
	return err
}

func newTaking(key Key, options []Option) *taking {
	t := &taking{keys: []Key{key}}
	for _, o := range options {
		o(t)
	}
	return t
}

// unlessSaid joins more to err, unless err contains it already.
func unlessSaid(err, more error) error {
	if more == nil || errors.Is(err, more) {
		return err
	}
	return errors.Join(err, more)
}

func (t *taking) lock(ctx context.Context, l Locker) (*Held, error) {
	if t.wait > 0 {
		brief, cancel := context.WithTimeout(ctx, t.wait)
		defer cancel()
		ctx = brief
	}
	keys := sortKeys(t.keys)
	if len(keys) > 1 {
		all, ok := l.(AllLocker)
		if !ok || t.shared || t.try {
			return nil, fmt.Errorf("%w: several keys are taken by LockAll only, which neither shares nor tries", ErrUnsupported)
		}
		return all.LockAll(ctx, keys...)
	}
	switch {
	case t.shared && t.try:
		return l.TryRLock(ctx, keys[0])
	case t.shared:
		return l.RLock(ctx, keys[0])
	case t.try:
		return l.TryLock(ctx, keys[0])
	}
	return l.Lock(ctx, keys[0])
}

// carriedBy returns the holds in ctx that suffice, one for each of the keys, or nil.
func (t *taking) carriedBy(ctx context.Context, l Locker) (holds []*Held) {
	for _, key := range t.keys {
		h := FromContextOf(ctx, l, key)
		if h == nil || h.shared && !t.shared {
			return nil
		}
		holds = append(holds, h)
	}
	return holds
}
