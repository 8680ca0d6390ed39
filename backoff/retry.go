package backoff

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrExhausted means that the policy gave up. [Retry] wraps it together with the last
// error; [Attempts] yields it.
var ErrExhausted = errors.New("backoff: gave up")

// Retry calls fn until it returns nil, and waits between the calls as p says. A nil p
// means [Default]. fn gets ctx, and runs on the caller's goroutine.
//
// If fn's error, or one that it wraps, has the method RetryAfter() time.Duration, Retry
// waits for at least that long, even beyond the policy's cap. If [Within] leaves less time
// than that, Retry gives up at once.
//
// Retry returns:
//   - nil as soon as fn does;
//   - the error inside, at once, if fn returns one marked by [Permanent];
//   - an error that matches [ErrExhausted] and fn's last error if p gives up;
//   - an error that matches ctx.Err(), [context.Cause] and fn's last error, if there was
//     one, when ctx ends. The end of ctx cuts a wait short; no call begins after it.
//
// Retry is safe for concurrent use.
func Retry(ctx context.Context, p Policy, fn func(ctx context.Context) error) error {
	if ctx.Err() != nil {
		return stopped(ctx)
	}
	for seq := Start(p); ; {
		err := fn(ctx)
		if err == nil {
			return nil
		}
		if isPermanent(err) {
			return unmarked(err)
		}
		wait, ok := seq.next(retryAfter(err))
		if ok {
			sleep(ctx, wait)
		}
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("%w after attempt %d: %w", stopped(ctx), seq.attempts, err)
		case !ok:
			return fmt.Errorf("%w after attempt %d: %w", ErrExhausted, seq.attempts, err)
		}
	}
}

// Permanent marks err as an error that another attempt cannot mend: [Retry] stops and
// returns err itself. Retry also stops at an error that wraps a permanent one, and returns
// that error unchanged. Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanent{err}
}

type permanent struct{ err error }

func (p *permanent) Error() string { return p.err.Error() }
func (p *permanent) Unwrap() error { return p.err }

func isPermanent(err error) bool {
	var mark *permanent
	return errors.As(err, &mark)
}

// unmarked returns err without the mark. An error that wraps the mark stays as it is.
func unmarked(err error) error {
	if mark, ok := err.(*permanent); ok {
		return mark.err
	}
	return err
}

// retryAfter returns the wait that err asks for, 0 if it asks for none.
func retryAfter(err error) time.Duration {
	var asks interface{ RetryAfter() time.Duration }
	if errors.As(err, &asks) {
		return max(asks.RetryAfter(), 0)
	}
	return 0
}

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// stopped returns an error that matches both Err and Cause of a context that has ended.
func stopped(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) {
		return fmt.Errorf("backoff: %w", cause)
	}
	return fmt.Errorf("backoff: %w: %w", err, cause)
}
