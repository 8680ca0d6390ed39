package main

import (
	"context"
	"encoding/json"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"example.com/lockstore/metadata"
	"example.com/lockstore/metadata/otelstore"
	"example.com/lockstore/metadata/promstore"
)

// observedCases measure the cost of observers. (Without observers the cost is almost nothing,
// which only a comparison with an older build can show.)
func observedCases() []testCase {
	load := mergeLoad{Writers: 64, Documents: 1, Bytes: 1500, Conns: mergeConns}
	merges := testCase{
		name:  "observed/merge",
		asks:  "64 writers merge into one document of 1.5 KB: what do metrics and traces cost?",
		floor: storePgx.name, by: byRate, fine: true,
		subjects: mergeSubjects(load, storePgx),
	}
	locks := testCase{
		name:  "observed/lock",
		asks:  "64 goroutines each take and give back a key of their own: what do metrics and traces cost?",
		floor: lockstorePgx.name, by: byRate, fine: true,
		subjects: lockSubjects(lockLoad{Callers: 64, Keys: 64}.run, lockstorePgx),
	}
	for _, o := range []observing{withPrometheus, withTraces, withOpenTelemetry} {
		merges.subjects = append(merges.subjects, mergeSubjects(load, o.merges())...)
		locks.subjects = append(locks.subjects, lockSubjects(lockLoad{Callers: 64, Keys: 64}.run, o.locks())...)
	}
	return []testCase{merges, locks}
}

// An observing is a way to observe.
type observing struct {
	name string
	how  string
	by   func() (observer any, caller trace.Span, err error) // observer for both packages; the callers' span, if any
}

var (
	withPrometheus = observing{"with Prometheus", "promstore", func() (any, trace.Span, error) { return promstore.New(), nil, nil }}

	withTraces = observing{"with OpenTelemetry, sampling off", "otelstore, below callers' spans", func() (any, trace.Span, error) {
		return openTelemetry(noop.NewMeterProvider())
	}}
	withOpenTelemetry = observing{"with OpenTelemetry, sampling off, and metrics", "the same", func() (any, trace.Span, error) {
		return openTelemetry(sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader())))
	}}
)

func openTelemetry(metrics metric.MeterProvider) (any, trace.Span, error) {
	traces := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))
	_, caller := traces.Tracer("host").Start(context.Background(), "request")
	o, err := otelstore.New(&otelstore.Options{TracerProvider: traces, MeterProvider: metrics})
	return o, caller, err
}

func (o observing) merges() mergeKind {
	kind := storePgx
	kind.name, kind.how = o.name, o.how
	kind.open = func(ctx context.Context, in *arena, conns int) (merger, error) {
		observer, caller, err := o.by()
		if err != nil {
			return nil, err
		}
		s, err := openStore(ctx, in, conns, &metadata.Options{Observers: []metadata.Observer{observer}})
		return &calledStore{s, caller}, err
	}
	return kind
}

func (o observing) locks() lockKind {
	kind := lockstorePgx
	kind.name, kind.how = o.name, o.how
	kind.open = func(ctx context.Context, in *arena, s lockSetup) (locker, error) {
		observer, caller, err := o.by()
		if err != nil {
			return nil, err
		}
		l, err := openLockstore(ctx, in, s.Keys, observer)
		return &calledLocks{l, caller}, err
	}
	return kind
}

// calledStore is a store whose callers have a span.
type calledStore struct {
	merger
	caller trace.Span
}

func (s *calledStore) merge(ctx context.Context, id string, patch json.RawMessage) error {
	return s.merger.merge(trace.ContextWithSpan(ctx, s.caller), id, patch)
}

// calledLocks is a locker whose callers have a span.
type calledLocks struct {
	locker
	caller trace.Span
}

func (l *calledLocks) lock(ctx context.Context, key int) (func() error, error) {
	return l.locker.lock(trace.ContextWithSpan(ctx, l.caller), key)
}
