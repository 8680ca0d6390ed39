package otelstore

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// A kind distinguishes events for metrics and traces. There are few.
type kind struct{ operation, table, errorType string }

// described is a kind as OpenTelemetry takes it.
type described struct {
	name     string // of a span
	measured []metric.RecordOption
	begins   trace.SpanStartEventOption
}

// kinds caches the description of each kind.
type kinds struct {
	known atomic.Pointer[map[kind]*described]
	mu    sync.Mutex // to add one
}

func (all *kinds) of(k kind) *described {
	if known := all.known.Load(); known != nil {
		if d := (*known)[k]; d != nil {
			return d
		}
	}
	all.mu.Lock()
	defer all.mu.Unlock()
	next := map[kind]*described{}
	if known := all.known.Load(); known != nil {
		maps.Copy(next, *known)
	}
	attributes := []attribute.KeyValue{semconv.DBSystemNamePostgreSQL}
	for key, value := range map[attribute.Key]string{
		semconv.DBOperationNameKey: k.operation, semconv.DBCollectionNameKey: k.table, semconv.ErrorTypeKey: k.errorType,
	} {
		if value != "" {
			attributes = append(attributes, key.String(value))
		}
	}
	next[k] = &described{
		name:     strings.TrimSpace(k.operation + " " + k.table),
		measured: []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(attributes...))},
		begins:   trace.WithAttributes(attributes...),
	}
	all.known.Store(&next)
	return next[k]
}
