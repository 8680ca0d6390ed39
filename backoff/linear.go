package backoff

import (
	"math/rand/v2"
	"time"
)

// Linear waits longer by Base after every attempt: 1, 2, 3, 4, … times Base.
type Linear struct {
	Base   time.Duration // the first wait and the step; 0 or less means 5 ms
	Cap    time.Duration // the longest wait, jitter included; 0 or less means no cap
	Jitter Jitter        // how waits are shortened at random; the zero value is FullJitter
	Rand   rand.Source   // random source of Jitter, not to be used by others at the same time; nil: math/rand/v2's
}

// Delay returns the wait after attempt, at most Cap, shortened by Jitter. It never gives
// up: ok is always true.
func (p Linear) Delay(attempt int, _ time.Duration) (time.Duration, bool) {
	wait, limit := bounds(p.Base, p.Cap)
	n := time.Duration(max(attempt, 1))
	if wait > limit/n {
		wait = limit
	} else {
		wait *= n
	}
	return p.Jitter.spread(wait, p.Rand), true
}
