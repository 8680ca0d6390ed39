// Package otelstore records OpenTelemetry traces and metrics of packages lock and metadata, by
// the semantic conventions for databases.
//
//	telemetry, err := otelstore.New(nil)
//	...
//	locker, err := lock.NewPostgres(ctx, pool, &lock.PostgresOptions{Observers: []lock.Observer{telemetry}})
//	...
//	store, err := metadata.NewPostgres(pool, &metadata.Options{Observers: []metadata.Observer{telemetry}})
//	...
//	telemetry.Gauge(locker) // counts of holders and waiters
//
// # Spans
//
//   - "Merge users", and likewise for other operations: an operation on a table, as its caller
//     sees it. Its db.operation.batch.size is the number of documents. Watch has no span.
//   - "commit users": a transaction with writes; db.operation.batch.size is their number. It is
//     a child of the operation that made it. The other operations whose writes it carried are
//     linked to it. An attempt that found the document's lock taken has an error.type of busy.
//   - "Lock", and likewise for other calls: from the call to the grant.
//   - "hold": from the grant to the release. Its children are the spans of work with
//     [lock.Held.Context].
//   - "connect": an attempt to open a connection for locks.
//
// No span begins below one that is not sampled. Failures have an error.type, as
// [metadata.ErrorType] returns it, and a status. Spans carry no error texts, and no ids or keys
// unless Options.Names is set. Nothing carries any content of a document.
//
// # Metrics
//
//	db.client.operation.duration    operations on documents, except Watch
//	lockstore.commit.duration       transactions with writes
//	lockstore.commit.writes         writes that shared one
//	lockstore.lock.wait.duration    from the call to the grant, or to the error
//	lockstore.lock.hold.duration    from the grant to the release, or to the loss
//	lockstore.lock.batch.duration   round trips of connections for locks
//	lockstore.lock.batch.size       operations that these carried
//	lockstore.lock.connect.duration attempts to open a connection for locks
//	lockstore.lock.session.losses   connections for locks that were lost
//	lockstore.lock.holders, .waiters, .keys, .connections   of the Lockers given to Gauge
//
// Their attributes are db.system.name, db.operation.name, db.collection.name and error.type, with
// few values each: never a key or an id.
package otelstore

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
)

const scope = "example.com/lockstore/metadata/otelstore"

// Options configure an [Observer]. The zero value, and nil, mean the defaults.
type Options struct {
	// TracerProvider and MeterProvider receive the traces and metrics. nil: OpenTelemetry's
	// global ones.
	TracerProvider trace.TracerProvider
	MeterProvider  metric.MeterProvider

	// Names adds the keys of locks (lockstore.lock.keys) and the ids of documents
	// (lockstore.document.ids) to spans. Metrics never have them.
	Names bool
}

// An Observer records traces and metrics as a [lock.Observer] and a [metadata.Observer], for any
// number of Lockers and stores. It is safe for concurrent use.
type Observer struct {
	tracer trace.Tracer
	meter  metric.Meter
	names  bool

	operation, commit, wait, hold, batch, connect metric.Float64Histogram
	writes, batchSize                             metric.Int64Histogram
	losses                                        metric.Int64Counter

	kinds kinds
}

var (
	_ metadata.OperationObserver = (*Observer)(nil)
	_ metadata.CommitObserver    = (*Observer)(nil)
	_ lock.AcquireObserver       = (*Observer)(nil)
	_ lock.HoldObserver          = (*Observer)(nil)
	_ lock.ConnectObserver       = (*Observer)(nil)
	_ lock.SessionObserver       = (*Observer)(nil)
	_ lock.BatchObserver         = (*Observer)(nil)
)

// New returns an Observer. nil options mean the defaults. The error is that of the meter.
func New(opts *Options) (*Observer, error) {
	var options Options
	if opts != nil {
		options = *opts
	}
	if options.TracerProvider == nil {
		options.TracerProvider = otel.GetTracerProvider()
	}
	if options.MeterProvider == nil {
		options.MeterProvider = otel.GetMeterProvider()
	}
	o := &Observer{
		tracer: options.TracerProvider.Tracer(scope, trace.WithSchemaURL(semconv.SchemaURL)),
		meter:  options.MeterProvider.Meter(scope, metric.WithSchemaURL(semconv.SchemaURL)),
		names:  options.Names,
	}
	var failed error
	seconds := func(name, description string, finer ...float64) metric.Float64Histogram {
		bounds := append(finer, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10) // by the convention
		h, err := o.meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(description), metric.WithExplicitBucketBoundaries(bounds...))
		failed = errors.Join(failed, err)
		return h
	}
	sizes := func(name, unit, description string) metric.Int64Histogram {
		h, err := o.meter.Int64Histogram(name, metric.WithUnit(unit), metric.WithDescription(description), metric.WithExplicitBucketBoundaries(
			1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024))
		failed = errors.Join(failed, err)
		return h
	}
	o.operation = seconds("db.client.operation.duration", "Duration of database client operations.")
	o.commit = seconds("lockstore.commit.duration", "Duration of transactions with writes of documents.")
	o.writes = sizes("lockstore.commit.writes", "{write}", "Writes that shared a transaction.")
	o.wait = seconds("lockstore.lock.wait.duration", "Time from asking for a lock to having it, or to the error.", 0.0001, 0.0005)
	o.hold = seconds("lockstore.lock.hold.duration", "Time that a lock was held.", 0.0001, 0.0005)
	o.batch = seconds("lockstore.lock.batch.duration", "Duration of round trips of connections for locks.", 0.0001, 0.0005)
	o.batchSize = sizes("lockstore.lock.batch.size", "{operation}", "Operations that shared a round trip.")
	o.connect = seconds("lockstore.lock.connect.duration", "Duration of attempts to open a connection for locks.")
	var err error
	o.losses, err = o.meter.Int64Counter("lockstore.lock.session.losses", metric.WithUnit("{connection}"), metric.WithDescription("Connections for locks that were lost."))
	return o, errors.Join(failed, err)
}

// Gauge makes the meter show the current numbers of Lockers, such as a [lock.Postgres] or a
// [lock.Memory], each time that it is read: keys, holders, waiters and connections, as sums of
// all Lockers. The error is that of the meter.
func (o *Observer) Gauge(lockers ...interface{ Stats() lock.Stats }) (metric.Registration, error) {
	var failed error
	gauge := func(name, unit, description string) metric.Int64ObservableUpDownCounter {
		g, err := o.meter.Int64ObservableUpDownCounter(name, metric.WithUnit(unit), metric.WithDescription(description))
		failed = errors.Join(failed, err)
		return g
	}
	keys := gauge("lockstore.lock.keys", "{key}", "Keys that are held or wanted.")
	holders := gauge("lockstore.lock.holders", "{holder}", "Locks that are held.")
	waiters := gauge("lockstore.lock.waiters", "{waiter}", "Calls that wait for a lock.")
	connections := gauge("lockstore.lock.connections", "{connection}", "Connections for locks.")
	if failed != nil {
		return nil, failed
	}
	system := metric.WithAttributes(semconv.DBSystemNamePostgreSQL)
	return o.meter.RegisterCallback(func(_ context.Context, out metric.Observer) error {
		var sum lock.Stats
		for _, l := range lockers {
			s := l.Stats()
			sum.Keys, sum.Holders = sum.Keys+s.Keys, sum.Holders+s.Holders
			sum.Waiters, sum.Connections = sum.Waiters+s.Waiters, sum.Connections+s.Connections
		}
		out.ObserveInt64(keys, int64(sum.Keys), system)
		out.ObserveInt64(holders, int64(sum.Holders), system)
		out.ObserveInt64(waiters, int64(sum.Waiters), system)
		out.ObserveInt64(connections, int64(sum.Connections), system)
		return nil
	}, keys, holders, waiters, connections)
}
