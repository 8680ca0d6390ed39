package backoff

import (
	"context"
	"iter"
	"time"
)

// Attempts is [Retry] as a range loop: it yields 1, 2, …, one number for each attempt, and
// waits between them as p says. A nil p means [Default]. The body leaves the loop when an
// attempt has succeeded; to reach the body's end means that the attempt has failed.
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
// When there are no more attempts, a last pair has the number of attempts that were made
// and an error that says why they are over: it matches [ErrExhausted] if p gave up, and
// both ctx.Err() and [context.Cause] if ctx ended. It does not match the errors of the
// attempts, which only the body knows.
//
// Each range over the result starts anew, so the result may be kept and shared.
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
