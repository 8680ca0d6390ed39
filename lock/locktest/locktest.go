// Package locktest checks implementations of [lock.Locker] against what every one must
// promise.
//
//	func TestConformance(t *testing.T) {
//		locktest.Run(t, func(t testing.TB) lock.Locker { return mylock.New() })
//	}
package locktest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"example.com/lockstore/lock"
)

// patience bounds what should happen at once, and allows for a slow machine.
const patience = 20 * time.Second

// Run checks a Locker, and LockAll if it is a [lock.AllLocker]. It also checks [lock.Lead],
// and [lock.Semaphore] if that takes the Locker. Every test calls open for a Locker on which
// no key is held; open closes it by t.Cleanup. Lockers opened within one run may share a
// server: each test uses keys of its own.
func Run(t *testing.T, open func(t testing.TB) lock.Locker) {
	for _, c := range []struct {
		name string
		test func(*suite)
	}{
		{"HolderKeepsOthersOut", (*suite).holderKeepsOthersOut},
		{"WaitingForOneselfIsToldAtOnce", (*suite).waitingForOneselfIsToldAtOnce},
		{"SharingTwiceNeverHangs", (*suite).sharingTwiceNeverHangs},
		{"HoldThatHasEndedIsNotInTheWay", (*suite).holdThatHasEndedIsNotInTheWay},
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
		{"ContextLivesAsLongAsTheHold", (*suite).contextLivesAsLongAsTheHold},
		{"ContextCarriesTheHold", (*suite).contextCarriesTheHold},
		{"FencesGrow", (*suite).fencesGrow},
		{"FenceEndsWithTheHold", (*suite).fenceEndsWithTheHold},
		{"DoReleases", (*suite).doReleases},
		{"DoTakesAsAsked", (*suite).doTakesAsAsked},
		{"EnsureUsesTheHold", (*suite).ensureUsesTheHold},
		{"LeadersFollowEachOther", (*suite).leadersFollowEachOther},
		{"LeaderRunsAgainAsItsPolicySays", (*suite).leaderRunsAgainAsItsPolicySays},
		{"PermitsAreAsManyAsTheySay", (*suite).permitsAreAsManyAsTheySay},
		{"PermitGoesToWhoWaitsLongest", (*suite).permitGoesToWhoWaitsLongest},
		{"NeverMoreThanThePermits", (*suite).neverMoreThanThePermits},
		{"WaitersAreTold", (*suite).waitersAreTold},
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

// runs distinguishes the keys of one test from those of the same test run again.
var runs atomic.Int64

type suite struct {
	*testing.T
	ctx    context.Context
	locker lock.Locker
	name   string
}

// key returns one of this test's own keys.
func (s *suite) key(parts ...string) lock.Key {
	return lock.Namespace("locktest").Name(append([]string{s.name}, parts...)...)
}

// A taker is a method that asks for a key, such as Lock.
type taker = func(context.Context, lock.Key) (*lock.Held, error)

func (s *suite) take(take taker, key lock.Key) *lock.Held {
	s.Helper()
	held, err := take(s.ctx, key)
	s.ok(err)
	return held
}

func (s *suite) lock(key lock.Key) *lock.Held {
	s.Helper()
	return s.take(s.locker.Lock, key)
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

// free checks that key is free.
func (s *suite) free(key lock.Key) {
	s.Helper()
	s.ok(pass(s.ctx, s.locker.TryLock, key))
}

// pass takes a key and unlocks it.
func pass(ctx context.Context, take taker, key lock.Key) error {
	held, err := take(ctx, key)
	if err != nil {
		return err
	}
	return held.Unlock()
}

// start runs call on a goroutine beside the test.
func (s *suite) start(call func()) (done chan struct{}) {
	done = make(chan struct{})
	go func() { defer close(done); call() }()
	return done
}

// waiter starts a call that waits, and unlocks what it is granted. Its error must match all of
// want, and be nil without any.
func (s *suite) waiter(ctx context.Context, take taker, key lock.Key, want ...error) (done chan struct{}) {
	s.Helper()
	if len(want) == 0 {
		want = []error{nil}
	}
	waiting := Arriving(ctx)
	done = s.start(func() {
		err := pass(waiting, take, key)
		for _, want := range want {
			if !errors.Is(err, want) {
				s.Errorf("waiter: error is %v, want one that matches %v", err, want)
			}
		}
	})
	s.await(waiting.Arrived(), "waiter")
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

func (s *suite) keysAreIndependent() {
	a, b := s.lock(s.key("a", "bc")), s.lock(s.key("ab", "c"))
	s.ok(a.Unlock())
	_, err := s.locker.TryLock(s.ctx, s.key("ab", "c"))
	s.is(err, lock.ErrBusy)
	s.ok(b.Unlock())
}

// long is longer than the periods of time that a Locker has by default.
const long = 100 * time.Millisecond

func (s *suite) invalidKeyIsRefused() {
	for _, key := range []lock.Key{{}, lock.Name(), lock.Name("a", ""), lock.Name("a\x00"), lock.Name("\xff")} {
		_, err := s.locker.Lock(s.ctx, key)
		s.is(err, lock.ErrInvalidKey)
		_, err = s.locker.TryRLock(s.ctx, key)
		s.is(err, lock.ErrInvalidKey)
	}
}
