package backoff

import (
	"math/rand/v2"
	"time"
)

// Jitter spreads the waits of clients that failed together, so that they do not
// come back together. It only ever shortens a wait, and never to zero.
//
// The zero value is [FullJitter]. Forgetting to switch jitter on is the costly
// mistake, so it must be switched off instead.
type Jitter uint8

const (
	FullJitter  Jitter = iota // anywhere above 0, up to the whole wait
	EqualJitter               // half of the wait, plus anything up to the other half
	NoJitter                  // exactly the wait
)

// spread returns a wait in the range that j leaves of 1 <= wait.
func (j Jitter) spread(wait time.Duration, source rand.Source) time.Duration {
	switch j {
	case NoJitter:
		return wait
	case EqualJitter:
		return between(wait-wait/2, wait, source)
	default:
		return between(1, wait, source)
	}
}

// between returns a duration with low <= d <= high, each as likely as any other,
// for 1 <= low.
func between(low, high time.Duration, source rand.Source) time.Duration {
	n := int64(high-low) + 1
	if source == nil {
		return low + time.Duration(rand.Int64N(n))
	}
	return low + time.Duration(rand.New(source).Int64N(n))
}
