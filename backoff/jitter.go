package backoff

import (
	"math/rand/v2"
	"time"
)

// Jitter says how waits are shortened at random, so that clients that failed together do
// not retry together. It never lengthens a wait, and never shortens one to zero.
//
// The zero value is [FullJitter]: jitter has to be turned off, by [NoJitter], since to
// forget turning it on would be the costly mistake. An unknown value is FullJitter, too.
type Jitter uint8

const (
	FullJitter  Jitter = iota // anywhere above 0, up to the whole wait
	EqualJitter               // half of the wait, plus anything up to the other half
	NoJitter                  // exactly the wait
)

// spread returns wait, which is at least 1, shortened as j says.
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

// between returns a random duration from low, which is at least 1, to high, uniformly.
func between(low, high time.Duration, source rand.Source) time.Duration {
	n := int64(high-low) + 1
	if source == nil {
		return low + time.Duration(rand.Int64N(n))
	}
	return low + time.Duration(rand.New(source).Int64N(n))
}
