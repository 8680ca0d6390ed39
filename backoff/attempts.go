package backoff

import (
	"context"
	"iter"
	"time"
)

// Attempts is [Retry] as a range loop: it yields 1, 2, … before each attempt, and
// waits between them as p says. A nil p is [Default]. The body leaves the loop
// when an attempt succeeds; reaching its end means that the attempt failed.
//
//	for n, err := range backoff.Attempts(ctx, policy) {
//		if err != nil {
//			return err // the attempts are over
//		}
//		if conn, err := dial(ctx, n); err == nil {
//			return serve(conn)
//		}
//	}
//
// When there are to be no more attempts, a last pair carries the number of those
// that were made and an error that says why: it matches [ErrExhausted] when p gave
// up, and both ctx.Err() and [context.Cause] when ctx ended. What the attempts
// themselves failed of, the body knows.
//
// Each range over the result starts anew, so it may be kept and shared.
func Attempts(ctx context.Context, p Policy) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		seq, ok := Start(p), true
		for {
			switch {
			case ctx.Err() != nil:
				yield(seq.attempts, stopped(ctx))
				return
			case !ok:
				yield(seq.attempts, ErrExhausted)
				return
			case !yield(seq.attempts+1, nil):
				return
			}
			var wait time.Duration
			if wait, ok = seq.Next(); ok {
				sleep(ctx, wait)
			}
		}
	}
}
