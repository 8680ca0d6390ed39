package locktest

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"example.com/lockstore/lock"
)

// semaphore returns a semaphore of the Locker, and skips the test if it can have none.
func (s *suite) semaphore(name lock.Key, permits int) *lock.Semaphore {
	sem, err := lock.NewSemaphore(s.locker, name, permits)
	if errors.Is(err, lock.ErrUnsupported) {
		s.Skip(err)
	}
	s.ok(err)
	return sem
}

func (s *suite) permitsAreAsManyAsTheySay() {
	name := s.key("sem")
	sem, same := s.semaphore(name, 3), s.semaphore(name, 3)
	var held []*lock.Held
	for i := range 3 {
		h, err := []*lock.Semaphore{sem, same}[i%2].TryAcquire(s.ctx)
		s.ok(err)
		if !slices.Contains(sem.Keys(), h.Key()) || len(h.Keys()) != 1 {
			s.Errorf("the key of a permit is %s", h.Key())
		}
		if lock.FromContext(h.Context(), h.Key()) != h {
			s.Error("the permit is not in its context")
		}
		held = append(held, h)
	}
	var busy *lock.BusyError
	_, err := sem.TryAcquire(s.ctx)
	if !errors.As(err, &busy) || busy.Key != name || !errors.Is(err, lock.ErrBusy) {
		s.Errorf("error is %v, want a BusyError of the semaphore", err)
	}
	ctx, cancel := context.WithTimeout(s.ctx, 20*time.Millisecond)
	defer cancel()
	for range 2 { // while it waits, and before it begins
		_, err = same.Acquire(ctx)
		s.is(err, lock.ErrBusy)
		s.is(err, context.DeadlineExceeded)
	}
	for _, smaller := range []int{1, 2} { // a rolling deploy
		_, err = s.semaphore(name, smaller).TryAcquire(s.ctx)
		s.is(err, lock.ErrBusy)
	}
	more, err := s.semaphore(name, 4).TryAcquire(s.ctx)
	s.ok(err)
	s.ok(more.Unlock())
	other, err := s.semaphore(s.key("other"), 3).TryAcquire(s.ctx)
	s.ok(err)
	s.ok(other.Unlock())

	fences := map[lock.Key]int64{}
	for _, h := range held {
		fence, err := h.Fence(s.ctx)
		s.ok(err)
		fences[h.Key()] = fence
		s.ok(h.Unlock())
		s.ok(h.Unlock()) // once is enough
	}
	for range 3 {
		h, err := sem.Acquire(s.ctx)
		s.ok(err)
		fence, err := h.Fence(s.ctx)
		s.ok(err)
		if fence <= fences[h.Key()] {
			s.Errorf("fence %d after %d", fence, fences[h.Key()])
		}
		held = append(held, h)
	}
	for _, h := range held {
		s.ok(h.Unlock())
	}
	for _, key := range sem.Keys() {
		s.free(key)
	}
	for name, permits := range map[lock.Key]int{{}: 1, s.key("none"): 0} {
		_, err := lock.NewSemaphore(s.locker, name, permits)
		s.is(err, lock.ErrInvalidKey)
	}
	s.manyPermits(150)
	one := s.semaphore(s.key("one"), 1)
	h, err := one.Acquire(s.ctx)
	s.ok(err)
	_, err = one.Acquire(h.Context())
	s.is(err, lock.ErrHeld)
	s.ok(h.Unlock())
}

// manyPermits has a caller wait while all permits are held. It gets whichever is given back.
func (s *suite) manyPermits(n int) {
	sem := s.semaphore(s.key("many"), n)
	var held []*lock.Held
	for range n {
		h, err := sem.TryAcquire(s.ctx)
		s.ok(err)
		held = append(held, h)
	}
	stats := s.locker.(interface{ Stats() lock.Stats }).Stats
	for i := range held {
		got := make(chan *lock.Held)
		go func() {
			h, err := sem.Acquire(s.ctx)
			if err != nil {
				s.Error(err)
			}
			got <- h
		}()
		for end := time.Now().Add(patience); stats().Waiters == 0; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				s.Fatal("nobody waits")
			}
		}
		s.ok(held[i].Unlock())
		select {
		case held[i] = <-got:
		case <-time.After(patience):
			s.Fatalf("permit %d of %d is free, and nobody gets it", i, n)
		}
	}
	for _, h := range held {
		s.ok(h.Unlock())
	}
}

func (s *suite) permitGoesToWhoWaitsLongest() {
	const permits = 3
	sem := s.semaphore(s.key("sem"), permits)
	var held []*lock.Held
	for range permits {
		h, err := sem.Acquire(s.ctx)
		s.ok(err)
		held = append(held, h)
	}
	served := make(chan int)
	got := make([]*lock.Held, 2*permits)
	for i := range got {
		go func() {
			var err error
			if got[i], err = sem.Acquire(s.ctx); err != nil {
				s.Errorf("waiter %d: %v", i, err)
			}
			served <- i
		}()
		stats := s.locker.(interface{ Stats() lock.Stats }).Stats
		for end := time.Now().Add(patience); stats().Waiters < (i+1)*permits; time.Sleep(time.Millisecond) { // for each of the permits
			if time.Now().After(end) {
				s.Fatalf("waiter %d does not wait", i)
			}
		}
	}
	for i := range got { // whichever is given back
		h := held[(i*2)%len(held)]
		held = slices.DeleteFunc(held, func(o *lock.Held) bool { return o == h })
		s.ok(h.Unlock())
		if n := <-served; n != i {
			s.Fatalf("waiter %d is served before %d", n, i)
		}
		held = append(held, got[i])
	}
	for _, h := range held {
		s.ok(h.Unlock())
	}
}

func (s *suite) neverMoreThanThePermits() {
	const permits, goroutines, rounds = 4, 32, 25
	sem := s.semaphore(s.key("sem"), permits)
	var inside atomic.Int64
	var group sync.WaitGroup
	for g := range goroutines {
		group.Go(func() {
			for round := range rounds {
				ctx, cancel := s.ctx, context.CancelFunc(func() {})
				if (g+round)%8 == 0 { // leaves at any moment
					ctx, cancel = context.WithTimeout(s.ctx, time.Duration(round)*20*time.Microsecond)
				}
				held, err := sem.Acquire(ctx)
				cancel()
				if err != nil {
					if !errors.Is(err, context.DeadlineExceeded) {
						s.Errorf("acquire: %v", err)
					}
					continue
				}
				if n := inside.Add(1); n > permits {
					s.Errorf("%d inside", n)
				}
				runtime.Gosched()
				inside.Add(-1)
				if err := held.Unlock(); err != nil {
					s.Errorf("unlock: %v", err)
				}
			}
		})
	}
	group.Wait()
	for _, key := range sem.Keys() {
		s.free(key)
	}
}
