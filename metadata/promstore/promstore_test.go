package promstore_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
	"example.com/lockstore/metadata/promstore"
	"example.com/lockstore/pgtest"
)

const canary = "canary-of-a-value"

// traffic has a collector see something of everything.
func traffic(t *testing.T) *prometheus.Registry {
	db := pgtest.New(t)
	ctx, metrics, registry := t.Context(), promstore.New(), prometheus.NewPedanticRegistry()
	registry.MustRegister(metrics)
	locker, err := lock.NewPostgres(ctx, db.Pool(), &lock.PostgresOptions{Observers: []lock.Observer{metrics}})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, locker.Close(context.Background())) })
	store, err := metadata.NewPostgres(db.Pool(), &metadata.Options{Observers: []metadata.Observer{metrics}})
	require.NoError(t, err)
	t.Cleanup(store.Close)
	require.NoError(t, store.Migrate(ctx))
	metrics.Locker(locker)
	metrics.Store(store)

	var writers sync.WaitGroup
	for i := range 8 {
		writers.Go(func() {
			_, err := store.Merge(ctx, "document-id", json.RawMessage(fmt.Sprintf(`{"%d":%q}`, i, canary)))
			assert.NoError(t, err)
		})
	}
	writers.Wait()
	_, err = store.Merge(ctx, "document-id", json.RawMessage(`{`))
	require.ErrorIs(t, err, metadata.ErrMalformed)

	held, err := locker.Lock(ctx, lock.Name("key-of-a-lock"))
	require.NoError(t, err)
	_, err = locker.TryLock(ctx, held.Key())
	require.ErrorIs(t, err, lock.ErrBusy)
	backend, _ := held.Backend(held.Key())
	_, err = db.Pool().Exec(ctx, "SELECT pg_terminate_backend($1)", backend.PID)
	require.NoError(t, err)
	<-held.Context().Done()
	require.ErrorIs(t, held.Unlock(), lock.ErrLost)
	for range 3 {
		held, err := locker.Lock(ctx, held.Key())
		require.NoError(t, err)
		require.NoError(t, held.Unlock())
	}
	require.Eventually(t, func() bool { return value(t, registry, "lockstore_lock_session_losses_total", "") == 1 }, 10*time.Second, time.Millisecond)
	return registry
}

// value is that of a metric, or the number of what a histogram has seen, where its labels
// are these.
func value(t *testing.T, registry *prometheus.Registry, name, labels string) float64 {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, f := range families {
		for _, m := range f.Metric {
			var all []string
			for _, l := range m.Label {
				all = append(all, l.GetName()+"="+l.GetValue())
			}
			if f.GetName() == name && strings.Join(all, ",") == labels {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return -1
}

func TestMetricsAreOfWhatHappened(t *testing.T) {
	registry := traffic(t)
	for metric, want := range map[[2]string]float64{
		{"lockstore_lock_wait_seconds", "error_type=,operation=Lock"}:                  4,
		{"lockstore_lock_wait_seconds", "error_type=busy,operation=TryLock"}:           1,
		{"lockstore_lock_hold_seconds", "error_type="}:                                 3,
		{"lockstore_lock_hold_seconds", "error_type=lost"}:                             1,
		{"lockstore_lock_connect_seconds", "error_type="}:                              2,
		{"lockstore_lock_acquired_total", ""}:                                          4,
		{"lockstore_lock_lost_total", ""}:                                              1,
		{"lockstore_lock_connections", ""}:                                             1,
		{"lockstore_lock_holders", ""}:                                                 0,
		{"lockstore_metadata_operation_seconds", "error_type=,operation=Merge"}:        8,
		{"lockstore_metadata_operation_seconds", "error_type=invalid,operation=Merge"}: 1,
		{"lockstore_metadata_writes_total", ""}:                                        8,
		{"lockstore_metadata_failures_total", ""}:                                      1,
		{"lockstore_metadata_commit_writes", ""}:                                       value(t, registry, "lockstore_metadata_commits_total", ""),
	} {
		assert.Equal(t, want, value(t, registry, metric[0], metric[1]), "%s", metric)
	}
	problems, err := testutil.GatherAndLint(registry)
	require.NoError(t, err)
	assert.Empty(t, problems)
}

// There are few labels, and of each few values: none is a key, an id, or of a document.
func TestLabelsAreFew(t *testing.T) {
	families, err := traffic(t).Gather()
	require.NoError(t, err)
	known := map[string][]string{
		"operation":  {"Lock", "TryLock", "Merge"},
		"error_type": {"", "busy", "lost", "invalid"},
	}
	for _, f := range families {
		for _, m := range f.Metric {
			for _, l := range m.Label {
				assert.Contains(t, known[l.GetName()], l.GetValue(), "%s: %s", f.GetName(), l.GetName())
			}
		}
		for _, secret := range []string{canary, "document-id", "key-of-a-lock"} {
			assert.NotContains(t, f.String(), secret)
		}
	}
}

// What the dashboard and the alerts ask for is there, with the labels that they name.
func TestDashboardAndAlertsAskForWhatThereIs(t *testing.T) {
	families, err := traffic(t).Gather()
	require.NoError(t, err)
	there := map[string][]string{} // labels by metric
	for _, f := range families {
		for _, m := range f.Metric {
			all := []string{"instance", "job"} // which Prometheus adds
			for _, l := range m.Label {
				all = append(all, l.GetName())
			}
			if m.Histogram == nil {
				there[f.GetName()] = all
				continue
			}
			there[f.GetName()+"_sum"], there[f.GetName()+"_count"] = all, all
			there[f.GetName()+"_bucket"] = append([]string{"le"}, all...)
		}
	}
	expressions := append(dashboard(t), alerts(t)...)
	assert.Greater(t, len(expressions), 30)
	asked := map[string]bool{}
	for _, text := range expressions {
		expr, err := parser.ParseExpr(strings.ReplaceAll(text, "$__rate_interval", "5m"))
		require.NoError(t, err, "%s", text)
		assert.NoError(t, missing(expr, there, asked), "%s", text)
	}
	for name := range there {
		base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_sum"), "_count"), "_bucket")
		asked[base] = asked[base] || asked[name]
	}
	for _, name := range []string{"lockstore_lock_holders", "lockstore_lock_waiters", "lockstore_lock_connections",
		"lockstore_lock_wait_seconds", "lockstore_lock_hold_seconds", "lockstore_metadata_commit_seconds", "lockstore_metadata_commit_writes"} {
		assert.True(t, asked[name], "%s is shown", name)
	}

	broken, err := parser.ParseExpr(`sum by (key) (rate(lockstore_lock_wait_seconds_count{id="7"}[5m])) / lockstore_none`)
	require.NoError(t, err)
	err = missing(broken, there, asked)
	for _, what := range []string{"key", "id", "lockstore_none"} {
		assert.ErrorContains(t, err, what, "what is not there is found")
	}
}

// missing says what an expression asks for that is not there.
func missing(expr parser.Expr, there map[string][]string, asked map[string]bool) (found error) {
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			asked[n.Name] = true
			if there[n.Name] == nil {
				found = errors.Join(found, fmt.Errorf("no metric %s", n.Name))
			}
			for _, m := range n.LabelMatchers {
				if m.Name != model.MetricNameLabel && !slices.Contains(there[n.Name], m.Name) {
					found = errors.Join(found, fmt.Errorf("%s has no label %s", n.Name, m.Name))
				}
			}
		case *parser.AggregateExpr:
			for _, selector := range parser.ExtractSelectors(n.Expr) {
				for _, m := range selector {
					for _, by := range n.Grouping {
						if m.Name == model.MetricNameLabel && !slices.Contains(there[m.Value], by) {
							found = errors.Join(found, fmt.Errorf("%s has no label %s", m.Value, by))
						}
					}
				}
			}
		}
		return nil
	})
	return found
}

// dashboard are the expressions of dashboard.json.
func dashboard(t *testing.T) (expressions []string) {
	text, err := os.ReadFile("dashboard.json")
	require.NoError(t, err)
	var d struct {
		Title  string
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	require.NoError(t, json.Unmarshal(text, &d))
	require.NotEmpty(t, d.Title)
	for _, p := range d.Panels {
		assert.NotEmpty(t, p.Targets, "%s", p.Title)
		for _, target := range p.Targets {
			expressions = append(expressions, target.Expr)
		}
	}
	return expressions
}

// alerts are the expressions of alerts.yaml.
func alerts(t *testing.T) (expressions []string) {
	text, err := os.ReadFile("alerts.yaml")
	require.NoError(t, err)
	var a struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	decoder := yaml.NewDecoder(strings.NewReader(string(text)))
	decoder.KnownFields(true)
	require.NoError(t, decoder.Decode(&a))
	for _, g := range a.Groups {
		for _, r := range g.Rules {
			assert.NotEmpty(t, r.Labels["severity"], "%s", r.Alert)
			assert.NotEmpty(t, r.Annotations["summary"], "%s", r.Alert)
			assert.NotEmpty(t, r.Annotations["description"], "%s", r.Alert)
			expressions = append(expressions, r.Expr)
		}
	}
	return expressions
}
