// Package locktest is the conformance suite of [lock.Locker]: what every
// implementation promises, whatever it is built on.
//
//	func TestConformance(t *testing.T) {
//		locktest.Run(t, func(t testing.TB) lock.Locker { return mylock.New() })
//	}
package locktest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/lockstore/lock"
)

// patience bounds what should happen at once, for a slow machine's sake.
const patience = 20 * time.Second

// Run checks a Locker, and LockAll too if it is a [lock.AllLocker]. Every test asks open for one, on which no key is held;
// open arranges for its end by t.Cleanup. Lockers opened within one run may
// share a server: each test uses keys of its own.
func Run(t *testing.T, open func(t testing.TB) lock.Locker) {
	for _, c := range []struct {
		name string
		test func(*suite)
	}{
		{"HolderKeepsOthersOut", (*suite).holderKeepsOthersOut},
		{"TakingTwiceIsBusy", (*suite).takingTwiceIsBusy},
		{"KeysAreIndependent", (*suite).keysAreIndependent},
		{"OneAtATime", (*suite).oneAtATime},
		{"WaitersAreServedInOrder", (*suite).waitersAreServedInOrder},
		{"SharersShare", (*suite).sharersShare},
		{"SharersShareAtAnyTime", (*suite).sharersShareAtAnyTime},
		{"TriesTogetherOfSharers", (*suite).triesTogetherOfSharers},
		{"TriesTogetherOfOneAlone", (*suite).triesTogetherOfOneAlone},
		{"SharersDoNotStarveAWaiter", (*suite).sharersDoNotStarveAWaiter},
		{"CancelledWaiterLeaves", (*suite).cancelledWaiterLeaves},
		{"CancelAtTheGrantLeaksNothing", (*suite).cancelAtTheGrantLeaksNothing},
		{"WithdrawnWaiterLetsSharersPass", (*suite).withdrawnWaiterLetsSharersPass},
		{"EndedContextTakesNothing", (*suite).endedContextTakesNothing},
		{"UnlockTwiceSparesTheSuccessor", (*suite).unlockTwiceSparesTheSuccessor},
		{"UnlockNeedsNoContext", (*suite).unlockNeedsNoContext},
		{"ContextLivesAsLongAsTheTenure", (*suite).contextLivesAsLongAsTheTenure},
		{"ContextCarriesTheTenure", (*suite).contextCarriesTheTenure},
		{"FencesGrow", (*suite).fencesGrow},
		{"FenceEndsWithTheTenure", (*suite).fenceEndsWithTheTenure},
		{"DoReleases", (*suite).doReleases},
		{"InvalidKeyIsRefused", (*suite).invalidKeyIsRefused},
		{"DroppedHeldIsReleased", (*suite).droppedHeldIsReleased},
		{"AllOrNone", (*suite).allOrNone},
		{"AllInAnyOrder", (*suite).allInAnyOrder},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
			defer cancel()
			c.test(&suite{T: t, ctx: ctx, locker: open(t), name: fmt.Sprintf("%s/%d", t.Name(), runs.Add(1))})
		})
	}
}

// runs tells the keys of one test from those of the same test run again.
var runs atomic.Int64

type suite struct {
	*testing.T
	ctx    context.Context
	locker lock.Locker
	name   string
}

// key is one of this test's own keys.
func (s *suite) key(parts ...string) lock.Key {
	return lock.Namespace("locktest").Name(append([]string{s.name}, parts...)...)
}

func (s *suite) lock(key lock.Key) *lock.Held {
	s.Helper()
	held, err := s.locker.Lock(s.ctx, key)
	s.ok(err)
	return held
}

func (s *suite) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("unexpected error: %v", err)
	}
}

func (s *suite) is(err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Fatalf("error is %v, want one that matches %v", err, want)
	}
}

// free checks that nobody holds key.
func (s *suite) free(key lock.Key) {
	s.Helper()
	held, err := s.locker.TryLock(s.ctx, key)
	s.ok(err)
	s.ok(held.Unlock())
}

// start runs call beside the test.
func (s *suite) start(call func()) (done chan struct{}) {
	done = make(chan struct{})
	go func() { defer close(done); call() }()
	return done
}

func (s *suite) await(done <-chan struct{}, what string) {
	s.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		s.Fatalf("%s: still waiting after %s", what, patience)
	}
}

func (s *suite) holderKeepsOthersOut() {
	key := s.key("k")
	held := s.lock(key)
	_, err := s.locker.TryLock(s.ctx, key)
	s.is(err, lock.ErrBusy)
	_, err = s.locker.TryRLock(s.ctx, key)
	s.is(err, lock.ErrBusy)
	var busy *lock.BusyError
	if !errors.As(err, &busy) || busy.Key != key {
		s.Fatalf("error %#v does not carry the key", err)
	}
	s.ok(held.Unlock())
	s.free(key)
}

func (s *suite) takingTwiceIsBusy() {
	key := s.key("k")
	held := s.lock(key)
	ctx, cancel := context.WithTimeout(held.Context(), 30*time.Millisecond)
	defer cancel()
	_, err := s.locker.Lock(ctx, key)
	s.is(err, lock.ErrBusy)
	s.is(err, context.DeadlineExceeded)
	var busy *lock.BusyError
	if !errors.As(err, &busy) || busy.Waited <= 0 {
		s.Fatalf("error %#v does not say how long was waited", err)
	}
	s.ok(held.Unlock())
	s.free(key)
}

func (s *suite) keysAreIndependent() {
	a, b := s.lock(s.key("a", "bc")), s.lock(s.key("ab", "c"))
	s.ok(a.Unlock())
	_, err := s.locker.TryLock(s.ctx, s.key("ab", "c"))
	s.is(err, lock.ErrBusy)
	s.ok(b.Unlock())
}

func (s *suite) oneAtATime() {
	const goroutines, rounds = 16, 25
	key := s.key("k")
	var inside, entered atomic.Int64
	var group sync.WaitGroup
	for g := range goroutines {
		group.Go(func() {
			for range rounds {
				take, limit := s.locker.Lock, int64(1)
				if g%4 == 0 { // some share, and count less than one who is alone
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
		s.Errorf("%d tenures, want %d", n, goroutines*rounds)
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

func (s *suite) sharersShare() {
	key := s.key("k")
	a, err := s.locker.RLock(s.ctx, key)
	s.ok(err)
	b, err := s.locker.TryRLock(s.ctx, key)
	s.ok(err)
	if !a.Shared() || !b.Shared() {
		s.Error("a shared Held does not say so")
	}
	_, err = s.locker.TryLock(s.ctx, key)
	s.is(err, lock.ErrBusy)
	s.ok(a.Unlock())
	_, err = s.locker.TryLock(s.ctx, key)
	s.is(err, lock.ErrBusy)
	s.ok(b.Unlock())
	s.free(key)
}

// long is more than the budgets of time that a Locker has by default.
const long = 100 * time.Millisecond

// sharersShareAtAnyTime has sharers come to others long after these have the key, be it
// from the server or from one who had it alone.
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
		b, err := s.locker.TryRLock(s.ctx, key)
		s.ok(err)
		c, err := s.locker.RLock(s.ctx, key) // which a may be waiting for
		s.ok(err)
		s.ok(b.Unlock())
		time.Sleep(long)
		s.ok(a.Unlock())
		a = c
	}
	ctx, cancel := context.WithCancel(s.ctx)
	waiter = Arriving(ctx)
	left := s.start(func() { s.locker.Lock(waiter, key) })
	s.await(waiter.Arrived(), "waiter")
	_, err := s.locker.TryRLock(s.ctx, key)
	s.is(err, lock.ErrBusy)
	waiter = Arriving(s.ctx)
	shared := s.start(func() {
		if held, err := s.locker.RLock(waiter, key); err != nil || held.Unlock() != nil {
			s.Errorf("sharer: %v", err)
		}
	})
	s.await(waiter.Arrived(), "sharer")
	cancel()
	s.await(left, "cancelled waiter")
	s.await(shared, "sharer")
	s.ok(a.Unlock())
	s.free(key)
}

func (s *suite) triesTogetherOfSharers()  { s.triesTogether(s.locker.TryRLock, 8) }
func (s *suite) triesTogetherOfOneAlone() { s.triesTogether(s.locker.TryLock, 1) }

// triesTogether has 8 goroutines call take at the same time, again and again, and unlock
// when all have done so. So many of them get the key each time.
func (s *suite) triesTogether(take func(context.Context, lock.Key) (*lock.Held, error), want int64) {
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
	a, err := s.locker.RLock(s.ctx, key)
	s.ok(err)
	waiter := Arriving(s.ctx)
	got := s.start(func() {
		held, err := s.locker.Lock(waiter, key)
		if err != nil {
			s.Errorf("waiter: %v", err)
			return
		}
		if err := held.Unlock(); err != nil {
			s.Errorf("waiter: unlock: %v", err)
		}
	})
	s.await(waiter.Arrived(), "waiter")
	if _, err := s.locker.TryRLock(s.ctx, key); !errors.Is(err, lock.ErrBusy) {
		s.Fatalf("a sharer overtook the waiter: %v", err)
	}
	s.ok(a.Unlock())
	s.await(got, "waiter")
	s.free(key)
}

func (s *suite) cancelledWaiterLeaves() {
	key := s.key("k")
	held := s.lock(key)
	why := errors.New("no longer wanted")
	ctx, cancel := context.WithCancelCause(s.ctx)
	waiter := Arriving(ctx)
	left := s.start(func() {
		_, err := s.locker.Lock(waiter, key)
		for _, want := range []error{lock.ErrBusy, context.Canceled, why} {
			if !errors.Is(err, want) {
				s.Errorf("error is %v, want one that matches %v", err, want)
			}
		}
	})
	s.await(waiter.Arrived(), "waiter")
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
			held, err := s.locker.Lock(waiter, key)
			if err == nil {
				err = held.Unlock()
			}
			if err != nil && !errors.Is(err, context.Canceled) {
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
	a, err := s.locker.RLock(s.ctx, key)
	s.ok(err)
	ctx, cancel := context.WithCancel(s.ctx)
	waiter := Arriving(ctx)
	left := s.start(func() { s.locker.Lock(waiter, key) })
	s.await(waiter.Arrived(), "waiter")
	waiter = Arriving(s.ctx)
	shared := s.start(func() {
		held, err := s.locker.RLock(waiter, key)
		if err != nil {
			s.Errorf("sharer: %v", err)
			return
		}
		if err := held.Unlock(); err != nil {
			s.Errorf("sharer: unlock: %v", err)
		}
	})
	s.await(waiter.Arrived(), "sharer")
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
	for _, take := range []func(context.Context, lock.Key) (*lock.Held, error){
		s.locker.Lock, s.locker.TryLock, s.locker.RLock, s.locker.TryRLock,
	} {
		_, err := take(ctx, key)
		s.is(err, context.Canceled)
	}
	s.free(key)
}

func (s *suite) unlockTwiceSparesTheSuccessor() {
	key := s.key("k")
	first := s.lock(key)
	s.ok(first.Unlock())
	second := s.lock(key)
	s.ok(first.Unlock())
	_, err := s.locker.TryLock(s.ctx, key)
	s.is(err, lock.ErrBusy)
	s.ok(second.Context().Err())
	s.ok(second.Unlock())
	s.free(key)
}

func (s *suite) unlockNeedsNoContext() {
	key := s.key("k")
	ctx, cancel := context.WithCancel(s.ctx)
	held, err := s.locker.Lock(ctx, key)
	s.ok(err)
	cancel()
	s.ok(held.Unlock())
	s.free(key)
}

func (s *suite) contextLivesAsLongAsTheTenure() {
	type label struct{}
	ctx, cancel := context.WithCancel(context.WithValue(s.ctx, label{}, "value"))
	held, err := s.locker.Lock(ctx, s.key("k"))
	s.ok(err)
	cancel()
	s.ok(held.Context().Err())
	if held.Context().Value(label{}) != "value" {
		s.Error("the values of Lock's context are not in the Held's")
	}
	s.ok(held.Unlock())
	s.await(held.Context().Done(), "the context's end")
	s.is(context.Cause(held.Context()), lock.ErrReleased)
}

func (s *suite) contextCarriesTheTenure() {
	a, b := s.key("a"), s.key("b")
	outer := s.lock(a)
	inner, err := s.locker.Lock(outer.Context(), b)
	s.ok(err)
	ctx := inner.Context()
	if lock.FromContext(ctx, a) != outer || lock.FromContext(ctx, b) != inner {
		s.Error("a tenure is not in the context")
	}
	if lock.FromContext(ctx, s.key("c")) != nil || lock.FromContext(s.ctx, a) != nil {
		s.Error("a tenure is in a context that has none")
	}
	s.ok(inner.Unlock())
	s.ok(outer.Unlock())
}

func (s *suite) fencesGrow() {
	key := s.key("k")
	last := int64(-1)
	for range 5 {
		held := s.lock(key)
		fence, err := held.Fence(s.ctx)
		s.ok(err)
		if fence <= last {
			s.Errorf("fence %d after %d", fence, last)
		}
		last = fence
		s.ok(held.Unlock())
	}
}

func (s *suite) fenceEndsWithTheTenure() {
	held := s.lock(s.key("k"))
	s.ok(held.Unlock())
	_, err := held.Fence(s.ctx)
	s.is(err, lock.ErrReleased)
}

func (s *suite) doReleases() {
	key := s.key("k")
	why := errors.New("refused")
	s.is(lock.Do(s.ctx, s.locker, key, func(ctx context.Context) error {
		if lock.FromContext(ctx, key) == nil {
			s.Error("the tenure is not in the context")
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

func (s *suite) invalidKeyIsRefused() {
	for _, key := range []lock.Key{{}, lock.Name(), lock.Name("a", ""), lock.Name("a\x00"), lock.Name("\xff")} {
		_, err := s.locker.Lock(s.ctx, key)
		s.is(err, lock.ErrInvalidKey)
		_, err = s.locker.TryRLock(s.ctx, key)
		s.is(err, lock.ErrInvalidKey)
	}
}

func (s *suite) droppedHeldIsReleased() {
	key := s.key("k")
	s.lock(key)
	free := s.start(func() {
		held, err := s.locker.Lock(s.ctx, key)
		if err != nil {
			s.Errorf("lock: %v", err)
			return
		}
		if err := held.Unlock(); err != nil {
			s.Errorf("unlock: %v", err)
		}
	})
	for end := time.Now().Add(patience); ; {
		runtime.GC()
		select {
		case <-free:
			return
		case <-time.After(time.Millisecond):
		}
		if time.Now().After(end) {
			s.Fatal("a Held that was dropped is still held")
		}
	}
}

// all is the Locker's LockAll; without one there is nothing to check.
func (s *suite) all() func(context.Context, ...lock.Key) (*lock.Held, error) {
	if l, ok := s.locker.(lock.AllLocker); ok {
		return l.LockAll
	}
	runtime.Goexit()
	return nil
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
