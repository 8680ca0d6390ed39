package lock

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/lockstore/backoff"
)

// Lead runs fn whenever this process is the leader: whoever holds key. It waits for the
// lock, runs fn, waits until fn has returned, gives the lock back, and does so again until
// ctx ends. Who leads, and who waits to, is seen by Status.
//
//   - The context given to fn carries the hold, and ends when ctx does or when the lock is
//     lost, with cause [ErrLost]. What package metadata is told to write with it is stored
//     only while the lock is held.
//   - term grows with each leader, whatever the process: see [Held.Fence].
//   - When fn returns nil, or has lost the lock, the next term is waited for at once, behind
//     whoever waits already. When it fails, this process is no candidate for as long as p
//     says; nil is exponential, from a tenth of a second to ten seconds.
//   - A panic of fn goes on when the lock has been given back.
//
// The error matches ctx's cause once ctx has ended; that of the policy and of fn, if p gives
// up ([backoff.ErrExhausted]); and is what fn has marked as [backoff.Permanent]. A Locker
// that can give no locks at all has its own: [ErrClosed], say, or [ErrHeld].
//
// It takes no more than Lock, Bind, Fence and Unlock. It is here since leaders made by hand
// tend to give the lock back before their work has ended, or to work on when it is lost.
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

// lead is one term.
func lead(ctx context.Context, l Locker, key Key, fn func(context.Context, int64) error) (err error) {
	held, err := l.Lock(ctx, key)
	switch {
	case err == nil:
	case errors.Is(err, ErrHeld), errors.Is(err, ErrInvalidKey), errors.Is(err, ErrClosed), errors.Is(err, ErrUnsupported):
		return backoff.Permanent(err)
	case errors.Is(err, backoff.ErrExhausted) && errors.Is(err, ErrBusy):
		select { // the Locker's policy bounds a wait, not a candidacy
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
