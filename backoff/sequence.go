package backoff

import "time"

// A Sequence yields the waits of a policy for one caller: it counts the attempts, remembers
// the last wait and enforces the time that [Within] allows. It does not sleep, so it fits
// an event loop with timers of its own. Elsewhere, [Retry] and [Attempts] are simpler.
//
// A Sequence is a small value that may be embedded, copied and thrown away. The zero value
// is a sequence of [Default]. It is not safe for concurrent use.
type Sequence struct {
	policy   Policy
	attempts int           // how many have failed
	prev     time.Duration // the last wait of policy
	bounded  bool          // whether total, counted from start, applies
	total    time.Duration
	start    time.Time
}

// Start returns a sequence of p whose first attempt begins now. A nil p means [Default].
func Start(p Policy) Sequence {
	s := Sequence{policy: p}
	if s.total, s.bounded = totalOf(p); s.bounded {
		s.start = time.Now()
	}
	return s
}

// Next returns how long to wait before the next attempt, after one has failed. The wait is
// never negative. If ok is false, there is no next attempt: give up. Next neither blocks nor
// allocates, as long as the policy does not.
func (s *Sequence) Next() (wait time.Duration, ok bool) {
	return s.next(0)
}

// next is Next for an error that asks for a wait of at least floor.
func (s *Sequence) next(floor time.Duration) (time.Duration, bool) {
	s.policy = orDefault(s.policy)
	s.attempts++
	wait, ok := s.policy.Delay(s.attempts, s.prev)
	if !ok {
		return 0, false
	}
	s.prev = max(wait, 0)
	wait = max(s.prev, floor)
	if s.bounded {
		left := s.total - time.Since(s.start)
		if left <= 0 || floor > left {
			return 0, false
		}
		wait = min(wait, left)
	}
	return wait, true
}
