package backoff

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrExhausted says that the policy gave up. [Retry] wraps it together with the
// last error; [Attempts] yields it.
var ErrExhausted = errors.New("backoff: gave up")

// Retry calls fn until it returns nil, and waits between the calls as p says. A
// nil p is [Default]. fn gets ctx, and runs on the caller's goroutine.
//
// An error with the method RetryAfter() time.Duration, anywhere in its tree, makes
// Retry wait for at least that long, past the policy's cap too; when [Within]
// leaves less, Retry gives up at once.
//
// Retry returns
//   - nil as soon as fn does;
//   - the error inside, at once, when fn returns [Permanent];
//   - an error that matches [ErrExhausted] and fn's last error when p gives up;
//   - an error that matches ctx.Err(), [context.Cause] and fn's last error when ctx
//     ends. It cuts a wait short, and no call begins after it.
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

// Permanent marks err as one that another attempt cannot mend: [Retry] stops and
// returns err itself. It also stops at an error that wraps a permanent one, and
// returns that as it is. Permanent(nil) is nil.
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

// unmarked takes the mark off err, but nothing that was wrapped around the mark.
func unmarked(err error) error {
	if mark, ok := err.(*permanent); ok {
		return mark.err
	}
	return err
}

// retryAfter returns how long err asks to be left alone, 0 if it does not.
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

// stopped returns the error of a context that has ended: one that matches both
// its Err and its Cause.
func stopped(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) {
		return fmt.Errorf("backoff: %w", cause)
	}
	return fmt.Errorf("backoff: %w: %w", err, cause)
}
