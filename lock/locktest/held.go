package locktest

import (
	"context"
	"runtime"
	"time"

	"example.com/lockstore/lock"
)

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

func (s *suite) contextLivesAsLongAsTheHold() {
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

func (s *suite) contextCarriesTheHold() {
	a, b := s.key("a"), s.key("b")
	outer := s.lock(a)
	inner, err := s.locker.Lock(outer.Context(), b)
	s.ok(err)
	ctx := inner.Context()
	if lock.FromContext(ctx, a) != outer || lock.FromContext(ctx, b) != inner {
		s.Error("a hold is not in the context")
	}
	if lock.FromContext(ctx, s.key("c")) != nil || lock.FromContext(s.ctx, a) != nil {
		s.Error("a hold is in a context that has none")
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

func (s *suite) fenceEndsWithTheHold() {
	held := s.lock(s.key("k"))
	s.ok(held.Unlock())
	_, err := held.Fence(s.ctx)
	s.is(err, lock.ErrReleased)
}

func (s *suite) droppedHeldIsReleased() {
	key := s.key("k")
	s.lock(key)
	free := s.start(func() {
		if err := pass(s.ctx, s.locker.Lock, key); err != nil {
			s.Errorf("lock: %v", err)
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
