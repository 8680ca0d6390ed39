package main

import (
	"context"
	"runtime"
	"time"
)

// repeat does something again and again in this goroutine, and measures each: at
// least one, however long that takes.
func repeat(ctx context.Context, p pace, do func() error) *measurement {
	m := newMeasurement()
	from := time.Now().Add(p.Warm)
	until := from.Add(p.Count)
	for ctx.Err() == nil {
		start := time.Now()
		if start.After(until) && m.Ops+m.Errors > 0 {
			break
		}
		err := do()
		took := time.Since(start)
		if time.Now().Before(from) {
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

// allocations is how many one call makes, on average.
func allocations(do func()) float64 {
	var before, after runtime.MemStats
	calls := func(n int) float64 {
		runtime.ReadMemStats(&before)
		for range n {
			do()
		}
		runtime.ReadMemStats(&after)
		return float64(after.Mallocs-before.Mallocs) / float64(n)
	}
	start := time.Now()
	first := calls(1)
	if time.Since(start) > 10*time.Millisecond {
		return first
	}
	return calls(100)
}
