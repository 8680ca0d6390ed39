package locktest

import (
	"context"
	"errors"
	"time"

	"example.com/lockstore/lock"
)

func (s *suite) doReleases() {
	key := s.key("k")
	why := errors.New("refused")
	s.is(lock.Do(s.ctx, s.locker, key, func(ctx context.Context) error {
		if lock.FromContext(ctx, key) == nil {
			s.Error("the hold is not in the context")
		}
		return why
	}), why)
	s.free(key)
	func() {
		defer func() {
			if recover() != any("panic") {
				s.Error("the panic did not go on")
			}
		}()
		_ = lock.Do(s.ctx, s.locker, key, func(context.Context) error { panic("panic") })
	}()
	s.free(key)
}

func (s *suite) doTakesAsAsked() {
	key, other := s.key("k"), s.key("other")
	share := s.take(s.locker.RLock, key)
	ran := false
	work := func(ctx context.Context) error {
		ran = ctx.Err() == nil && lock.FromContext(ctx, key) != nil
		return nil
	}
	s.ok(lock.Do(s.ctx, s.locker, key, work, lock.Shared(), lock.Try()))
	s.ok(lock.Do(s.ctx, s.locker, key, work, lock.Shared(), lock.WaitAtMost(patience)))
	if !ran {
		s.Error("the work was not done under the lock")
	}
	refused := func(context.Context) error { s.Error("the work was done without the lock"); return nil }
	s.is(lock.Do(s.ctx, s.locker, key, refused, lock.Try()), lock.ErrBusy)
	for _, d := range []time.Duration{0, 10 * time.Millisecond} {
		err := lock.Do(s.ctx, s.locker, key, refused, lock.WaitAtMost(d))
		s.is(err, lock.ErrBusy)
		s.is(err, context.DeadlineExceeded)
	}
	s.ok(share.Unlock())

	s.is(lock.Do(s.ctx, s.locker, key, refused, lock.And(other), lock.Shared()), lock.ErrUnsupported)
	s.is(lock.Do(s.ctx, s.locker, key, refused, lock.And(other), lock.Try()), lock.ErrUnsupported)
	if _, ok := s.locker.(lock.AllLocker); ok {
		s.ok(lock.Do(s.ctx, s.locker, key, func(ctx context.Context) error {
			_, err := s.locker.TryLock(s.ctx, other)
			s.is(err, lock.ErrBusy)
			return nil
		}, lock.And(other), lock.WaitAtMost(patience)))
	}
	s.free(key)
	s.free(other)

	// WaitAtMost does not bound the work.
	s.ok(lock.Do(s.ctx, s.locker, key, func(ctx context.Context) error {
		if end, ok := ctx.Deadline(); ok && time.Until(end) < patience/2 {
			s.Errorf("the work has until %s", end)
		}
		return ctx.Err()
	}, lock.WaitAtMost(patience/4)))
}

func (s *suite) ensureUsesTheHold() {
	key, other := s.key("k"), s.key("other")
	why := errors.New("refused")
	var outer *lock.Held
	inner := func(ctx context.Context) error {
		if outer != nil && lock.FromContext(ctx, key) != outer || lock.FromContext(ctx, key) == nil {
			s.Error("the hold is not the one in the context")
		}
		return why
	}
	s.is(lock.Ensure(s.ctx, s.locker, key, inner), why) // without
	s.free(key)
	outer = s.lock(key)
	s.is(lock.Ensure(outer.Context(), s.locker, key, inner), why)
	s.is(lock.Ensure(outer.Context(), s.locker, key, inner, lock.Shared(), lock.Try()), why)
	_, err := s.locker.TryLock(s.ctx, key)
	s.is(err, lock.ErrBusy)
	if _, ok := s.locker.(lock.AllLocker); ok {
		s.is(lock.Ensure(outer.Context(), s.locker, key, inner, lock.And(other)), lock.ErrHeld)
	}

	// A hold that has ended is reported, and no other lock is taken in its place.
	detached := context.WithoutCancel(outer.Context())
	s.is(lock.Ensure(detached, s.locker, key, func(ctx context.Context) error {
		s.ok(outer.Unlock())
		s.await(ctx.Done(), "the end of the hold")
		return why
	}), lock.ErrReleased)
	s.is(lock.Ensure(detached, s.locker, key, inner), lock.ErrReleased)
	s.free(key)

	outer = s.take(s.locker.RLock, key)
	s.is(lock.Ensure(outer.Context(), s.locker, key, inner, lock.Shared()), why)
	s.is(lock.Ensure(outer.Context(), s.locker, key, inner), lock.ErrHeld)
	s.ok(outer.Unlock())
	s.free(key)
}
