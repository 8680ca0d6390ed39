package backoff

import "time"

// Within returns p with an end in time: no attempt begins later than total after
// the first one did. A wait that would pass the end is shortened to it, so that a
// last attempt is made there; then the policy gives up. A total of 0 or less
// leaves the first attempt only. A nil p is [Default].
//
// The clock is kept by [Sequence], [Retry] and [Attempts], which begin to count
// when they start; they find the bound in any nesting of Within and [Limit], and
// the tightest counts. Delay alone has no clock: it only keeps each single wait
// within total. So a policy of your own that wraps one of these hides the bound;
// wrap Within around yours instead.
func Within(p Policy, total time.Duration) Policy {
	return within{orDefault(p), total}
}

type within struct {
	policy Policy
	total  time.Duration
}

func (w within) Delay(attempt int, prev time.Duration) (time.Duration, bool) {
	if w.total <= 0 {
		return 0, false
	}
	wait, ok := w.policy.Delay(attempt, prev)
	return min(wait, w.total), ok
}

// totalOf returns the time that p may take from first to last attempt.
func totalOf(p Policy) (total time.Duration, bounded bool) {
	switch p := p.(type) {
	case limited:
		return totalOf(p.policy)
	case within:
		if inner, ok := totalOf(p.policy); ok {
			return min(inner, p.total), true
		}
		return p.total, true
	}
	return 0, false
}
