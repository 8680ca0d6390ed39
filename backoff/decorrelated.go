package backoff

import (
	"math"
	"math/rand/v2"
	"time"
)

// Decorrelated waits for anything from Base to three times the wait before, so
// that each client soon has a rhythm of its own. It is jitter through and through,
// and has no field for it.
//
// It is the decorrelated jitter of "Exponential Backoff And Jitter" (AWS
// Architecture Blog, 2015), except that the cap comes first, here as in the other
// policies: capping afterwards would gather the clients at the cap.
type Decorrelated struct {
	Base time.Duration // the shortest wait; 0 or less means 5 ms
	Cap  time.Duration // the longest wait; 0 or less means no cap
	Rand rand.Source   // where waits are drawn from, if not nil: the caller keeps it from concurrent use
}

// Delay implements [Policy]. It never gives up.
func (p Decorrelated) Delay(_ int, prev time.Duration) (time.Duration, bool) {
	base, limit := bounds(p.Base, p.Cap)
	prev = max(prev, base)
	if prev <= math.MaxInt64/3 {
		limit = min(limit, 3*prev)
	}
	return between(base, limit, p.Rand), true
}
