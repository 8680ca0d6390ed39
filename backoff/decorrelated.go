package backoff

import (
	"math"
	"math/rand/v2"
	"time"
)

// Decorrelated waits for a random time between Base and three times the last wait, so
// that clients soon stop waiting in step. It needs no Jitter, and has no field for it.
//
// It is the decorrelated jitter of "Exponential Backoff And Jitter" (AWS Architecture
// Blog, 2015), except that it caps the range before it draws, where the article caps the
// drawn wait: capping afterward would gather the clients at the cap.
type Decorrelated struct {
	Base time.Duration // the shortest wait; 0 or less means 5 ms
	Cap  time.Duration // the longest wait; 0 or less means no cap
	Rand rand.Source   // random source of the waits, not to be used by others at the same time; nil: math/rand/v2's
}

// Delay returns a random wait, at most Cap, drawn from Base to three times prev, or to
// three times Base if prev is less. It never gives up: ok is always true.
func (p Decorrelated) Delay(_ int, prev time.Duration) (time.Duration, bool) {
	base, limit := bounds(p.Base, p.Cap)
	prev = max(prev, base)
	if prev <= math.MaxInt64/3 {
		limit = min(limit, 3*prev)
	}
	return between(base, limit, p.Rand), true
}
