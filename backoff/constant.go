package backoff

import (
	"math/rand/v2"
	"time"
)

// Constant waits for Base after every attempt: 1, 1, 1, … times Base.
type Constant struct {
	Base   time.Duration // the wait; 0 or less means 5 ms
	Jitter Jitter        // how waits are spread; the zero value is FullJitter
	Rand   rand.Source   // where Jitter draws from, if not nil: the caller keeps it from concurrent use
}

// Delay implements [Policy]. It never gives up.
func (p Constant) Delay(int, time.Duration) (time.Duration, bool) {
	base, _ := bounds(p.Base, 0)
	return p.Jitter.spread(base, p.Rand), true
}
