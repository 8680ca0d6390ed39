package otelstore_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
	"example.com/lockstore/metadata/otelstore"
	"example.com/lockstore/pgtest"
)

const canary = "canary-of-a-value"

// A world is a Locker and a store that are observed.
type world struct {
	*testing.T
	db     *pgtest.DB
	spans  *tracetest.SpanRecorder
	meter  *sdkmetric.ManualReader
	tracer trace.Tracer // the host's
	locker *lock.Postgres
	store  *metadata.Postgres
}

func newWorld(t *testing.T, names bool, sampler sdktrace.Sampler) *world {
	w := &world{T: t, db: pgtest.New(t), spans: tracetest.NewSpanRecorder(), meter: sdkmetric.NewManualReader()}
	traces := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(w.spans), sdktrace.WithSampler(sampler))
	w.tracer = traces.Tracer("host")
	telemetry, err := otelstore.New(&otelstore.Options{
		TracerProvider: traces, MeterProvider: sdkmetric.NewMeterProvider(sdkmetric.WithReader(w.meter)), Names: names,
	})
	require.NoError(t, err)
	w.locker, err = lock.NewPostgres(t.Context(), w.db.Pool(), &lock.PostgresOptions{Observers: []lock.Observer{telemetry}})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, w.locker.Close(context.Background())) })
	w.store, err = metadata.NewPostgres(w.db.Pool(), &metadata.Options{Observers: []metadata.Observer{telemetry}})
	require.NoError(t, err)
	t.Cleanup(w.store.Close)
	require.NoError(t, w.store.Migrate(t.Context()))
	_, err = telemetry.Gauge(w.locker)
	require.NoError(t, err)
	return w
}

func (w *world) merge(ctx context.Context, id, key string) {
	_, err := w.store.Merge(ctx, id, json.RawMessage(fmt.Sprintf(`{%q:%q}`, key, canary)))
	assert.NoError(w, err)
}

// named are the spans of a name that have ended.
func (w *world) named(name string) (all []sdktrace.ReadOnlySpan) {
	for _, s := range w.spans.Ended() {
		if s.Name() == name {
			all = append(all, s)
		}
	}
	return all
}

// one is the span of a name, of which there is one.
func (w *world) one(name string) sdktrace.ReadOnlySpan {
	w.Helper()
	all := w.named(name)
	require.Len(w, all, 1, "%s", name)
	return all[0]
}

func attributesOf(s sdktrace.ReadOnlySpan) map[string]string {
	all := map[string]string{}
	for _, a := range s.Attributes() {
		all[string(a.Key)] = a.Value.String()
	}
	return all
}

// Spans are those of the conventions for databases: names, kinds and attributes.
func TestSpansAreByTheConventions(t *testing.T) {
	w := newWorld(t, false, sdktrace.AlwaysSample())
	ctx, request := w.tracer.Start(t.Context(), "request")
	w.merge(ctx, "ann", "a")
	_, err := w.store.MergeMany(ctx, []metadata.Patch{{ID: "bob", Patch: []byte(`{"n":1}`)}, {ID: "cal", Patch: []byte(`{"n":1}`)}})
	require.NoError(t, err)
	_, err = w.store.Replace(ctx, "ann", json.RawMessage(`{"`+canary))
	require.ErrorIs(t, err, metadata.ErrMalformed)
	held, err := w.locker.Lock(ctx, lock.Name("key"))
	require.NoError(t, err)
	_, err = w.store.Get(held.Context(), "ann")
	require.NoError(t, err)
	_, err = w.locker.TryLock(ctx, lock.Name("key"))
	require.ErrorIs(t, err, lock.ErrBusy)
	require.NoError(t, held.Unlock())
	request.End()

	const table = metadata.DefaultTable
	for name, want := range map[string]struct {
		kind       trace.SpanKind
		parent     string
		attributes map[string]string
	}{
		"Merge " + table:     {trace.SpanKindClient, "request", map[string]string{"db.operation.name": "Merge", "db.collection.name": table}},
		"MergeMany " + table: {trace.SpanKindClient, "request", map[string]string{"db.operation.name": "MergeMany", "db.collection.name": table, "db.operation.batch.size": "2"}},
		"Replace " + table:   {trace.SpanKindClient, "request", map[string]string{"db.operation.name": "Replace", "db.collection.name": table, "error.type": "invalid"}},
		"Get " + table:       {trace.SpanKindClient, "hold", map[string]string{"db.operation.name": "Get", "db.collection.name": table}},
		"Lock":               {trace.SpanKindClient, "request", map[string]string{"db.operation.name": "Lock"}},
		"TryLock":            {trace.SpanKindClient, "request", map[string]string{"db.operation.name": "TryLock", "error.type": "busy"}},
		"connect":            {trace.SpanKindClient, "", map[string]string{"db.operation.name": "connect"}},
		"hold":               {trace.SpanKindInternal, "request", nil},
	} {
		s := w.one(name)
		assert.Equal(t, want.kind, s.SpanKind(), "%s", name)
		if want.parent != "" {
			assert.Equal(t, w.one(want.parent).SpanContext().SpanID(), s.Parent().SpanID(), "%s is a child of %s", name, want.parent)
		}
		got := attributesOf(s)
		if want.kind == trace.SpanKindClient {
			want.attributes["db.system.name"] = "postgresql"
		} else {
			want.attributes = map[string]string{"db.system.name": "postgresql", "db.operation.name": "hold", "lockstore.lock.shared": "false"}
		}
		assert.Equal(t, want.attributes, got, "%s", name)
		if got["error.type"] != "" {
			assert.Equal(t, sdktrace.Status{Code: codes.Error, Description: got["error.type"]}, s.Status(), "%s", name)
		}
		assert.False(t, s.EndTime().Before(s.StartTime()))
	}
	merge := w.one("Merge " + table)
	commits := 0
	for _, c := range w.named("commit " + table) {
		if c.Parent().SpanID() == merge.SpanContext().SpanID() {
			commits++
		}
	}
	assert.Positive(t, commits, "a commit is a child of the operation that made it")
	assert.Empty(t, merge.Links(), "which is not linked to it besides")
	for _, s := range w.spans.Ended() {
		for _, secret := range []string{canary, "ann", "key"} {
			assert.NotContains(t, fmt.Sprint(s.Name(), s.Attributes(), s.Events(), s.Status()), secret)
		}
	}
}

// Keys and ids are told where that is asked for.
func TestNamesAreOptional(t *testing.T) {
	w := newWorld(t, true, sdktrace.AlwaysSample())
	w.merge(t.Context(), "ann", "a")
	held, err := w.locker.Lock(t.Context(), lock.Name("key"))
	require.NoError(t, err)
	require.NoError(t, held.Unlock())
	for name, want := range map[string][2]string{
		"Merge " + metadata.DefaultTable:  {"lockstore.document.ids", `["ann"]`},
		"commit " + metadata.DefaultTable: {"lockstore.document.ids", `["ann"]`},
		"Lock":                            {"lockstore.lock.keys", `["key"]`},
		"hold":                            {"lockstore.lock.keys", `["key"]`},
	} {
		assert.Equal(t, want[1], attributesOf(w.one(name))[want[0]], "%s", name)
	}
}

// An operation whose write was carried by the commit of another one is linked to that.
func TestWaitersAreLinkedToTheirCommit(t *testing.T) {
	w := newWorld(t, false, sdktrace.AlwaysSample())
	for w.store.Stats().Largest < 2 { // until writes have shared a commit
		var writers sync.WaitGroup
		for i := range 16 {
			writers.Go(func() { w.merge(t.Context(), "hot", fmt.Sprint(i, "-", time.Now().UnixNano())) })
		}
		writers.Wait()
	}
	commits := map[trace.SpanID]sdktrace.ReadOnlySpan{}
	for _, c := range w.named("commit " + metadata.DefaultTable) {
		commits[c.SpanContext().SpanID()] = c
	}
	carried := map[trace.SpanID]int{}
	for _, s := range w.named("Merge " + metadata.DefaultTable) {
		for _, l := range s.Links() {
			if assert.Contains(t, commits, l.SpanContext.SpanID(), "it is linked to a commit") {
				carried[l.SpanContext.SpanID()]++
				assert.NotEqual(t, s.SpanContext().TraceID(), l.SpanContext.TraceID(), "of another trace")
			}
		}
	}
	require.NotEmpty(t, carried)
	for id, n := range carried {
		assert.Equal(t, fmt.Sprint(n+1), attributesOf(commits[id])["db.operation.batch.size"], "those that are linked, and the one that made it")
	}
}

// Below a span that is not sampled there are none, and metrics all the same.
func TestNothingIsTracedBelowWhatIsNotSampled(t *testing.T) {
	for name, sampler := range map[string]sdktrace.Sampler{
		"by the provider": sdktrace.NeverSample(), "by the parent": sdktrace.ParentBased(sdktrace.AlwaysSample()),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, false, sampler)
			ctx := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}}))
			w.merge(ctx, "ann", "a")
			held, err := w.locker.Lock(ctx, lock.Name("key"))
			require.NoError(t, err)
			require.NoError(t, held.Unlock())
			for _, s := range w.spans.Ended() {
				assert.Equal(t, "connect", s.Name(), "which has no parent")
			}
			assert.Contains(t, w.metrics(), "lockstore.lock.hold.duration")
		})
	}
}

// metrics are the points of all metrics, by name.
func (w *world) metrics() map[string][]point {
	w.Helper()
	var read metricdata.ResourceMetrics
	require.NoError(w, w.meter.Collect(context.Background(), &read))
	all := map[string][]point{}
	for _, s := range read.ScopeMetrics {
		for _, m := range s.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					all[m.Name] = append(all[m.Name], point{p.Attributes, int64(p.Count)})
				}
			case metricdata.Histogram[int64]:
				for _, p := range data.DataPoints {
					all[m.Name] = append(all[m.Name], point{p.Attributes, int64(p.Count)})
				}
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					all[m.Name] = append(all[m.Name], point{p.Attributes, p.Value})
				}
			default:
				assert.Fail(w, "unknown", "%s: %T", m.Name, data)
			}
		}
	}
	return all
}

type point struct {
	attributes attribute.Set
	n          int64
}

func TestMetricsAreOfWhatHappened(t *testing.T) {
	w := newWorld(t, false, sdktrace.NeverSample())
	ctx := t.Context()
	for i := range 5 {
		w.merge(ctx, "ann", fmt.Sprint(i))
	}
	_, err := w.store.Get(ctx, "nobody")
	require.ErrorIs(t, err, metadata.ErrNotFound)
	held, err := w.locker.Lock(ctx, lock.Name("key"))
	require.NoError(t, err)
	backend, _ := held.Backend(held.Key())
	_, err = w.db.Pool().Exec(ctx, "SELECT pg_terminate_backend($1)", backend.PID)
	require.NoError(t, err)
	<-held.Context().Done()
	require.ErrorIs(t, held.Unlock(), lock.ErrLost)
	held, err = w.locker.Lock(ctx, held.Key())
	require.NoError(t, err)
	require.Eventually(t, func() bool { return w.metrics()["lockstore.lock.session.losses"] != nil }, 10*time.Second, time.Millisecond)

	all := w.metrics()
	require.NoError(t, held.Unlock())
	assert.ElementsMatch(t, []string{
		"db.client.operation.duration", "lockstore.commit.duration", "lockstore.commit.writes",
		"lockstore.lock.wait.duration", "lockstore.lock.hold.duration", "lockstore.lock.batch.duration", "lockstore.lock.batch.size",
		"lockstore.lock.connect.duration", "lockstore.lock.session.losses",
		"lockstore.lock.holders", "lockstore.lock.waiters", "lockstore.lock.keys", "lockstore.lock.connections",
	}, slices.Collect(maps.Keys(all)))
	count := func(name string, want ...attribute.KeyValue) int64 {
		for _, p := range all[name] {
			if p.attributes == attribute.NewSet(append(want, attribute.String("db.system.name", "postgresql"))...) {
				return p.n
			}
		}
		return -1
	}
	table := attribute.String("db.collection.name", metadata.DefaultTable)
	operation := func(name string) attribute.KeyValue { return attribute.String("db.operation.name", name) }
	failed := func(kind string) attribute.KeyValue { return attribute.String("error.type", kind) }
	assert.EqualValues(t, 5, count("db.client.operation.duration", table, operation("Merge")))
	assert.EqualValues(t, 1, count("db.client.operation.duration", table, operation("Get"), failed("not_found")))
	assert.EqualValues(t, 5, count("lockstore.commit.duration", table, operation("commit")))
	assert.EqualValues(t, 5, count("lockstore.commit.writes", table, operation("commit")))
	assert.EqualValues(t, 2, count("lockstore.lock.wait.duration", operation("Lock")))
	assert.EqualValues(t, 1, count("lockstore.lock.hold.duration", operation("hold"), failed("lost")))
	assert.EqualValues(t, 2, count("lockstore.lock.connect.duration", operation("connect")))
	assert.EqualValues(t, 1, count("lockstore.lock.session.losses"))
	assert.EqualValues(t, 1, count("lockstore.lock.holders"))
	assert.EqualValues(t, 0, count("lockstore.lock.waiters"))
	assert.EqualValues(t, 1, count("lockstore.lock.connections"))
	for name, points := range all {
		for _, p := range points {
			for _, a := range p.attributes.ToSlice() {
				assert.Contains(t, []string{"db.system.name", "db.operation.name", "db.collection.name", "error.type"}, string(a.Key), "%s", name)
			}
		}
	}
}
