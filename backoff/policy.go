package backoff

import (
	"math"
	"time"
)

// A Policy says how long to wait between attempts. It keeps no state: the caller counts
// the attempts and remembers the last wait, most simply with a [Sequence].
//
// The policies of this package are comparable values. They are safe for concurrent use
// if Rand is, as nil is. Their Delay neither blocks nor allocates, and their zero values
// are ready for use.
type Policy interface {
	// Delay returns how long to wait before the next attempt, after the given one (1, 2, …)
	// has failed. prev is the wait that the last call returned, 0 at first. An attempt
	// below 1 counts as 1. If ok is false, there is no next attempt: give up.
	Delay(attempt int, prev time.Duration) (wait time.Duration, ok bool)
}

// Default returns the policy that a nil Policy means: exponential from 5 ms to 100 ms with
// full jitter, without a limit. It suits polling for a lock that is held for milliseconds.
func Default() Exponential {
	return Exponential{Base: defaultBase, Cap: 100 * time.Millisecond}
}

const defaultBase = 5 * time.Millisecond

// fallback is converted to a Policy once, so that a nil Policy costs no allocation per use.
var fallback Policy = Default()

func orDefault(p Policy) Policy {
	if p == nil {
		return fallback
	}
	return p
}

// bounds returns what Base and Cap mean, zero and negative values included: the first
// wait and the longest, with 1 <= base <= limit.
func bounds(base, limit time.Duration) (time.Duration, time.Duration) {
	if base <= 0 {
		base = defaultBase
	}
	if limit <= 0 {
		limit = math.MaxInt64
	}
	return min(base, limit), limit
}
