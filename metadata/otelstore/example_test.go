package otelstore_test

import (
	"context"
	"fmt"
	"log"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
	"example.com/lockstore/metadata/otelstore"
)

func Example() {
	spans := tracetest.NewSpanRecorder() // where a host has an exporter
	telemetry, err := otelstore.New(&otelstore.Options{TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))})
	if err != nil {
		log.Fatal(err)
	}
	locker := lock.NewMemory(telemetry) // or a lock.Postgres, by its options
	store, err := metadata.NewMemory(locker, &metadata.Options{Observers: []metadata.Observer{telemetry}})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := store.Merge(context.Background(), "ann", []byte(`{"plan":"pro"}`)); err != nil {
		log.Fatal(err)
	}
	for _, s := range spans.Ended() {
		fmt.Println(s.Name())
	}
	// Output:
	// Lock
	// hold
	// Merge lockstore_metadata
}
