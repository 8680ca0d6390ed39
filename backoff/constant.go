package backoff

import (
	"math/rand/v2"
	"time"
)

// Constant waits for Base after every attempt: 1, 1, 1, … times Base.
type Constant struct {
	Base   time.Duration // the wait; 0 or less means 5 ms
	Jitter Jitter        // how waits are shortened at random; the zero value is FullJitter
	Rand   rand.Source   // random source of Jitter, not to be used by others at the same time; nil: math/rand/v2's
}

// Delay returns Base, shortened by Jitter. It never gives up: ok is always true.
func (p Constant) Delay(int, time.Duration) (time.Duration, bool) {
	base, _ := bounds(p.Base, 0)
	return p.Jitter.spread(base, p.Rand), true
}
