// Package promstore provides Prometheus metrics of packages lock and metadata.
//
//	metrics := promstore.New()
//	prometheus.MustRegister(metrics)
//	...
//	locker, err := lock.NewPostgres(ctx, pool, &lock.PostgresOptions{Observers: []lock.Observer{metrics}})
//	...
//	store, err := metadata.NewPostgres(pool, &metadata.Options{Observers: []metadata.Observer{metrics}})
//	...
//	metrics.Locker(locker) // export their Stats
//	metrics.Store(store)
//
// The names of its metrics begin with lockstore_lock_ and lockstore_metadata_. Histograms,
// and the counter of lost connections, come from the calls of observers, the other metrics from
// Stats at the time of a scrape. The labels are operation, a method's name, and error_type, as
// [metadata.ErrorType] returns it, which is empty without an error. None is a key or an id.
//
// dashboard.json is a dashboard for Grafana, and alerts.yaml has alerting rules for Prometheus.
package promstore

import (
	"context"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
)

// A Collector exports metrics as a [prometheus.Collector]. It is also the [lock.Observer] and
// [metadata.Observer] that gets them, for any number of Lockers and stores, whose numbers it
// adds up. It is safe for concurrent use.
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

// New returns a Collector that has recorded nothing.
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

// Locker adds a Locker, such as a [lock.Postgres] or a [lock.Memory], whose Stats are exported.
func (c *Collector) Locker(l interface{ Stats() lock.Stats }) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lockers = append(c.lockers, l)
}

// Store adds a store whose Stats are exported. They include those of all its views.
func (c *Collector) Store(s interface{ Stats() metadata.Stats }) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stores = append(c.stores, s)
}

// A figure is the metric of one field of Stats.
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
	counter("lock_handed_off", "Locks granted without the server, from one holder to the next.", func(s lock.Stats) float64 { return float64(s.HandedOff) }),
	counter("lock_busy", "Calls that ended as others held the key, or their context ended first.", func(s lock.Stats) float64 { return float64(s.Busy) }),
	counter("lock_lost", "Locks lost with their connection.", func(s lock.Stats) float64 { return float64(s.Lost) }),
	counter("lock_evicted", "Locks taken back by Evict.", func(s lock.Stats) float64 { return float64(s.Evicted) }),
	counter("lock_sessions", "Connections opened for locks.", func(s lock.Stats) float64 { return float64(s.Sessions) }),
}

var ofStores = []figure[metadata.Stats]{
	counter("metadata_writes", "Writes that succeeded.", func(s metadata.Stats) float64 { return float64(s.Writes) }),
	counter("metadata_write_bytes", "Bytes of patches and documents that were written.", func(s metadata.Stats) float64 { return float64(s.Bytes) }),
	counter("metadata_failures", "Writes that failed.", func(s metadata.Stats) float64 { return float64(s.Failures) }),
	counter("metadata_busy", "Writes that gave up waiting for the lock.", func(s metadata.Stats) float64 { return float64(s.Busy) }),
	counter("metadata_conflicts", "Writes for another version.", func(s metadata.Stats) float64 { return float64(s.Conflicts) }),
	counter("metadata_rejected", "Writes that the database refused.", func(s metadata.Stats) float64 { return float64(s.Rejected) }),
	counter("metadata_unknown", "Writes with an unknown outcome.", func(s metadata.Stats) float64 { return float64(s.Unknown) }),
	counter("metadata_commits", "Transactions that decided on writes.", func(s metadata.Stats) float64 { return float64(s.Commits) }),
	counter("metadata_waits", "Attempts that failed for the time being, mostly because a lock or row was taken.", func(s metadata.Stats) float64 { return float64(s.Waits) }),
}

// collect exports figures, each the sum of all Lockers or stores.
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

// Describe sends the descriptions of all metrics.
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

// Collect sends the current values of all metrics.
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

// OperationStart does nothing.
func (*Collector) OperationStart(ctx context.Context, _ metadata.OperationStart) context.Context {
	return ctx
}

// OperationEnd records the duration of an operation, except Watch.
func (c *Collector) OperationEnd(_ context.Context, e metadata.OperationEnd) {
	if e.Name != "Watch" { // it lasts as long as the caller's loop
		c.operation.WithLabelValues(e.Name, metadata.ErrorType(e.Err)).Observe(e.Took.Seconds())
	}
}

// CommitStart does nothing.
func (*Collector) CommitStart(ctx context.Context, _ metadata.CommitStart) context.Context {
	return ctx
}

// CommitEnd records the duration of a commit, and its number of writes.
func (c *Collector) CommitEnd(_ context.Context, e metadata.CommitEnd) {
	c.commit.WithLabelValues(metadata.ErrorType(e.Err)).Observe(e.Took.Seconds())
	if e.Writes > 0 {
		c.writes.Observe(float64(e.Writes))
	}
}

// AcquireStart does nothing.
func (*Collector) AcquireStart(ctx context.Context, _ lock.AcquireStart) context.Context { return ctx }

// AcquireEnd records the duration of a wait for a lock.
func (c *Collector) AcquireEnd(_ context.Context, e lock.AcquireEnd) {
	c.wait.WithLabelValues(e.Operation, lock.ErrorType(e.Err)).Observe(e.Waited.Seconds())
}

// HoldStart does nothing.
func (*Collector) HoldStart(ctx context.Context, _ lock.HoldStart) context.Context { return ctx }

// HoldEnd records the duration of a hold.
func (c *Collector) HoldEnd(_ context.Context, e lock.HoldEnd) {
	c.hold.WithLabelValues(lock.ErrorType(e.Err)).Observe(e.Held.Seconds())
}

// ConnectStart does nothing.
func (*Collector) ConnectStart(ctx context.Context, _ lock.ConnectStart) context.Context { return ctx }

// ConnectEnd records the duration of an attempt to connect.
func (c *Collector) ConnectEnd(_ context.Context, e lock.ConnectEnd) {
	c.connect.WithLabelValues(lock.ErrorType(e.Err)).Observe(e.Took.Seconds())
}

// SessionStart does nothing.
func (*Collector) SessionStart(ctx context.Context, _ lock.SessionStart) context.Context { return ctx }

// SessionEnd counts connections that were lost.
func (c *Collector) SessionEnd(_ context.Context, e lock.SessionEnd) {
	if e.Err != nil {
		c.losses.Inc()
	}
}

// BatchStart does nothing.
func (*Collector) BatchStart(ctx context.Context, _ lock.BatchStart) context.Context { return ctx }

// BatchEnd records the duration and size of a round trip, unless it waited for a key.
func (c *Collector) BatchEnd(_ context.Context, e lock.BatchEnd) {
	if !e.Waits { // else the answer comes when the key is free
		c.batch.WithLabelValues(lock.ErrorType(e.Err)).Observe(e.Took.Seconds())
		c.batchSize.Observe(float64(e.Operations))
	}
}
