package backoff

import (
	"math/rand/v2"
	"time"
)

// Fibonacci waits for the sum of the last two waits: 1, 1, 2, 3, 5, 8, … times Base. It
// grows more slowly than [Exponential] and, in the end, faster than [Linear].
type Fibonacci struct {
	Base   time.Duration // the first wait; 0 or less means 5 ms
	Cap    time.Duration // the longest wait, jitter included; 0 or less means no cap
	Jitter Jitter        // how waits are shortened at random; the zero value is FullJitter
	Rand   rand.Source   // random source of Jitter, not to be used by others at the same time; nil: math/rand/v2's
}

// Delay returns the wait after attempt, at most Cap, shortened by Jitter. It never gives
// up: ok is always true.
func (p Fibonacci) Delay(attempt int, _ time.Duration) (time.Duration, bool) {
	wait, limit := bounds(p.Base, p.Cap)
	// Any limit is reached within 92 steps: the 93rd Fibonacci number does not fit a
	// Duration.
	last := time.Duration(0)
	for n := 1; n < attempt && wait < limit; n++ {
		if wait > limit-last {
			wait = limit
		} else {
			last, wait = wait, wait+last
		}
	}
	return p.Jitter.spread(wait, p.Rand), true
}
