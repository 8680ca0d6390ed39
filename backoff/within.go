package backoff

import "time"

// Within returns p with a bound on the time: no attempt begins later than total after the
// first one began. A wait that would end later is shortened, so that a last attempt begins
// when total is over; after that the policy gives up. If total is 0 or less, there is only
// the first attempt. A nil p means [Default].
//
// [Sequence], [Retry] and [Attempts] enforce the bound, counted from their start. They find
// it in any nesting of Within and [Limit]; of several, the tightest applies. Delay alone has
// no clock: it only keeps each single wait within total. A policy of your own that wraps
// such a nesting therefore hides the bound; wrap Within around your policy instead.
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

// totalOf returns the bound on the time from p's first attempt to its last, if p has one.
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
