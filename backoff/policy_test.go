package backoff_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/backoff"
)

const (
	ms      = time.Millisecond
	longest = time.Duration(math.MaxInt64)
)

// waits returns the first n waits of p, for a caller whose attempts all fail.
func waits(t testing.TB, p backoff.Policy, n int) []time.Duration {
	t.Helper()
	var all []time.Duration
	prev := time.Duration(0)
	for attempt := 1; attempt <= n; attempt++ {
		wait, ok := p.Delay(attempt, prev)
		require.True(t, ok, "attempt %d", attempt)
		all, prev = append(all, wait), wait
	}
	return all
}

func TestPolicyGrowth(t *testing.T) {
	tests := []struct {
		name   string
		policy backoff.Policy
		want   []time.Duration
	}{
		{"constant", backoff.Constant{Base: 7 * ms, Jitter: backoff.NoJitter},
			[]time.Duration{7 * ms, 7 * ms, 7 * ms}},
		{"linear", backoff.Linear{Base: 10 * ms, Jitter: backoff.NoJitter},
			[]time.Duration{10 * ms, 20 * ms, 30 * ms, 40 * ms}},
		{"linear capped", backoff.Linear{Base: 10 * ms, Cap: 25 * ms, Jitter: backoff.NoJitter},
			[]time.Duration{10 * ms, 20 * ms, 25 * ms, 25 * ms}},
		{"exponential", backoff.Exponential{Base: 10 * ms, Jitter: backoff.NoJitter},
			[]time.Duration{10 * ms, 20 * ms, 40 * ms, 80 * ms, 160 * ms}},
		{"exponential capped", backoff.Exponential{Base: 10 * ms, Cap: 50 * ms, Jitter: backoff.NoJitter},
			[]time.Duration{10 * ms, 20 * ms, 40 * ms, 50 * ms, 50 * ms}},
		{"exponential by 1.5", backoff.Exponential{Base: 8 * ms, Factor: 1.5, Jitter: backoff.NoJitter},
			[]time.Duration{8 * ms, 12 * ms, 18 * ms, 27 * ms}},
		{"exponential by 1", backoff.Exponential{Base: 8 * ms, Factor: 1, Jitter: backoff.NoJitter},
			[]time.Duration{8 * ms, 8 * ms, 8 * ms}},
		{"exponential by infinity", backoff.Exponential{Base: 8 * ms, Factor: math.Inf(1), Cap: time.Hour, Jitter: backoff.NoJitter},
			[]time.Duration{8 * ms, time.Hour, time.Hour}},
		{"exponential by NaN", backoff.Exponential{Base: 8 * ms, Factor: math.NaN(), Jitter: backoff.NoJitter},
			[]time.Duration{8 * ms, 16 * ms, 32 * ms}},
		{"exponential by less than 1", backoff.Exponential{Base: 8 * ms, Factor: 0.5, Jitter: backoff.NoJitter},
			[]time.Duration{8 * ms, 16 * ms, 32 * ms}},
		{"fibonacci", backoff.Fibonacci{Base: 10 * ms, Jitter: backoff.NoJitter},
			[]time.Duration{10 * ms, 10 * ms, 20 * ms, 30 * ms, 50 * ms, 80 * ms, 130 * ms}},
		{"fibonacci capped", backoff.Fibonacci{Base: 10 * ms, Cap: 60 * ms, Jitter: backoff.NoJitter},
			[]time.Duration{10 * ms, 10 * ms, 20 * ms, 30 * ms, 50 * ms, 60 * ms, 60 * ms}},
		{"cap below base", backoff.Linear{Base: 10 * ms, Cap: 3 * ms, Jitter: backoff.NoJitter},
			[]time.Duration{3 * ms, 3 * ms}},
		{"decorrelated with cap below base", backoff.Decorrelated{Base: 10 * ms, Cap: 3 * ms},
			[]time.Duration{3 * ms, 3 * ms}},
		{"negative base", backoff.Linear{Base: -1, Cap: -1, Jitter: backoff.NoJitter},
			[]time.Duration{5 * ms, 10 * ms, 15 * ms}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.want, waits(t, tt.policy, len(tt.want)))
		})
	}
}

func TestPolicySaturates(t *testing.T) {
	for name, policy := range map[string]backoff.Policy{
		"constant":    backoff.Constant{Base: longest, Jitter: backoff.NoJitter},
		"linear":      backoff.Linear{Base: longest / 9999, Jitter: backoff.NoJitter},
		"exponential": backoff.Exponential{Base: 1, Jitter: backoff.NoJitter},
		"fibonacci":   backoff.Fibonacci{Base: 1, Jitter: backoff.NoJitter},
	} {
		t.Run(name, func(t *testing.T) {
			wait, ok := policy.Delay(10_000, longest)
			require.True(t, ok)
			assert.Equal(t, longest, wait)
		})
	}
}

func TestZeroValueStartsAtFiveMilliseconds(t *testing.T) {
	for name, policy := range map[string]backoff.Policy{
		"constant":    backoff.Constant{},
		"linear":      backoff.Linear{},
		"exponential": backoff.Exponential{},
		"fibonacci":   backoff.Fibonacci{},
	} {
		t.Run(name, func(t *testing.T) {
			low, high := extremes(t, policy)
			assert.Positive(t, low)
			assert.Less(t, low, ms, "full jitter reaches far down")
			assert.LessOrEqual(t, high, 5*ms)
			assert.Greater(t, high, 4*ms)
		})
	}
	low, high := extremes(t, backoff.Decorrelated{})
	assert.GreaterOrEqual(t, low, 5*ms)
	assert.LessOrEqual(t, high, 15*ms)
}

func TestJitterOnlyShortens(t *testing.T) {
	tests := []struct {
		name   string
		jitter backoff.Jitter
		above  time.Duration
	}{
		{"full", backoff.FullJitter, 0},
		{"equal", backoff.EqualJitter, 50*ms - 1},
		{"none", backoff.NoJitter, 100*ms - 1},
		{"unknown is full", backoff.Jitter(200), 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			low, high := extremes(t, backoff.Constant{Base: 100 * ms, Jitter: tt.jitter})
			span := 100*ms - tt.above
			assert.Greater(t, low, tt.above)
			assert.LessOrEqual(t, low, tt.above+span/10+1, "the range is used down to its lower end")
			assert.LessOrEqual(t, high, 100*ms)
			assert.GreaterOrEqual(t, high, 100*ms-span/10, "the range is used up to its upper end")
		})
	}
}

// extremes returns the shortest and the longest of many first waits. The chance that they
// miss a tenth of the range is below 1e-40.
func extremes(t testing.TB, p backoff.Policy) (low, high time.Duration) {
	t.Helper()
	low = longest
	for range 1000 {
		wait := waits(t, p, 1)[0]
		low, high = min(low, wait), max(high, wait)
	}
	return low, high
}

func TestDecorrelatedFollowsPreviousWait(t *testing.T) {
	p := backoff.Decorrelated{Base: 10 * ms, Cap: 200 * ms}
	prev := time.Duration(0)
	for attempt := 1; attempt <= 1000; attempt++ {
		wait, ok := p.Delay(attempt, prev)
		require.True(t, ok)
		require.GreaterOrEqual(t, wait, 10*ms)
		require.LessOrEqual(t, wait, min(200*ms, 3*max(prev, 10*ms)))
		prev = wait
	}
}

func TestSameSourceSameWaits(t *testing.T) {
	with := func(seed uint64) map[string]backoff.Policy {
		source := rand.NewPCG(seed, 0)
		return map[string]backoff.Policy{
			"constant":     backoff.Constant{Base: time.Second, Rand: source},
			"linear":       backoff.Linear{Base: time.Second, Rand: source},
			"exponential":  backoff.Exponential{Base: time.Second, Rand: source},
			"fibonacci":    backoff.Fibonacci{Base: time.Second, Rand: source},
			"decorrelated": backoff.Decorrelated{Base: time.Second, Rand: source},
		}
	}
	for name := range with(0) {
		t.Run(name, func(t *testing.T) {
			first := waits(t, with(1)[name], 20)
			assert.Equal(t, first, waits(t, with(1)[name], 20))
			assert.NotEqual(t, first, waits(t, with(2)[name], 20))
		})
	}
}

func TestPoliciesAreComparable(t *testing.T) {
	source := rand.NewPCG(1, 2)
	build := func(base time.Duration) []backoff.Policy {
		return []backoff.Policy{
			backoff.Constant{Base: base, Rand: source},
			backoff.Linear{Base: base, Rand: source},
			backoff.Exponential{Base: base, Rand: source},
			backoff.Fibonacci{Base: base, Rand: source},
			backoff.Decorrelated{Base: base, Rand: source},
			backoff.Within(backoff.Limit(backoff.Constant{Base: base}, 3), time.Second),
		}
	}
	one, same, other := build(ms), build(ms), build(2*ms)
	for i := range one {
		assert.True(t, one[i] == same[i], "%#v", one[i])
		assert.False(t, one[i] == other[i], "%#v", one[i])
	}
}

func TestLimitCountsAttempts(t *testing.T) {
	for _, tt := range []struct{ limit, waits int }{{-1, 0}, {0, 0}, {1, 0}, {2, 1}, {4, 3}} {
		p := backoff.Limit(backoff.Constant{}, tt.limit)
		for attempt := 1; attempt < 10; attempt++ {
			_, ok := p.Delay(attempt, 0)
			assert.Equal(t, attempt <= tt.waits, ok, "limit %d, attempt %d", tt.limit, attempt)
		}
	}
}

func TestWithinAloneBoundsEachWait(t *testing.T) {
	wait, ok := backoff.Within(backoff.Constant{Base: time.Hour, Jitter: backoff.NoJitter}, time.Second).Delay(1, 0)
	assert.True(t, ok)
	assert.Equal(t, time.Second, wait)
	_, ok = backoff.Within(backoff.Constant{}, 0).Delay(1, 0)
	assert.False(t, ok)
}

func TestNilPolicyIsDefault(t *testing.T) {
	assert.True(t, backoff.Limit(nil, 3) == backoff.Limit(backoff.Default(), 3))
	assert.True(t, backoff.Within(nil, ms) == backoff.Within(backoff.Default(), ms))
}

// policies returns one policy of each type, for tests of what all have in common.
func policies(source rand.Source) map[string]backoff.Policy {
	return map[string]backoff.Policy{
		"constant":     backoff.Constant{Base: ms, Rand: source},
		"linear":       backoff.Linear{Base: ms, Cap: time.Second, Rand: source},
		"exponential":  backoff.Exponential{Base: ms, Cap: time.Second, Rand: source},
		"by 1.5":       backoff.Exponential{Base: ms, Factor: 1.5, Cap: time.Second, Rand: source},
		"fibonacci":    backoff.Fibonacci{Base: ms, Cap: time.Second, Rand: source},
		"decorrelated": backoff.Decorrelated{Base: ms, Cap: time.Second, Rand: source},
		"within limit": backoff.Within(backoff.Limit(backoff.Linear{Base: ms, Rand: source}, math.MaxInt), time.Second),
	}
}

func TestDelayDoesNotAllocate(t *testing.T) {
	for label, source := range map[string]rand.Source{"nil source": nil, "own source": rand.NewPCG(1, 2)} {
		for name, p := range policies(source) {
			t.Run(label+"/"+name, func(t *testing.T) {
				attempt := 0
				assert.Zero(t, testing.AllocsPerRun(100, func() {
					attempt++
					p.Delay(attempt, ms)
				}))
			})
		}
	}
}

func BenchmarkDelay(b *testing.B) {
	for name, p := range policies(nil) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			prev := time.Duration(0)
			for attempt := 1; b.Loop(); attempt = attempt%20 + 1 {
				prev, _ = p.Delay(attempt, prev)
			}
		})
	}
}
