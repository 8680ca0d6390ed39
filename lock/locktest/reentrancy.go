package locktest

import (
	"context"
	"errors"
	"time"

	"example.com/lockstore/lock"
)

// takes are the ways to ask for a key, and whether they share it.
func (s *suite) takes() map[string]taker {
	takes := map[string]taker{
		"Lock": s.locker.Lock, "TryLock": s.locker.TryLock, "RLock": s.locker.RLock, "TryRLock": s.locker.TryRLock,
	}
	if all, ok := s.locker.(lock.AllLocker); ok {
		takes["LockAll"] = func(ctx context.Context, key lock.Key) (*lock.Held, error) {
			return all.LockAll(ctx, s.key("another"), key)
		}
	}
	return takes
}

func (s *suite) waitingForOneselfIsToldAtOnce() {
	key := s.key("k")
	held := s.lock(key)
	between := s.lock(s.key("between"))
	child, cancel := context.WithTimeout(held.Context(), time.Hour)
	defer cancel()
	bound, stop := held.Bind(s.ctx)
	defer stop()
	under, stop := between.Bind(bound)
	defer stop()
	for _, ctx := range []context.Context{held.Context(), child, bound, under, context.WithoutCancel(under)} {
		for name, take := range s.takes() {
			_, err := take(ctx, key)
			var busy *lock.BusyError
			if !errors.Is(err, lock.ErrHeld) || !errors.Is(err, lock.ErrBusy) || !errors.As(err, &busy) || busy.Key != key {
				s.Errorf("%s: error is %v, want a BusyError of the key that matches ErrHeld", name, err)
			}
		}
	}
	ctx, cancel := context.WithTimeout(s.ctx, 30*time.Millisecond)
	defer cancel()
	_, err := s.locker.Lock(ctx, key) // it is not known to be the same caller
	s.is(err, lock.ErrBusy)
	s.is(err, context.DeadlineExceeded)
	var busy *lock.BusyError
	if !errors.As(err, &busy) || busy.Waited <= 0 || errors.Is(err, lock.ErrHeld) {
		s.Fatalf("error %#v does not say how long was waited", err)
	}
	s.free(s.key("another"))
	s.ok(between.Unlock())
	s.ok(held.Unlock())
	s.free(key)
}

// sharingTwiceNeverHangs asks for a key again while the caller shares it. That succeeds,
// unless a waiter for an exclusive lock waits for the caller.
func (s *suite) sharingTwiceNeverHangs() {
	key := s.key("k")
	share := s.take(s.locker.RLock, key)
	for name, take := range s.takes() {
		again, err := take(share.Context(), key)
		switch shares := name == "RLock" || name == "TryRLock"; {
		case shares && err != nil:
			s.Errorf("%s beside the own share: %v", name, err)
		case shares:
			s.ok(again.Unlock())
		case !errors.Is(err, lock.ErrHeld):
			s.Errorf("%s: error is %v, want one that matches ErrHeld", name, err)
		}
	}
	got := s.waiter(s.ctx, s.locker.Lock, key)
	for _, take := range []taker{s.locker.RLock, s.locker.TryRLock} {
		again, err := take(share.Context(), key)
		if err == nil { // before the waiter was in every wait queue
			s.ok(again.Unlock())
		} else {
			s.is(err, lock.ErrHeld)
		}
	}
	s.ok(share.Unlock())
	s.await(got, "waiter")
	s.free(key)
}

func (s *suite) holdThatHasEndedIsNotInTheWay() {
	key := s.key("k")
	held := s.lock(key)
	ctx := context.WithoutCancel(held.Context())
	s.ok(held.Unlock())
	for name, take := range s.takes() {
		if err := pass(ctx, take, key); err != nil {
			s.Fatalf("%s: %v", name, err)
		}
	}
}
