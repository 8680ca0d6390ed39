package backoff

import "time"

// A Sequence walks one caller through a policy: it counts the attempts, remembers
// the last wait and keeps the time that [Within] allows. It does not sleep, so it
// fits an event loop with timers of its own; where there is none, [Retry] and
// [Attempts] are simpler.
//
// It is a small value that may be embedded, copied and thrown away. The zero value
// is a sequence of [Default]. It is not safe for concurrent use.
type Sequence struct {
	policy   Policy
	attempts int           // that have failed
	prev     time.Duration // what policy returned last
	bounded  bool          // by total, counted from start
	total    time.Duration
	start    time.Time
}

// Start returns the sequence of p for a first attempt that begins now. A nil p is
// [Default].
func Start(p Policy) Sequence {
	s := Sequence{policy: p}
	if s.total, s.bounded = totalOf(p); s.bounded {
		s.start = time.Now()
	}
	return s
}

// Next returns how long to wait before the next attempt, now that one has failed.
// The wait is never negative. ok=false means: give up. Next neither blocks nor
// allocates.
func (s *Sequence) Next() (wait time.Duration, ok bool) {
	return s.next(0)
}

// next is Next for a failure that asks for a wait of at least floor.
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
