package otelstore

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
)

// ownKey is the context key of the span of an event: a string that names the event. In a
// derived context another span can be the current one, but this key still has the event's.
type ownKey string

const (
	ofOperation ownKey = "operation"
	ofCommit    ownKey = "commit"
	ofHold      ownKey = "hold"
	ofConnect   ownKey = "connect"
)

// begin starts a span, unless it would not be sampled. The span is nil if it is not recorded.
func (o *Observer) begin(ctx context.Context, of ownKey, k kind, spanKind trace.SpanKind) (context.Context, trace.Span) {
	if spanOf(ctx, of) != nil { // of an event around this one
		ctx = context.WithValue(ctx, of, nil)
	}
	if isDropped(ctx) {
		return ctx, nil
	}
	d := o.kinds.of(k)
	begun, span := o.tracer.Start(ctx, d.name, d.begins, trace.WithSpanKind(spanKind))
	if !span.IsRecording() {
		return begun, nil // no span begins below it
	}
	return context.WithValue(begun, of, span), span
}

// isDropped reports whether a span of ctx would have a parent that is not sampled.
func isDropped(ctx context.Context) bool {
	parent := trace.SpanFromContext(ctx)
	c := parent.SpanContext()
	return c.IsValid() && !c.IsSampled() && !parent.IsRecording()
}

// spanOf returns the span that begin has started, or nil.
func spanOf(ctx context.Context, of ownKey) trace.Span {
	span, _ := ctx.Value(of).(trace.Span)
	return span
}

// end ends a span that is not nil.
func end(span trace.Span, errorType string, options ...trace.SpanEndOption) {
	if span == nil {
		return
	}
	if errorType != "" {
		span.SetAttributes(semconv.ErrorTypeKey.String(errorType))
		span.SetStatus(codes.Error, errorType)
	}
	span.End(options...)
}

// batchOf returns the attribute of a batch, which the convention has for two or more.
func batchOf(n int) []attribute.KeyValue {
	if n < 2 {
		return nil
	}
	return []attribute.KeyValue{semconv.DBOperationBatchSize(n)}
}

func (o *Observer) ids(ids []string) []attribute.KeyValue {
	if !o.names {
		return nil
	}
	return []attribute.KeyValue{attribute.StringSlice("lockstore.document.ids", ids)}
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

// OperationStart begins the span of an operation, except for Watch.
func (o *Observer) OperationStart(ctx context.Context, s metadata.OperationStart) context.Context {
	if s.Name == "Watch" { // it lasts as long as the caller's loop
		return ctx
	}
	ctx, span := o.begin(ctx, ofOperation, kind{s.Name, s.Table, ""}, trace.SpanKindClient)
	if span != nil {
		span.SetAttributes(append(batchOf(len(s.IDs)), o.ids(s.IDs)...)...)
	}
	return ctx
}

// OperationEnd ends the span of an operation, and records its duration. It links the span to
// that of the commit, if another operation made it.
func (o *Observer) OperationEnd(ctx context.Context, e metadata.OperationEnd) {
	if e.Name == "Watch" {
		return
	}
	errorType := metadata.ErrorType(e.Err)
	o.operation.Record(ctx, e.Took.Seconds(), o.kinds.of(kind{e.Name, e.Table, errorType}).measured...)
	span := spanOf(ctx, ofOperation)
	if span != nil && e.Commit != nil && spanOf(e.Commit, ofOperation) != span { // it was made by another operation
		if commit := spanOf(e.Commit, ofCommit); commit != nil {
			span.AddLink(trace.Link{SpanContext: commit.SpanContext()})
		}
	}
	end(span, errorType)
}

// CommitStart begins the span of a commit.
func (o *Observer) CommitStart(ctx context.Context, s metadata.CommitStart) context.Context {
	ctx, span := o.begin(ctx, ofCommit, kind{"commit", s.Table, ""}, trace.SpanKindClient)
	if span != nil {
		span.SetAttributes(o.ids(s.IDs)...)
	}
	return ctx
}

// CommitEnd ends the span of a commit, and records its duration and number of writes.
func (o *Observer) CommitEnd(ctx context.Context, e metadata.CommitEnd) {
	errorType := metadata.ErrorType(e.Err)
	measured := o.kinds.of(kind{"commit", e.Table, errorType}).measured
	o.commit.Record(ctx, e.Took.Seconds(), measured...)
	if e.Writes > 0 {
		o.writes.Record(ctx, int64(e.Writes), measured...)
	}
	span := spanOf(ctx, ofCommit)
	if span != nil {
		span.SetAttributes(batchOf(e.Writes)...)
	}
	end(span, errorType)
}

// AcquireStart does nothing: AcquireEnd makes the span.
func (*Observer) AcquireStart(ctx context.Context, _ lock.AcquireStart) context.Context { return ctx }

// AcquireEnd makes the span of a wait for a lock, and records its duration. The span can be made
// at the end, as no other begins below it.
func (o *Observer) AcquireEnd(ctx context.Context, e lock.AcquireEnd) {
	errorType := lock.ErrorType(e.Err)
	o.wait.Record(ctx, e.Waited.Seconds(), o.kinds.of(kind{e.Operation, "", errorType}).measured...)
	if isDropped(ctx) {
		return
	}
	now, d := time.Now(), o.kinds.of(kind{e.Operation, "", ""})
	_, span := o.tracer.Start(ctx, d.name, d.begins, trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(now.Add(-e.Waited)))
	if span.IsRecording() {
		span.SetAttributes(append(batchOf(len(e.Keys)), o.keys(e.Keys)...)...)
		end(span, errorType, trace.WithTimestamp(now))
	}
}

// HoldStart begins the span of a hold.
func (o *Observer) HoldStart(ctx context.Context, s lock.HoldStart) context.Context {
	ctx, span := o.begin(ctx, ofHold, kind{"hold", "", ""}, trace.SpanKindInternal)
	if span != nil {
		span.SetAttributes(append(o.keys(s.Keys), attribute.Bool("lockstore.lock.shared", s.Shared))...)
	}
	return ctx
}

// HoldEnd ends the span of a hold, and records its duration.
func (o *Observer) HoldEnd(ctx context.Context, e lock.HoldEnd) {
	errorType := lock.ErrorType(e.Err)
	o.hold.Record(ctx, e.Held.Seconds(), o.kinds.of(kind{"hold", "", errorType}).measured...)
	end(spanOf(ctx, ofHold), errorType)
}

// ConnectStart begins the span of an attempt to connect.
func (o *Observer) ConnectStart(ctx context.Context, _ lock.ConnectStart) context.Context {
	ctx, _ = o.begin(ctx, ofConnect, kind{"connect", "", ""}, trace.SpanKindClient)
	return ctx
}

// ConnectEnd ends the span of an attempt to connect, and records its duration.
func (o *Observer) ConnectEnd(ctx context.Context, e lock.ConnectEnd) {
	errorType := lock.ErrorType(e.Err)
	o.connect.Record(ctx, e.Took.Seconds(), o.kinds.of(kind{"connect", "", errorType}).measured...)
	end(spanOf(ctx, ofConnect), errorType)
}

// SessionStart does nothing.
func (*Observer) SessionStart(ctx context.Context, _ lock.SessionStart) context.Context { return ctx }

// SessionEnd counts connections that were lost.
func (o *Observer) SessionEnd(ctx context.Context, e lock.SessionEnd) {
	if e.Err != nil {
		o.losses.Add(ctx, 1, metric.WithAttributes(semconv.DBSystemNamePostgreSQL))
	}
}

// BatchStart does nothing.
func (*Observer) BatchStart(ctx context.Context, _ lock.BatchStart) context.Context { return ctx }

// BatchEnd records the duration and size of a round trip, unless it waited for a key.
func (o *Observer) BatchEnd(ctx context.Context, e lock.BatchEnd) {
	if e.Waits { // the answer comes when the key is free
		return
	}
	measured := o.kinds.of(kind{"batch", "", lock.ErrorType(e.Err)}).measured
	o.batch.Record(ctx, e.Took.Seconds(), measured...)
	o.batchSize.Record(ctx, int64(e.Operations), measured...)
}
