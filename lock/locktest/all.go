package locktest

import (
	"context"
	"sync"
	"time"

	"example.com/lockstore/lock"
)

// all returns the Locker's LockAll, and skips the test if there is none.
func (s *suite) all() func(context.Context, ...lock.Key) (*lock.Held, error) {
	l, ok := s.locker.(lock.AllLocker)
	if !ok {
		s.Skip("it has no LockAll")
	}
	return l.LockAll
}

func (s *suite) allOrNone() {
	lockAll := s.all()
	a, b, c := s.key("a"), s.key("b"), s.key("c")
	held, err := lockAll(s.ctx, c, a, b, a)
	s.ok(err)
	if n := len(held.Keys()); n != 3 {
		s.Errorf("%d keys held, want 3", n)
	}
	for _, key := range []lock.Key{a, b, c} {
		_, err := s.locker.TryLock(s.ctx, key)
		s.is(err, lock.ErrBusy)
		if lock.FromContext(held.Context(), key) != held {
			s.Errorf("%s is not in the context", key)
		}
	}
	if _, err := held.Fence(s.ctx); err != nil {
		s.Errorf("fence: %v", err)
	}
	s.ok(held.Unlock())

	for _, busy := range []lock.Key{a, b, c} {
		one := s.lock(busy)
		ctx, cancel := context.WithTimeout(s.ctx, 20*time.Millisecond)
		_, err := lockAll(ctx, a, b, c)
		cancel()
		s.is(err, lock.ErrBusy)
		s.is(err, context.DeadlineExceeded)
		s.ok(one.Unlock())
		for _, key := range []lock.Key{a, b, c} {
			s.free(key)
		}
	}
	one := s.lock(b) // every moment for the context to end at
	for i := range 100 {
		ctx, cancel := context.WithTimeout(s.ctx, time.Duration(i)*5*time.Microsecond)
		_, err := lockAll(ctx, a, b, c)
		cancel()
		s.is(err, context.DeadlineExceeded)
	}
	s.ok(one.Unlock())
	_, err = lockAll(s.ctx)
	s.is(err, lock.ErrInvalidKey)
	_, err = lockAll(s.ctx, a, lock.Key{})
	s.is(err, lock.ErrInvalidKey)
	s.free(a)
}

func (s *suite) allInAnyOrder() {
	lockAll := s.all()
	a, b, c := s.key("a"), s.key("b"), s.key("c")
	var counts, want [3]int // each count is guarded by its key
	orders := [][]int{{0, 1, 2}, {2, 1, 0}, {1, 0}, {2, 0}, {0}, {1, 2}}
	const rounds = 50
	var group sync.WaitGroup
	for _, order := range orders {
		for _, n := range order {
			want[n] += rounds
		}
		group.Go(func() {
			for range rounds {
				keys := make([]lock.Key, len(order))
				for i, n := range order {
					keys[i] = []lock.Key{a, b, c}[n]
				}
				held, err := lockAll(s.ctx, keys...)
				if err != nil {
					s.Errorf("lock all: %v", err)
					return
				}
				for _, n := range order {
					counts[n]++
				}
				if err := held.Unlock(); err != nil {
					s.Errorf("unlock: %v", err)
				}
			}
		})
	}
	group.Wait()
	if counts != want {
		s.Errorf("counts are %v, want %v", counts, want)
	}
}
