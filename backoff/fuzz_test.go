package backoff_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"example.com/lockstore/backoff"
)

// FuzzDelay looks for a wait that is negative, zero or above its cap, for any fields,
// attempt and previous wait. It also checks that without jitter no growing policy waits
// less after a later attempt.
func FuzzDelay(f *testing.F) {
	f.Add(int64(200*ms), int64(10*time.Second), 2.0, uint8(0), 7, int64(0), uint64(1))
	f.Add(int64(0), int64(0), 0.0, uint8(2), 10_000, int64(0), uint64(2))
	f.Add(int64(1), int64(math.MaxInt64), math.Inf(1), uint8(1), 10_000, int64(math.MaxInt64), uint64(3))
	f.Add(int64(math.MaxInt64), int64(math.MaxInt64-1), math.NaN(), uint8(2), 2, int64(math.MaxInt64/3+1), uint64(4))
	f.Add(int64(math.MinInt64), int64(math.MinInt64), math.Inf(-1), uint8(255), math.MinInt, int64(math.MinInt64), uint64(5))
	f.Add(int64(1)<<53+1, int64(1)<<62+1, math.SmallestNonzeroFloat64, uint8(1), math.MaxInt, int64(-1), uint64(6))
	f.Add(int64(3), int64(7), 1.0000001, uint8(0), 10_000, int64(2), uint64(7))

	f.Fuzz(func(t *testing.T, base, limit int64, factor float64, jitter uint8, attempt int, prev int64, seed uint64) {
		for _, source := range []rand.Source{nil, rand.NewPCG(seed, seed)} {
			b, c, j := time.Duration(base), time.Duration(limit), backoff.Jitter(jitter)
			for _, p := range []backoff.Policy{
				backoff.Constant{Base: b, Jitter: j, Rand: source},
				backoff.Linear{Base: b, Cap: c, Jitter: j, Rand: source},
				backoff.Exponential{Base: b, Factor: factor, Cap: c, Jitter: j, Rand: source},
				backoff.Fibonacci{Base: b, Cap: c, Jitter: j, Rand: source},
				backoff.Decorrelated{Base: b, Cap: c, Rand: source},
				backoff.Limit(backoff.Exponential{Base: b, Factor: factor, Cap: c, Jitter: j, Rand: source}, math.MaxInt),
			} {
				wait, ok := p.Delay(attempt, time.Duration(prev))
				if !ok && attempt != math.MaxInt {
					t.Errorf("%#v.Delay(%d, %d) gave up", p, attempt, prev)
				}
				if ok && wait <= 0 {
					t.Errorf("%#v.Delay(%d, %d) = %d", p, attempt, prev, wait)
				}
				if _, capped := p.(backoff.Constant); !capped && limit > 0 && wait > c {
					t.Errorf("%#v.Delay(%d, %d) = %d, above its cap", p, attempt, prev, wait)
				}
			}
		}

		next := attempt
		if next < math.MaxInt {
			next++
		}
		b, c := time.Duration(base), time.Duration(limit)
		for _, p := range []backoff.Policy{
			backoff.Linear{Base: b, Cap: c, Jitter: backoff.NoJitter},
			backoff.Exponential{Base: b, Factor: factor, Cap: c, Jitter: backoff.NoJitter},
			backoff.Fibonacci{Base: b, Cap: c, Jitter: backoff.NoJitter},
		} {
			now, _ := p.Delay(attempt, 0)
			later, _ := p.Delay(next, 0)
			if later < now {
				t.Errorf("%#v waits %d after attempt %d, but %d after %d", p, now, attempt, later, next)
			}
		}
	})
}
