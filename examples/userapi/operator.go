package main

import (
	"context"
	"log/slog"
	"time"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
)

// operator logs what an operator wants to know by itself, whatever becomes of the request:
// holds that were lost or lasted for long, and writes that were slow or of unknown outcome.
// It is an observer of the locker and of the store.
type operator struct {
	log  *slog.Logger
	slow time.Duration
}

// HoldStart implements [lock.HoldObserver].
func (*operator) HoldStart(ctx context.Context, _ lock.HoldStart) context.Context { return ctx }

// HoldEnd implements [lock.HoldObserver].
func (o *operator) HoldEnd(ctx context.Context, e lock.HoldEnd) {
	if e.Err != nil || e.Held > time.Minute {
		o.log.WarnContext(ctx, "a lock was lost, or held for long", "keys", e.Keys, "held", e.Held.Round(time.Millisecond), "error_type", lock.ErrorType(e.Err))
	}
}

// OperationStart implements [metadata.OperationObserver].
func (*operator) OperationStart(ctx context.Context, _ metadata.OperationStart) context.Context {
	return ctx
}

// OperationEnd implements [metadata.OperationObserver].
func (o *operator) OperationEnd(ctx context.Context, e metadata.OperationEnd) {
	kind := metadata.ErrorType(e.Err)
	if kind == "unknown_outcome" || kind == "_OTHER" || e.Took > o.slow && e.Name != "Watch" {
		o.log.WarnContext(ctx, "an operation was slow, or failed", "operation", e.Name, "users", e.IDs, "took", e.Took.Round(time.Millisecond), "error_type", kind)
	}
}
