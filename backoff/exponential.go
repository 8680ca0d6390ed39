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
	Factor float64       // the growth per attempt; 0 and whatever else is not at least 1 means 2
	Cap    time.Duration // the longest wait, jitter included; 0 or less means no cap
	Jitter Jitter        // how waits are spread; the zero value is FullJitter
	Rand   rand.Source   // where Jitter draws from, if not nil: the caller keeps it from concurrent use
}

// Delay implements [Policy]. It never gives up.
func (p Exponential) Delay(attempt int, _ time.Duration) (time.Duration, bool) {
	wait, limit := bounds(p.Base, p.Cap)
	factor := p.Factor
	if !(factor >= 1) { // NaN too
		factor = 2
	}
	wait = grow(wait, factor, max(attempt, 1)-1, limit)
	return p.Jitter.spread(wait, p.Rand), true
}

// grow returns wait × factor^steps, or limit where that is less.
func grow(wait time.Duration, factor float64, steps int, limit time.Duration) time.Duration {
	if factor == 2 { // the usual case is exact, and several times faster
		if steps > 62 || wait > limit>>steps {
			return limit
		}
		return wait << steps
	}
	// The product may round up to limit, or be as large as +Inf, but it is never
	// NaN: neither of its operands can be zero.
	grown := float64(wait) * math.Pow(factor, float64(steps))
	if grown >= float64(limit) {
		return limit
	}
	return time.Duration(grown)
}
