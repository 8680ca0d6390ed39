package promstore_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
	"example.com/lockstore/metadata/promstore"
)

func Example() {
	metrics := promstore.New()
	registry := prometheus.NewRegistry()
	registry.MustRegister(metrics)

	locker := lock.NewMemory(metrics) // or a lock.Postgres, by its options
	store, err := metadata.NewMemory(locker, &metadata.Options{Observers: []metadata.Observer{metrics}})
	if err != nil {
		log.Fatal(err)
	}
	metrics.Locker(locker)
	metrics.Store(store)
	if _, err := store.Merge(context.Background(), "ann", []byte(`{"plan":"pro"}`)); err != nil {
		log.Fatal(err)
	}

	page := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for line := range strings.Lines(page.Body.String()) {
		if strings.HasPrefix(line, "lockstore_lock_acquired_total") || strings.HasPrefix(line, "lockstore_metadata_operation_seconds_count") {
			fmt.Fprint(os.Stdout, line)
		}
	}
	// Output:
	// lockstore_lock_acquired_total 1
	// lockstore_metadata_operation_seconds_count{error_type="",operation="Merge"} 1
}
