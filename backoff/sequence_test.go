package backoff_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/backoff"
)

var (
	hourly  = backoff.Constant{Base: time.Hour, Jitter: backoff.NoJitter}
	doubles = backoff.Exponential{Base: time.Second, Jitter: backoff.NoJitter}
)

func TestSequenceWalksThePolicy(t *testing.T) {
	seq := backoff.Start(backoff.Limit(doubles, 4))
	for _, want := range []time.Duration{1 * time.Second, 2 * time.Second, 4 * time.Second} {
		wait, ok := seq.Next()
		require.True(t, ok)
		assert.Equal(t, want, wait)
	}
	for range 3 {
		_, ok := seq.Next()
		assert.False(t, ok, "a policy that gave up has given up")
	}
}

// previous returns one more than the previous wait.
type previous struct{}

func (previous) Delay(_ int, prev time.Duration) (time.Duration, bool) { return prev + 1, true }

func TestSequenceRemembersTheLastWait(t *testing.T) {
	seq := backoff.Start(previous{})
	for want := time.Duration(1); want < 5; want++ {
		wait, ok := seq.Next()
		require.True(t, ok)
		assert.Equal(t, want, wait)
	}
}

type negative struct{}

func (negative) Delay(int, time.Duration) (time.Duration, bool) { return -time.Second, true }

func TestSequenceNeverWaitsNegative(t *testing.T) {
	seq := backoff.Start(negative{})
	wait, ok := seq.Next()
	assert.True(t, ok)
	assert.Zero(t, wait)
}

func TestZeroSequenceIsDefault(t *testing.T) {
	var zero backoff.Sequence
	for _, seq := range []backoff.Sequence{zero, backoff.Start(nil)} {
		for range 1000 {
			wait, ok := seq.Next()
			require.True(t, ok)
			require.Positive(t, wait)
			require.LessOrEqual(t, wait, backoff.Default().Cap)
		}
	}
}

func TestSequenceKeepsTheTimeOfWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seq := backoff.Start(backoff.Within(doubles, 10*time.Second))
		for _, want := range []time.Duration{1, 2, 4, 3} { // the last is cut at 10 s
			wait, ok := seq.Next()
			require.True(t, ok)
			assert.Equal(t, want*time.Second, wait)
			time.Sleep(wait)
		}
		_, ok := seq.Next()
		assert.False(t, ok)
	})
}

func TestSequenceCountsTheTimeAttemptsTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seq := backoff.Start(backoff.Within(hourly, 2*time.Hour))
		time.Sleep(90 * time.Minute)
		wait, ok := seq.Next()
		require.True(t, ok)
		assert.Equal(t, 30*time.Minute, wait)
		time.Sleep(31 * time.Minute)
		_, ok = seq.Next()
		assert.False(t, ok)
	})
}

func TestWithinIsFoundInAnyNesting(t *testing.T) {
	for name, policy := range map[string]backoff.Policy{
		"bare":            backoff.Within(hourly, time.Minute),
		"under limit":     backoff.Limit(backoff.Within(hourly, time.Minute), 100),
		"over limit":      backoff.Within(backoff.Limit(hourly, 100), time.Minute),
		"tighter inside":  backoff.Within(backoff.Limit(backoff.Within(hourly, time.Minute), 9), time.Hour),
		"tighter outside": backoff.Within(backoff.Limit(backoff.Within(hourly, time.Hour), 9), time.Minute),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				seq := backoff.Start(policy)
				time.Sleep(45 * time.Second)
				wait, ok := seq.Next()
				require.True(t, ok)
				assert.Equal(t, 15*time.Second, wait)
				time.Sleep(wait)
				_, ok = seq.Next()
				assert.False(t, ok)
			})
		})
	}
}

func TestSequenceDoesNotAllocate(t *testing.T) {
	for name, policy := range map[string]backoff.Policy{
		"nil":    nil,
		"within": backoff.Within(backoff.Limit(backoff.Default(), 100), time.Hour),
	} {
		t.Run(name, func(t *testing.T) {
			var waiter struct{ backoff.Sequence }
			assert.Zero(t, testing.AllocsPerRun(100, func() {
				waiter.Sequence = backoff.Start(policy)
				waiter.Next()
				waiter.Next()
			}))
		})
	}
}

func BenchmarkSequence(b *testing.B) {
	for name, policy := range map[string]backoff.Policy{
		"default": nil,
		"within":  backoff.Within(nil, 1<<62),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			seq := backoff.Start(policy)
			for b.Loop() {
				seq.Next()
			}
		})
	}
}
