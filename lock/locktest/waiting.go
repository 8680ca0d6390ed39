package locktest

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"

	"example.com/lockstore/lock"
)

func (s *suite) oneAtATime() {
	const goroutines, rounds = 16, 25
	key := s.key("k")
	var inside, entered atomic.Int64
	var group sync.WaitGroup
	for g := range goroutines {
		group.Go(func() {
			for range rounds {
				take, limit := s.locker.Lock, int64(1)
				if g%4 == 0 { // some share, and count less than an exclusive holder
					take, limit = s.locker.RLock, goroutines
				}
				held, err := take(s.ctx, key)
				if err != nil {
					s.Errorf("lock: %v", err)
					return
				}
				weight := goroutines / limit
				if n := inside.Add(weight); n > goroutines {
					s.Errorf("%d inside", n)
				}
				runtime.Gosched()
				inside.Add(-weight)
				entered.Add(1)
				if err := held.Unlock(); err != nil {
					s.Errorf("unlock: %v", err)
				}
			}
		})
	}
	group.Wait()
	if n := entered.Load(); n != goroutines*rounds {
		s.Errorf("%d holds, want %d", n, goroutines*rounds)
	}
	s.free(key)
}

func (s *suite) waitersAreServedInOrder() {
	key := s.key("k")
	held := s.lock(key)
	var mu sync.Mutex
	var order []int
	var group sync.WaitGroup
	for i := range 8 {
		waiter := Arriving(s.ctx)
		group.Go(func() {
			held, err := s.locker.Lock(waiter, key)
			if err != nil {
				s.Errorf("waiter %d: %v", i, err)
				return
			}
			mu.Lock()
			order = append(order, i)
			mu.Unlock()
			if err := held.Unlock(); err != nil {
				s.Errorf("waiter %d: unlock: %v", i, err)
			}
		})
		s.await(waiter.Arrived(), "waiter")
	}
	s.ok(held.Unlock())
	group.Wait()
	for i, n := range order {
		if i != n {
			s.Fatalf("served in order %v", order)
		}
	}
}

func (s *suite) cancelledWaiterLeaves() {
	key := s.key("k")
	held := s.lock(key)
	why := errors.New("no longer wanted")
	ctx, cancel := context.WithCancelCause(s.ctx)
	left := s.waiter(ctx, s.locker.Lock, key, lock.ErrBusy, context.Canceled, why)
	cancel(why)
	s.await(left, "cancelled waiter")
	s.ok(held.Unlock())
	s.free(key)
}

// cancelAtTheGrantLeaksNothing lets unlock and cancellation race.
func (s *suite) cancelAtTheGrantLeaksNothing() {
	key := s.key("k")
	for i := range 300 {
		held := s.lock(key)
		ctx, cancel := context.WithCancel(s.ctx)
		waiter := Arriving(ctx)
		done := s.start(func() {
			if err := pass(waiter, s.locker.Lock, key); err != nil && !errors.Is(err, context.Canceled) {
				s.Errorf("round %d: %v", i, err)
			}
		})
		s.await(waiter.Arrived(), "waiter")
		go cancel()
		s.ok(held.Unlock())
		s.await(done, "waiter")
		cancel()
	}
	s.free(key)
}

func (s *suite) withdrawnWaiterLetsSharersPass() {
	key := s.key("k")
	a := s.take(s.locker.RLock, key)
	ctx, cancel := context.WithCancel(s.ctx)
	left := s.waiter(ctx, s.locker.Lock, key, context.Canceled)
	shared := s.waiter(s.ctx, s.locker.RLock, key)
	cancel()
	s.await(left, "cancelled waiter")
	s.await(shared, "sharer")
	s.ok(a.Unlock())
	s.free(key)
}

func (s *suite) endedContextTakesNothing() {
	key := s.key("k")
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	for name, take := range s.takes() {
		_, err := take(ctx, key)
		var busy *lock.BusyError
		if !errors.Is(err, context.Canceled) || !errors.Is(err, lock.ErrBusy) || !errors.As(err, &busy) {
			s.Errorf("%s: error is %v, want a BusyError that matches the context's", name, err)
		}
	}
	s.free(key)
}

// waitersAreTold asks for the status of a key, if a Locker can tell it.
func (s *suite) waitersAreTold() {
	l, can := s.locker.(interface {
		Status(context.Context, lock.Key) (lock.Status, error)
	})
	if !can {
		s.Skip("it has no Status")
	}
	key, n := s.key("k"), 3
	held := s.lock(key)
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	var left []chan struct{}
	for range n {
		left = append(left, s.waiter(ctx, s.locker.Lock, key, context.Canceled))
	}
	check := func(holders, waiters int) {
		s.Helper()
		status, err := l.Status(s.ctx, key)
		s.ok(err)
		if status.Key != key || len(status.Holders) != holders || status.HoldersHere != holders || status.WaitersHere != waiters || len(status.Waiting) != waiters || status.Waiters != 0 {
			s.Fatalf("status is %v, want %d holders and %d waiters", status, holders, waiters)
		}
		for i, w := range status.Waiting {
			if !w.InThisLocker || w.Shared || w.Waited < 0 || i > 0 && w.Waited > status.Waiting[i-1].Waited {
				s.Fatalf("waiters are %+v", status.Waiting)
			}
		}
	}
	check(1, n)
	cancel()
	for _, done := range left {
		s.await(done, "waiter")
	}
	check(1, 0)
	s.ok(held.Unlock())
	check(0, 0)
}
