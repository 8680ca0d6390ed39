package locktest

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"example.com/lockstore/backoff"
	"example.com/lockstore/lock"
)

// leadersFollowEachOther has a leader take long to end: the next begins after that.
func (s *suite) leadersFollowEachOther() {
	key := s.key("leader")
	type leader struct {
		term int64
		done <-chan struct{} // its context's
	}
	const candidates = 3
	var leading atomic.Int64
	began, end, left := make(chan leader), make(chan struct{}), make(chan error, candidates)
	why := errors.New("no longer wanted")
	ctx, cancel := context.WithCancelCause(s.ctx)
	for range candidates {
		go func() {
			left <- lock.Lead(ctx, s.locker, key, backoff.Constant{}, func(ctx context.Context, term int64) error {
				if leading.Add(1) > 1 {
					s.Error("two lead at a time")
				}
				defer leading.Add(-1)
				if lock.FromContext(ctx, key) == nil {
					s.Error("the hold is not in the context")
				}
				select {
				case began <- leader{term, ctx.Done()}:
				case <-ctx.Done():
					return ctx.Err()
				}
				<-end
				return []error{nil, why}[term%2]
			})
		}()
	}
	last := leader{term: -1}
	for range 2 * candidates {
		next := <-began
		if next.term <= last.term {
			s.Errorf("term %d after %d", next.term, last.term)
		}
		last = next
		_, err := s.locker.TryLock(s.ctx, key)
		s.is(err, lock.ErrBusy)
		end <- struct{}{}
	}
	last = <-began
	cancel(why)
	s.await(last.done, "the end of the leader's context")
	_, err := s.locker.TryLock(s.ctx, key)
	s.is(err, lock.ErrBusy) // as its function has not returned
	close(end)
	for range candidates {
		err := <-left
		s.is(err, context.Canceled)
		s.is(err, why)
	}
	s.free(key)
}

func (s *suite) leaderRunsAgainAsItsPolicySays() {
	key := s.key("leader")
	why := errors.New("refused")
	runs := 0
	err := lock.Lead(s.ctx, s.locker, key, backoff.Limit(backoff.Constant{Base: time.Microsecond}, 3), func(context.Context, int64) error {
		runs++
		return why
	})
	s.is(err, backoff.ErrExhausted)
	s.is(err, why)
	if runs != 3 {
		s.Errorf("it ran %d times, want 3", runs)
	}
	s.free(key)

	runs = 0
	err = lock.Lead(s.ctx, s.locker, key, backoff.Constant{Base: time.Microsecond}, func(context.Context, int64) error {
		if runs++; runs < 5 {
			return nil
		}
		return backoff.Permanent(why)
	})
	if s.is(err, why); runs != 5 {
		s.Errorf("it ran %d times, want 5", runs)
	}
	s.free(key)

	held := s.lock(key)
	s.is(lock.Lead(held.Context(), s.locker, key, nil, nil), lock.ErrHeld)
	s.is(lock.Lead(s.ctx, s.locker, lock.Key{}, nil, nil), lock.ErrInvalidKey)
	s.ok(held.Unlock())

	func() {
		defer func() {
			if recover() != any("panic") {
				s.Error("the panic did not go on")
			}
		}()
		_ = lock.Lead(s.ctx, s.locker, key, nil, func(context.Context, int64) error { panic("panic") })
	}()
	s.free(key)
}
