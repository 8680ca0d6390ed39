package lock

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/lockstore/backoff"
)

// Lead runs fn whenever this process is the leader, which is the holder of key. It waits for
// the lock, calls fn, unlocks once fn has returned, and starts again, until ctx ends.
// [Postgres.Status] shows who leads and who waits to.
//
//   - The context given to fn carries the lock. It ends when ctx does or when the lock is
//     lost, with cause [ErrLost]. A write of package metadata with this context is stored
//     only while the lock is held.
//   - term is the fencing token of this leader, and grows with each, in any process. Systems
//     other than a store of package metadata must refuse what comes with a smaller one than
//     they have seen: see [Held.Fence].
//   - When fn returns nil, or has lost the lock, Lead waits for the next term at once,
//     behind those that wait already. When fn fails, this process does not compete for as
//     long as p says; nil is exponential, from a tenth of a second to ten seconds.
//   - If fn panics, the panic continues after the unlock.
//
// Lead returns only with an error, never nil. It is
//
//   - one that matches the cause of ctx, once that has ended;
//   - one that matches [backoff.ErrExhausted] and the last error, of fn or of Lock, if p
//     gives up;
//   - the error that fn has marked as [backoff.Permanent];
//   - that of a Locker which cannot give this lock at all, such as [ErrClosed] or
//     [ErrHeld].
//
// It uses no more than Lock, Bind, Fence and Unlock. It is here because leaders written by
// hand tend to unlock before their work has ended, or to work on after the lock is lost.
func Lead(ctx context.Context, l Locker, key Key, p backoff.Policy, fn func(ctx context.Context, term int64) error) error {
	if p == nil {
		p = backoff.Exponential{Base: 100 * time.Millisecond, Cap: 10 * time.Second}
	}
	for {
		err := backoff.Retry(ctx, p, func(ctx context.Context) error { return lead(ctx, l, key, fn) })
		if err != nil {
			return err
		}
	}
}

// lead runs one term.
func lead(ctx context.Context, l Locker, key Key, fn func(context.Context, int64) error) (err error) {
	held, err := l.Lock(ctx, key)
	switch {
	case err == nil:
	case errors.Is(err, ErrHeld), errors.Is(err, ErrInvalidKey), errors.Is(err, ErrClosed), errors.Is(err, ErrUnsupported):
		return backoff.Permanent(err)
	case errors.Is(err, backoff.ErrExhausted) && errors.Is(err, ErrBusy):
		select { // the Locker's policy bounds one wait, not the competition
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
		return nil
	default:
		return err
	}
	defer func() {
		lost := errors.Is(held.Unlock(), ErrLost)
		if lost && (errors.Is(err, context.Canceled) || errors.Is(err, ErrLost)) {
			err = nil
		}
	}()
	ctx, stop := held.Bind(ctx)
	defer stop()
	term, err := held.Fence(ctx)
	if err != nil {
		return fmt.Errorf("lock: term of %s: %w", key, err)
	}
	if ctx.Err() != nil {
		return causeOf(ctx)
	}
	return fn(ctx, term)
}
