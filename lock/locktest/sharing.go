package locktest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"example.com/lockstore/lock"
)

func (s *suite) sharersShare() {
	key := s.key("k")
	a, b := s.take(s.locker.RLock, key), s.take(s.locker.TryRLock, key)
	if !a.Shared() || !b.Shared() {
		s.Error("a shared Held does not say so")
	}
	_, err := s.locker.TryLock(s.ctx, key)
	s.is(err, lock.ErrBusy)
	s.ok(a.Unlock())
	_, err = s.locker.TryLock(s.ctx, key)
	s.is(err, lock.ErrBusy)
	s.ok(b.Unlock())
	s.free(key)
}

// sharersShareAtAnyTime has shared requests come long after others share the key, whether
// these got it from the server or from an exclusive holder.
func (s *suite) sharersShareAtAnyTime() {
	key := s.key("k")
	alone := s.lock(key)
	waiter := Arriving(s.ctx)
	var a *lock.Held
	got := s.start(func() {
		var err error
		if a, err = s.locker.RLock(waiter, key); err != nil {
			s.Errorf("sharer: %v", err)
		}
	})
	s.await(waiter.Arrived(), "sharer")
	s.ok(alone.Unlock())
	s.await(got, "sharer")
	for range 3 {
		b := s.take(s.locker.TryRLock, key)
		c := s.take(s.locker.RLock, key) // a may be waiting for it
		s.ok(b.Unlock())
		time.Sleep(long)
		s.ok(a.Unlock())
		a = c
	}
	ctx, cancel := context.WithCancel(s.ctx)
	left := s.waiter(ctx, s.locker.Lock, key, context.Canceled)
	_, err := s.locker.TryRLock(s.ctx, key)
	s.is(err, lock.ErrBusy)
	shared := s.waiter(s.ctx, s.locker.RLock, key)
	cancel()
	s.await(left, "cancelled waiter")
	s.await(shared, "sharer")
	s.ok(a.Unlock())
	s.free(key)
}

func (s *suite) triesTogetherOfSharers()  { s.triesTogether(s.locker.TryRLock, 8) }
func (s *suite) triesTogetherOfOneAlone() { s.triesTogether(s.locker.TryLock, 1) }

// triesTogether has 8 goroutines call take at the same time, again and again, and unlock when
// all have done so. Each time, the given number of them must get the key.
func (s *suite) triesTogether(take taker, want int64) {
	const n = 8
	key := s.key("k")
	for round := range 50 {
		var start, all, done sync.WaitGroup
		var granted atomic.Int64
		start.Add(1)
		all.Add(n)
		for range n {
			done.Go(func() {
				start.Wait()
				held, err := take(s.ctx, key)
				all.Done()
				if errors.Is(err, lock.ErrBusy) {
					return
				}
				if err != nil {
					s.Errorf("try: %v", err)
					return
				}
				granted.Add(1)
				all.Wait()
				if err := held.Unlock(); err != nil {
					s.Errorf("unlock: %v", err)
				}
			})
		}
		start.Done()
		done.Wait()
		if granted.Load() != want {
			s.Fatalf("round %d: %d of %d have the key, want %d", round, granted.Load(), n, want)
		}
	}
	s.free(key)
}

func (s *suite) sharersDoNotStarveAWaiter() {
	key := s.key("k")
	a := s.take(s.locker.RLock, key)
	got := s.waiter(s.ctx, s.locker.Lock, key)
	if _, err := s.locker.TryRLock(s.ctx, key); !errors.Is(err, lock.ErrBusy) {
		s.Fatalf("a sharer overtook the waiter: %v", err)
	}
	s.ok(a.Unlock())
	s.await(got, "waiter")
	s.free(key)
}
