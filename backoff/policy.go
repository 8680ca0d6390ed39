package backoff

import (
	"math"
	"time"
)

// A Policy says how long to wait between attempts. It keeps no state: the caller
// counts the attempts and remembers the last wait, most simply with a [Sequence].
//
// The policies of this package are comparable values that are safe for concurrent
// use (but see Rand in each of them), and their Delay neither blocks nor allocates.
// The zero value of each is ready for use.
type Policy interface {
	// Delay returns the wait before attempt n+1, after attempt n (1, 2, …)
	// failed; prev is the wait it returned last, 0 at first. Attempts below 1
	// count as 1. ok=false means: give up.
	Delay(attempt int, prev time.Duration) (wait time.Duration, ok bool)
}

// Default returns the policy that stands in wherever a nil Policy is given:
// exponential from 5 ms to 100 ms with full jitter, without a limit. It suits
// polling for a lock that is held for milliseconds.
func Default() Exponential {
	return Exponential{Base: defaultBase, Cap: 100 * time.Millisecond}
}

const defaultBase = 5 * time.Millisecond

// fallback is boxed once, so that a nil Policy costs no allocation per use.
var fallback Policy = Default()

func orDefault(p Policy) Policy {
	if p == nil {
		return fallback
	}
	return p
}

// bounds returns the limits of a policy's waits, with 1 <= base <= limit: what
// the zero and the negative values of Base and Cap stand for is decided here.
func bounds(base, limit time.Duration) (time.Duration, time.Duration) {
	if base <= 0 {
		base = defaultBase
	}
	if limit <= 0 {
		limit = math.MaxInt64
	}
	return min(base, limit), limit
}
