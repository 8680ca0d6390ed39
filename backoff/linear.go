package backoff

import (
	"math/rand/v2"
	"time"
)

// Linear waits for Base more after every attempt: 1, 2, 3, 4, … times Base.
type Linear struct {
	Base   time.Duration // the first wait and the step; 0 or less means 5 ms
	Cap    time.Duration // the longest wait, jitter included; 0 or less means no cap
	Jitter Jitter        // how waits are spread; the zero value is FullJitter
	Rand   rand.Source   // where Jitter draws from, if not nil: the caller keeps it from concurrent use
}

// Delay implements [Policy]. It never gives up.
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
