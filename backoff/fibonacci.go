package backoff

import (
	"math/rand/v2"
	"time"
)

// Fibonacci adds the last two waits to make the next: 1, 1, 2, 3, 5, 8, … times
// Base. It grows more gently than [Exponential] and for longer than [Linear].
type Fibonacci struct {
	Base   time.Duration // the first wait; 0 or less means 5 ms
	Cap    time.Duration // the longest wait, jitter included; 0 or less means no cap
	Jitter Jitter        // how waits are spread; the zero value is FullJitter
	Rand   rand.Source   // where Jitter draws from, if not nil: the caller keeps it from concurrent use
}

// Delay implements [Policy]. It never gives up.
func (p Fibonacci) Delay(attempt int, _ time.Duration) (time.Duration, bool) {
	wait, limit := bounds(p.Base, p.Cap)
	// The limit is reached within 92 steps, whatever the attempt: the 93rd
	// Fibonacci number no longer fits a Duration.
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
