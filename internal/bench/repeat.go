package main

import (
	"context"
	"time"
)

// repeat does something again and again in this goroutine, and measures each.
func repeat(ctx context.Context, p pace, do func() error) *measurement {
	m := newMeasurement()
	from := time.Now().Add(p.Warm)
	until := from.Add(p.Count)
	for ctx.Err() == nil {
		start := time.Now()
		if start.After(until) {
			break
		}
		err := do()
		took := time.Since(start)
		if start.Before(from) {
			continue
		}
		m.Took += took
		if err != nil {
			m.fail(err)
			continue
		}
		m.Ops++
		m.latency.record(took)
	}
	return m
}

// repeatFast is repeat for what is done in less time than it takes to look at a
// clock: the times are means of many in a row.
func repeatFast(ctx context.Context, p pace, do func() error) *measurement {
	const row = 100
	m := repeat(ctx, p, func() error {
		for range row {
			if err := do(); err != nil {
				return err
			}
		}
		return nil
	})
	single := newLatencies()
	for _, bar := range m.latency.Distribution() {
		if bar.Count > 0 {
			single.RecordValues(max(1, bar.To/row), bar.Count)
		}
	}
	m.Ops *= row
	m.latency = single
	return m
}

// fail counts the errors that are not nil.
func (m *measurement) fail(errs ...error) {
	for _, err := range errs {
		if err == nil {
			continue
		}
		m.Errors++
		if m.Error == "" {
			m.Error = err.Error()
		}
	}
}
