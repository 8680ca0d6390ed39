package otelstore

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
)

// ownKey is the context key of the span of an observation: nothing that is derived from the
// context for others replaces it, as their own spans replace the current one.
type ownKey struct{ of string }

// begin begins a span, unless it would not be sampled.
func (o *Observer) begin(ctx context.Context, of, name string, kind trace.SpanKind, options ...trace.SpanStartOption) context.Context {
	if isDropped(ctx) {
		return ctx
	}
	begun, span := o.tracer.Start(ctx, name, append(options, trace.WithSpanKind(kind))...)
	if !span.IsRecording() {
		return begun // below which nothing is begun
	}
	return context.WithValue(begun, ownKey{of}, span)
}

// isDropped reports whether a span of ctx would have a parent that is not sampled.
func isDropped(ctx context.Context) bool {
	parent := trace.SpanFromContext(ctx)
	c := parent.SpanContext()
	return c.IsValid() && !c.IsSampled() && !parent.IsRecording()
}

// end ends the span that begin has begun, if there is one.
func end(ctx context.Context, of, errorType string, links ...trace.Link) {
	span, ok := ctx.Value(ownKey{of}).(trace.Span)
	if !ok {
		return
	}
	for _, l := range links {
		span.AddLink(l)
	}
	finish(span, errorType)
}

func finish(span trace.Span, errorType string, options ...trace.SpanEndOption) {
	if errorType != "" {
		span.SetAttributes(semconv.ErrorTypeKey.String(errorType))
		span.SetStatus(codes.Error, errorType)
	}
	span.End(options...)
}

func batchOf(n int) []attribute.KeyValue {
	if n < 2 { // by the convention
		return nil
	}
	return []attribute.KeyValue{semconv.DBOperationBatchSize(n)}
}

// OperationStart implements [metadata.OperationObserver].
func (o *Observer) OperationStart(ctx context.Context, s metadata.OperationStart) context.Context {
	if s.Name == "Watch" || isDropped(ctx) {
		return ctx
	}
	all := append(labels{s.Name, s.Table, ""}.attributes(), batchOf(len(s.IDs))...)
	if o.names {
		all = append(all, attribute.StringSlice("lockstore.document.ids", s.IDs))
	}
	return o.begin(ctx, "operation", s.Name+" "+s.Table, trace.SpanKindClient, trace.WithAttributes(all...))
}

// OperationEnd implements [metadata.OperationObserver].
func (o *Observer) OperationEnd(ctx context.Context, e metadata.OperationEnd) {
	if e.Name == "Watch" {
		return
	}
	kind := metadata.ErrorType(e.Err)
	o.operation.Record(ctx, e.Took.Seconds(), o.of(labels{e.Name, e.Table, kind}))
	end(ctx, "operation", kind, linkTo(ctx, e.Commit)...)
}

// linkTo is the link from an operation to a commit that was made by another one.
func linkTo(operation, commit context.Context) []trace.Link {
	if commit == nil || commit.Value(ownKey{"operation"}) == operation.Value(ownKey{"operation"}) {
		return nil
	}
	span, ok := commit.Value(ownKey{"commit"}).(trace.Span)
	if !ok {
		return nil
	}
	return []trace.Link{{SpanContext: span.SpanContext()}}
}

// CommitStart implements [metadata.CommitObserver].
func (o *Observer) CommitStart(ctx context.Context, s metadata.CommitStart) context.Context {
	if isDropped(ctx) {
		return ctx
	}
	all := labels{"commit", s.Table, ""}.attributes()
	if o.names {
		all = append(all, attribute.StringSlice("lockstore.document.ids", s.IDs))
	}
	return o.begin(ctx, "commit", "commit "+s.Table, trace.SpanKindClient, trace.WithAttributes(all...))
}

// CommitEnd implements [metadata.CommitObserver].
func (o *Observer) CommitEnd(ctx context.Context, e metadata.CommitEnd) {
	kind := metadata.ErrorType(e.Err)
	if e.Writes > 0 {
		o.writes.Record(ctx, int64(e.Writes), o.of(labels{"commit", e.Table, kind}))
	}
	o.commit.Record(ctx, e.Took.Seconds(), o.of(labels{"commit", e.Table, kind}))
	if span, ok := ctx.Value(ownKey{"commit"}).(trace.Span); ok {
		span.SetAttributes(batchOf(e.Writes)...)
		finish(span, kind)
	}
}

// AcquireStart implements [lock.AcquireObserver].
func (o *Observer) AcquireStart(ctx context.Context, _ lock.AcquireStart) context.Context { return ctx }

// AcquireEnd implements [lock.AcquireObserver]. Nothing is done below a wait, so that its
// span can be made when it is over.
func (o *Observer) AcquireEnd(ctx context.Context, e lock.AcquireEnd) {
	kind := lock.ErrorType(e.Err)
	o.wait.Record(ctx, e.Waited.Seconds(), o.of(labels{e.Operation, "", kind}))
	if isDropped(ctx) {
		return
	}
	now := time.Now()
	all := append(labels{e.Operation, "", ""}.attributes(), batchOf(len(e.Keys))...)
	_, span := o.tracer.Start(ctx, e.Operation, trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(now.Add(-e.Waited)), trace.WithAttributes(append(all, o.keys(e.Keys)...)...))
	finish(span, kind, trace.WithTimestamp(now))
}

func (o *Observer) keys(keys []lock.Key) []attribute.KeyValue {
	if !o.names {
		return nil
	}
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.String()
	}
	return []attribute.KeyValue{attribute.StringSlice("lockstore.lock.keys", names)}
}

// HoldStart implements [lock.HoldObserver].
func (o *Observer) HoldStart(ctx context.Context, s lock.HoldStart) context.Context {
	if isDropped(ctx) {
		return ctx
	}
	all := append(o.keys(s.Keys), attribute.Bool("lockstore.lock.shared", s.Shared))
	return o.begin(ctx, "hold", "hold", trace.SpanKindInternal, trace.WithAttributes(all...))
}

// HoldEnd implements [lock.HoldObserver].
func (o *Observer) HoldEnd(ctx context.Context, e lock.HoldEnd) {
	kind := lock.ErrorType(e.Err)
	o.hold.Record(ctx, e.Held.Seconds(), o.of(labels{"hold", "", kind}))
	end(ctx, "hold", kind)
}

// ConnectStart implements [lock.ConnectObserver].
func (o *Observer) ConnectStart(ctx context.Context, _ lock.ConnectStart) context.Context {
	return o.begin(ctx, "connect", "connect", trace.SpanKindClient, trace.WithAttributes(labels{"connect", "", ""}.attributes()...))
}

// ConnectEnd implements [lock.ConnectObserver].
func (o *Observer) ConnectEnd(ctx context.Context, e lock.ConnectEnd) {
	kind := lock.ErrorType(e.Err)
	o.connect.Record(ctx, e.Took.Seconds(), o.of(labels{"connect", "", kind}))
	end(ctx, "connect", kind)
}

// SessionStart implements [lock.SessionObserver].
func (o *Observer) SessionStart(ctx context.Context, _ lock.SessionStart) context.Context { return ctx }

// SessionEnd implements [lock.SessionObserver].
func (o *Observer) SessionEnd(ctx context.Context, e lock.SessionEnd) {
	if e.Err != nil {
		o.losses.Add(ctx, 1, o.of(labels{}))
	}
}

// BatchStart implements [lock.BatchObserver].
func (o *Observer) BatchStart(ctx context.Context, _ lock.BatchStart) context.Context { return ctx }

// BatchEnd implements [lock.BatchObserver].
func (o *Observer) BatchEnd(ctx context.Context, e lock.BatchEnd) {
	if e.Waits { // whose answer comes when the key is free
		return
	}
	l := o.of(labels{"batch", "", lock.ErrorType(e.Err)})
	o.batch.Record(ctx, e.Took.Seconds(), l)
	o.batchSize.Record(ctx, int64(e.Operations), l)
}
