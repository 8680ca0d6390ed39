package backoff_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/backoff"
)

var errRefused = errors.New("connection refused")

// failing returns a function that returns each of errs in turn, then always the last one.
// calls returns the times of its calls, counted from the first.
func failing(errs ...error) (fn func(context.Context) error, calls func() []time.Duration) {
	var start time.Time
	var times []time.Duration
	return func(context.Context) error {
			if start.IsZero() {
				start = time.Now()
			}
			times = append(times, time.Since(start))
			return errs[min(len(times), len(errs))-1]
		}, func() []time.Duration {
			return times
		}
}

func TestRetryUntilSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fn, calls := failing(errRefused, errRefused, errRefused, nil)
		require.NoError(t, backoff.Retry(t.Context(), doubles, fn))
		assert.Equal(t, []time.Duration{0, 1 * time.Second, 3 * time.Second, 7 * time.Second}, calls())
	})
}

func TestRetryGivesUpWithTheLastError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fn, calls := failing(errors.New("first"), errRefused)
		err := backoff.Retry(t.Context(), backoff.Limit(hourly, 3), fn)
		assert.ErrorIs(t, err, backoff.ErrExhausted)
		assert.ErrorIs(t, err, errRefused)
		assert.EqualError(t, err, "backoff: gave up after attempt 3: connection refused")
		assert.Len(t, calls(), 3)
	})
}

func TestRetryWithinMakesALastAttemptAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fn, calls := failing(errRefused)
		err := backoff.Retry(t.Context(), backoff.Within(doubles, 10*time.Second), fn)
		assert.ErrorIs(t, err, backoff.ErrExhausted)
		assert.Equal(t, []time.Duration{0, 1 * time.Second, 3 * time.Second, 7 * time.Second, 10 * time.Second}, calls())
	})
}

func TestRetryKeepsBothCausesWhenTheContextEnds(t *testing.T) {
	errShutdown := errors.New("shutting down")
	tests := []struct {
		name string
		ctx  func(context.Context) (context.Context, context.CancelFunc)
		want []error
		text string
	}{
		{
			name: "deadline",
			ctx: func(ctx context.Context) (context.Context, context.CancelFunc) {
				return context.WithTimeout(ctx, 90*time.Minute)
			},
			want: []error{context.DeadlineExceeded},
			text: "backoff: context deadline exceeded after attempt 2: connection refused",
		},
		{
			name: "cause of its own",
			ctx: func(ctx context.Context) (context.Context, context.CancelFunc) {
				return context.WithTimeoutCause(ctx, 90*time.Minute, errShutdown)
			},
			want: []error{context.DeadlineExceeded, errShutdown},
			text: "backoff: context deadline exceeded: shutting down after attempt 2: connection refused",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := tt.ctx(t.Context())
				defer cancel()
				start := time.Now()
				fn, calls := failing(errRefused)
				err := backoff.Retry(ctx, hourly, fn)
				for _, want := range append(tt.want, errRefused) {
					assert.ErrorIs(t, err, want)
				}
				assert.NotErrorIs(t, err, backoff.ErrExhausted)
				assert.EqualError(t, err, tt.text)
				assert.Len(t, calls(), 2)
				assert.Equal(t, 90*time.Minute, time.Since(start), "the wait is cut short")
			})
		})
	}
}

func TestRetryReportsTheContextWhenThePolicyGivesUpToo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	err := backoff.Retry(ctx, backoff.Limit(hourly, 1), func(context.Context) error {
		cancel()
		return errRefused
	})
	assert.ErrorIs(t, err, context.Canceled)
	assert.ErrorIs(t, err, errRefused)
}

func TestRetryDoesNotCallAfterTheContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errRefused)
	fn, calls := failing(nil)
	err := backoff.Retry(ctx, nil, fn)
	assert.ErrorIs(t, err, context.Canceled)
	assert.ErrorIs(t, err, errRefused)
	assert.Empty(t, calls())
}

func TestRetrySucceedsThoughTheContextEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	assert.NoError(t, backoff.Retry(ctx, nil, func(context.Context) error {
		cancel()
		return nil
	}))
}

func TestRetryStopsAtPermanent(t *testing.T) {
	fn, calls := failing(backoff.Permanent(errRefused))
	err := backoff.Retry(t.Context(), hourly, fn)
	assert.Equal(t, errRefused, err, "the inner error itself")
	assert.Len(t, calls(), 1)

	wrapped := fmt.Errorf("dial: %w", backoff.Permanent(errRefused))
	fn, calls = failing(wrapped)
	err = backoff.Retry(t.Context(), hourly, fn)
	assert.Equal(t, wrapped, err, "what was wrapped around it is kept")
	assert.ErrorIs(t, err, errRefused)
	assert.Len(t, calls(), 1)
}

func TestPermanent(t *testing.T) {
	assert.NoError(t, backoff.Permanent(nil))
	assert.ErrorIs(t, backoff.Permanent(errRefused), errRefused)
	assert.EqualError(t, backoff.Permanent(errRefused), errRefused.Error())
}

// busy is the error of a server that says when to retry.
type busy time.Duration

func (b busy) Error() string             { return "busy" }
func (b busy) RetryAfter() time.Duration { return time.Duration(b) }

func TestRetryObeysRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fn, calls := failing(
			fmt.Errorf("call: %w", busy(10*time.Second)), // longer than the policy's second
			busy(time.Millisecond),                       // shorter than its two seconds
			busy(-time.Hour),                             // nonsense: four seconds
			nil,
		)
		require.NoError(t, backoff.Retry(t.Context(), doubles, fn))
		assert.Equal(t, []time.Duration{0, 10 * time.Second, 12 * time.Second, 16 * time.Second}, calls())
	})
}

func TestRetryGivesUpWhenRetryAfterPassesWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		fn, calls := failing(busy(time.Hour))
		err := backoff.Retry(t.Context(), backoff.Within(doubles, time.Minute), fn)
		assert.ErrorIs(t, err, backoff.ErrExhausted)
		assert.ErrorIs(t, err, busy(time.Hour))
		assert.Len(t, calls(), 1)
		assert.Zero(t, time.Since(start))
	})
}

func TestOnePolicyServesManyCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		policy := backoff.Within(backoff.Limit(doubles, 5), time.Hour)
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				fn, calls := failing(errRefused)
				assert.ErrorIs(t, backoff.Retry(t.Context(), policy, fn), backoff.ErrExhausted)
				assert.Equal(t, 15*time.Second, calls()[4], "no caller changes another's waits")
			})
		}
		wg.Wait()
	})
}

func TestAttemptsYieldsUntilTheBodyLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		attempts := backoff.Attempts(t.Context(), doubles)
		for range 2 { // each range starts anew
			start := time.Now()
			var seen []int
			var at []time.Duration
			for n, err := range attempts {
				require.NoError(t, err)
				seen, at = append(seen, n), append(at, time.Since(start))
				if n == 3 {
					break
				}
			}
			assert.Equal(t, []int{1, 2, 3}, seen)
			assert.Equal(t, []time.Duration{0, 1 * time.Second, 3 * time.Second}, at)
		}
	})
}

func TestAttemptsEndsWithTheReason(t *testing.T) {
	errShutdown := errors.New("shutting down")
	tests := []struct {
		name   string
		policy backoff.Policy
		made   int
		want   []error
	}{
		{"policy", backoff.Limit(hourly, 2), 2, []error{backoff.ErrExhausted}},
		{"time", backoff.Within(hourly, time.Minute), 2, []error{backoff.ErrExhausted}},
		{"context", hourly, 3, []error{context.DeadlineExceeded, errShutdown}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeoutCause(t.Context(), 150*time.Minute, errShutdown)
				defer cancel()
				var made, last int
				var end error
				for n, err := range backoff.Attempts(ctx, tt.policy) {
					last, end = n, err
					if err == nil {
						made++
					}
				}
				assert.Equal(t, tt.made, made)
				assert.Equal(t, tt.made, last)
				for _, want := range tt.want {
					assert.ErrorIs(t, end, want)
				}
			})
		})
	}
}

func TestAttemptsMakesNoneAfterTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var yielded int
	for n, err := range backoff.Attempts(ctx, nil) {
		yielded++
		assert.Zero(t, n)
		assert.ErrorIs(t, err, context.Canceled)
	}
	assert.Equal(t, 1, yielded)
}
