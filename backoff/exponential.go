package backoff

import (
	"math"
	"math/rand/v2"
	"time"
)

// Exponential multiplies the wait by Factor after every attempt: 1, 2, 4, 8, …
// times Base, with the default Factor.
type Exponential struct {
	Base   time.Duration // the first wait; 0 or less means 5 ms
	Factor float64       // the growth per attempt; 0, NaN and anything below 1 mean 2
	Cap    time.Duration // the longest wait, jitter included; 0 or less means no cap
	Jitter Jitter        // how waits are shortened at random; the zero value is FullJitter
	Rand   rand.Source   // random source of Jitter, not to be used by others at the same time; nil: math/rand/v2's
}

// Delay returns the wait after attempt, at most Cap, shortened by Jitter. It never gives
// up: ok is always true.
func (p Exponential) Delay(attempt int, _ time.Duration) (time.Duration, bool) {
	wait, limit := bounds(p.Base, p.Cap)
	factor := p.Factor
	if !(factor >= 1) { // NaN too
		factor = 2
	}
	wait = grow(wait, factor, max(attempt, 1)-1, limit)
	return p.Jitter.spread(wait, p.Rand), true
}

// grow returns wait × factor^steps, at most limit.
func grow(wait time.Duration, factor float64, steps int, limit time.Duration) time.Duration {
	if factor == 2 { // the usual case is exact, and several times faster
		if steps > 62 || wait > limit>>steps {
			return limit
		}
		return wait << steps
	}
	// The product may round up to limit or be +Inf, but is never NaN: neither operand can
	// be zero.
	grown := float64(wait) * math.Pow(factor, float64(steps))
	if grown >= float64(limit) {
		return limit
	}
	return time.Duration(grown)
}
