package backoff

import "time"

// Limit returns p with a bound on the attempts: it gives up after that many have failed.
// The first attempt counts, so three retries are four attempts. There is always one
// attempt, also if attempts is less than 1. A nil p means [Default].
func Limit(p Policy, attempts int) Policy {
	return limited{orDefault(p), attempts}
}

type limited struct {
	policy   Policy
	attempts int
}

func (l limited) Delay(attempt int, prev time.Duration) (time.Duration, bool) {
	if attempt >= l.attempts {
		return 0, false
	}
	return l.policy.Delay(attempt, prev)
}
