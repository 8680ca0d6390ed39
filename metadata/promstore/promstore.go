// Package promstore has Prometheus see what packages lock and metadata do.
//
//	metrics := promstore.New()
//	prometheus.MustRegister(metrics)
//	...
//	locker, err := lock.NewPostgres(ctx, pool, &lock.PostgresOptions{Observers: []lock.Observer{metrics}})
//	...
//	store, err := metadata.NewPostgres(pool, &metadata.Options{Observers: []metadata.Observer{metrics}})
//	...
//	metrics.Locker(locker) // whose Stats it shows
//	metrics.Store(store)
//
// Its metrics begin with lockstore_lock_ and lockstore_metadata_. Histograms are made of what
// a Locker and a store tell their observers, and the rest of their Stats when they are asked
// for. Labels are operation, which is a method's name, and error_type, which is that of
// [metadata.ErrorType] and empty without an error: never a key or an id.
//
// dashboard.json is a dashboard for Grafana, and alerts.yaml has rules for Prometheus to
// alert by.
package promstore

import (
	"context"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
)

// A Collector is a [prometheus.Collector], a [lock.Observer] and a [metadata.Observer], for
// any number of Lockers and stores, whose figures it adds up. It is safe for concurrent use.
type Collector struct {
	mu      sync.Mutex
	lockers []interface{ Stats() lock.Stats }
	stores  []interface{ Stats() metadata.Stats }

	operation, commit, wait, hold, batch, connect *prometheus.HistogramVec
	writes, batchSize                             prometheus.Histogram
	losses                                        prometheus.Counter
}

var (
	_ prometheus.Collector       = (*Collector)(nil)
	_ metadata.OperationObserver = (*Collector)(nil)
	_ metadata.CommitObserver    = (*Collector)(nil)
	_ lock.AcquireObserver       = (*Collector)(nil)
	_ lock.HoldObserver          = (*Collector)(nil)
	_ lock.ConnectObserver       = (*Collector)(nil)
	_ lock.SessionObserver       = (*Collector)(nil)
	_ lock.BatchObserver         = (*Collector)(nil)
)

// New returns a Collector that has seen nothing.
func New() *Collector {
	seconds := func(name, help string, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "lockstore_" + name + "_seconds", Help: help, Buckets: []float64{0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10},
		}, labels)
	}
	sizes := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: "lockstore_" + name, Help: help, Buckets: prometheus.ExponentialBuckets(1, 2, 11)})
	}
	return &Collector{
		operation: seconds("metadata_operation", "How long operations on documents took, but for Watch.", "operation", "error_type"),
		commit:    seconds("metadata_commit", "How long transactions with writes took, and attempts at them.", "error_type"),
		writes:    sizes("metadata_commit_writes", "Writes that shared a transaction."),
		wait:      seconds("lock_wait", "Time from asking for a lock to having it, or to the error.", "operation", "error_type"),
		hold:      seconds("lock_hold", "Time that locks were held.", "error_type"),
		batch:     seconds("lock_batch", "How long round trips of connections for locks took.", "error_type"),
		batchSize: sizes("lock_batch_operations", "Operations that shared a round trip."),
		connect:   seconds("lock_connect", "How long attempts to open a connection for locks took.", "error_type"),
		losses:    prometheus.NewCounter(prometheus.CounterOpts{Name: "lockstore_lock_session_losses_total", Help: "Connections for locks that were lost."}),
	}
}

// Locker has the Stats of a Locker shown: of a [lock.Postgres] or a [lock.Memory], say.
func (c *Collector) Locker(l interface{ Stats() lock.Stats }) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lockers = append(c.lockers, l)
}

// Store has the Stats of a store shown, which are those of all its views.
func (c *Collector) Store(s interface{ Stats() metadata.Stats }) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stores = append(c.stores, s)
}

// A figure is one of Stats.
type figure[S any] struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(S) float64
}

func gauge[S any](name, help string, of func(S) float64) figure[S] {
	return figure[S]{prometheus.NewDesc("lockstore_"+name, help, nil, nil), prometheus.GaugeValue, of}
}

func counter[S any](name, help string, of func(S) float64) figure[S] {
	return figure[S]{prometheus.NewDesc("lockstore_"+name+"_total", help, nil, nil), prometheus.CounterValue, of}
}

var ofLocks = []figure[lock.Stats]{
	gauge("lock_keys", "Keys that are held or wanted.", func(s lock.Stats) float64 { return float64(s.Keys) }),
	gauge("lock_holders", "Locks that are held.", func(s lock.Stats) float64 { return float64(s.Holders) }),
	gauge("lock_waiters", "Calls that wait for a lock.", func(s lock.Stats) float64 { return float64(s.Waiters) }),
	gauge("lock_connections", "Connections for locks.", func(s lock.Stats) float64 { return float64(s.Connections) }),
	counter("lock_acquired", "Locks granted.", func(s lock.Stats) float64 { return float64(s.Acquired) }),
	counter("lock_handed_on", "Locks granted without the server, from one holder to the next.", func(s lock.Stats) float64 { return float64(s.HandedOn) }),
	counter("lock_busy", "Calls that ended as others held the key.", func(s lock.Stats) float64 { return float64(s.Busy) }),
	counter("lock_lost", "Locks lost with their connection.", func(s lock.Stats) float64 { return float64(s.Lost) }),
	counter("lock_evicted", "Locks taken back by Evict.", func(s lock.Stats) float64 { return float64(s.Evicted) }),
	counter("lock_sessions", "Connections opened for locks.", func(s lock.Stats) float64 { return float64(s.Sessions) }),
}

var ofStores = []figure[metadata.Stats]{
	counter("metadata_writes", "Writes that succeeded.", func(s metadata.Stats) float64 { return float64(s.Writes) }),
	counter("metadata_write_bytes", "Bytes of patches and documents that were written.", func(s metadata.Stats) float64 { return float64(s.Bytes) }),
	counter("metadata_failures", "Writes that failed.", func(s metadata.Stats) float64 { return float64(s.Failures) }),
	counter("metadata_busy", "Writes that found the lock taken to the end.", func(s metadata.Stats) float64 { return float64(s.Busy) }),
	counter("metadata_conflicts", "Writes for another version.", func(s metadata.Stats) float64 { return float64(s.Conflicts) }),
	counter("metadata_rejected", "Writes that the database refused.", func(s metadata.Stats) float64 { return float64(s.Rejected) }),
	counter("metadata_unknown", "Writes with an unknown outcome.", func(s metadata.Stats) float64 { return float64(s.Unknown) }),
	counter("metadata_commits", "Transactions that decided on writes.", func(s metadata.Stats) float64 { return float64(s.Commits) }),
	counter("metadata_waits", "Attempts that found a lock taken, and were made again.", func(s metadata.Stats) float64 { return float64(s.Waits) }),
}

// collect shows figures, added up.
func collect[S any](out chan<- prometheus.Metric, figures []figure[S], of []interface{ Stats() S }) {
	sums := make([]float64, len(figures))
	for _, each := range of {
		stats := each.Stats()
		for i, f := range figures {
			sums[i] += f.of(stats)
		}
	}
	for i, f := range figures {
		out <- prometheus.MustNewConstMetric(f.desc, f.kind, sums[i])
	}
}

func (c *Collector) observed() []prometheus.Collector {
	return []prometheus.Collector{c.operation, c.commit, c.writes, c.wait, c.hold, c.batch, c.batchSize, c.connect, c.losses}
}

// Describe implements [prometheus.Collector].
func (c *Collector) Describe(out chan<- *prometheus.Desc) {
	for _, f := range ofLocks {
		out <- f.desc
	}
	for _, f := range ofStores {
		out <- f.desc
	}
	for _, o := range c.observed() {
		o.Describe(out)
	}
}

// Collect implements [prometheus.Collector].
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	c.mu.Lock()
	lockers, stores := slices.Clone(c.lockers), slices.Clone(c.stores)
	c.mu.Unlock()
	collect(out, ofLocks, lockers)
	collect(out, ofStores, stores)
	for _, o := range c.observed() {
		o.Collect(out)
	}
}

// OperationStart implements [metadata.OperationObserver].
func (*Collector) OperationStart(ctx context.Context, _ metadata.OperationStart) context.Context {
	return ctx
}

// OperationEnd implements [metadata.OperationObserver].
func (c *Collector) OperationEnd(_ context.Context, e metadata.OperationEnd) {
	if e.Name != "Watch" { // which lasts as long as its caller likes
		c.operation.WithLabelValues(e.Name, metadata.ErrorType(e.Err)).Observe(e.Took.Seconds())
	}
}

// CommitStart implements [metadata.CommitObserver].
func (*Collector) CommitStart(ctx context.Context, _ metadata.CommitStart) context.Context {
	return ctx
}

// CommitEnd implements [metadata.CommitObserver].
func (c *Collector) CommitEnd(_ context.Context, e metadata.CommitEnd) {
	c.commit.WithLabelValues(metadata.ErrorType(e.Err)).Observe(e.Took.Seconds())
	if e.Writes > 0 {
		c.writes.Observe(float64(e.Writes))
	}
}

// AcquireStart implements [lock.AcquireObserver].
func (*Collector) AcquireStart(ctx context.Context, _ lock.AcquireStart) context.Context { return ctx }

// AcquireEnd implements [lock.AcquireObserver].
func (c *Collector) AcquireEnd(_ context.Context, e lock.AcquireEnd) {
	c.wait.WithLabelValues(e.Operation, lock.ErrorType(e.Err)).Observe(e.Waited.Seconds())
}

// HoldStart implements [lock.HoldObserver].
func (*Collector) HoldStart(ctx context.Context, _ lock.HoldStart) context.Context { return ctx }

// HoldEnd implements [lock.HoldObserver].
func (c *Collector) HoldEnd(_ context.Context, e lock.HoldEnd) {
	c.hold.WithLabelValues(lock.ErrorType(e.Err)).Observe(e.Held.Seconds())
}

// ConnectStart implements [lock.ConnectObserver].
func (*Collector) ConnectStart(ctx context.Context, _ lock.ConnectStart) context.Context { return ctx }

// ConnectEnd implements [lock.ConnectObserver].
func (c *Collector) ConnectEnd(_ context.Context, e lock.ConnectEnd) {
	c.connect.WithLabelValues(lock.ErrorType(e.Err)).Observe(e.Took.Seconds())
}

// SessionStart implements [lock.SessionObserver].
func (*Collector) SessionStart(ctx context.Context, _ lock.SessionStart) context.Context { return ctx }

// SessionEnd implements [lock.SessionObserver].
func (c *Collector) SessionEnd(_ context.Context, e lock.SessionEnd) {
	if e.Err != nil {
		c.losses.Inc()
	}
}

// BatchStart implements [lock.BatchObserver].
func (*Collector) BatchStart(ctx context.Context, _ lock.BatchStart) context.Context { return ctx }

// BatchEnd implements [lock.BatchObserver].
func (c *Collector) BatchEnd(_ context.Context, e lock.BatchEnd) {
	if !e.Waits { // else the answer comes when the key is free
		c.batch.WithLabelValues(lock.ErrorType(e.Err)).Observe(e.Took.Seconds())
		c.batchSize.Observe(float64(e.Operations))
	}
}
