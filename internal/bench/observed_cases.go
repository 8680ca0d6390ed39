package main

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"example.com/lockstore/metadata"
	"example.com/lockstore/metadata/otelstore"
	"example.com/lockstore/metadata/promstore"
)

// observedCases ask what it costs to be observed: where nobody listens there is next to
// nothing to pay, which only an older build can show.
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

// An observing is a way to be observed.
type observing struct {
	name string
	how  string
	by   func() (any, error) // an observer of both packages
}

var withPrometheus = observing{"with Prometheus", "promstore", func() (any, error) { return promstore.New(), nil }}

var withTraces = observing{"with OpenTelemetry's traces, sampling off", "otelstore, no meter", func() (any, error) {
	return otelstore.New(&otelstore.Options{TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))})
}}

var withOpenTelemetry = observing{"with OpenTelemetry, sampling off", "otelstore, with metrics", func() (any, error) {
	return otelstore.New(&otelstore.Options{
		TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample())),
		MeterProvider:  sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader())),
	})
}}

func (o observing) merges() mergeKind {
	kind := storePgx
	kind.name, kind.how = o.name, o.how
	kind.open = func(ctx context.Context, in *arena, conns int) (merger, error) {
		return openObserved(ctx, in, conns, o, func(pool *pgxpool.Pool, observer any) (merger, error) {
			p, err := metadata.NewPostgres(pool, &metadata.Options{Observers: []metadata.Observer{observer}})
			return &store{p, func() error { pool.Close(); return nil }}, err
		})
	}
	return kind
}

func (o observing) locks() lockKind {
	kind := lockstorePgx
	kind.name, kind.how = o.name, o.how
	kind.open = func(ctx context.Context, in *arena, s lockSetup) (locker, error) {
		return openObserved(ctx, in, 2, o, func(pool *pgxpool.Pool, observer any) (locker, error) {
			return openLockstore(ctx, pool, s, func() error { pool.Close(); return nil }, observer)
		})
	}
	return kind
}

// openObserved opens a subject that is observed, on a pool of its own.
func openObserved[S any](ctx context.Context, in *arena, conns int, o observing, open func(*pgxpool.Pool, any) (S, error)) (s S, err error) {
	observer, err := o.by()
	if err != nil {
		return s, err
	}
	pool, err := in.pool(ctx, conns)
	if err != nil {
		return s, err
	}
	if s, err = open(pool, observer); err != nil {
		pool.Close()
	}
	return s, err
}
