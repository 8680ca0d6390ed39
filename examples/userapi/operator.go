package main

import (
	"context"
	"log/slog"
	"time"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
)

// operator logs what an operator should know: holds that were lost or lasted long, and
// operations that were slow or failed in unexpected ways. It observes the locker and the
// store.
type operator struct{ log *slog.Logger }

const (
	longHold      = time.Minute
	slowOperation = time.Second
)

// HoldStart returns ctx. It implements [lock.HoldObserver].
func (*operator) HoldStart(ctx context.Context, _ lock.HoldStart) context.Context { return ctx }

// HoldEnd logs a hold that was lost or lasted long. It implements [lock.HoldObserver].
func (o *operator) HoldEnd(ctx context.Context, e lock.HoldEnd) {
	if e.Err != nil || e.Held > longHold {
		o.log.WarnContext(ctx, "a lock was lost, or held for long", "keys", e.Keys, "held", e.Held.Round(time.Millisecond), "error_type", lock.ErrorType(e.Err))
	}
}

// OperationStart returns ctx. It implements [metadata.OperationObserver].
func (*operator) OperationStart(ctx context.Context, _ metadata.OperationStart) context.Context {
	return ctx
}

// OperationEnd logs an operation that was slow, or failed with an unknown outcome or an
// unexpected error. It implements [metadata.OperationObserver].
func (o *operator) OperationEnd(ctx context.Context, e metadata.OperationEnd) {
	kind := metadata.ErrorType(e.Err)
	if kind == "unknown_outcome" || kind == "_OTHER" || e.Took > slowOperation && e.Name != "Watch" {
		o.log.WarnContext(ctx, "an operation was slow, or failed", "operation", e.Name, "users", e.IDs, "took", e.Took.Round(time.Millisecond), "error_type", kind)
	}
}
