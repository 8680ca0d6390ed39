package main

import (
	"context"
	"encoding/json"
	"runtime"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// A measurement is the result of one run of a subject.
type measurement struct {
	Ops     int64         // operations within the measured time
	Took    time.Duration // the measured time
	Latency *latencies    // of the operations
	Cut     time.Duration // the longest wait that the end of the run cut short

	Errors     int64  // operations that failed
	Error      string // the first of these
	Violations int64  // acknowledged but lost, or overlapping
	Conns      int    // maximum number of connections to the server

	Extra map[string]float64 // further figures of the case, by name with unit
}

func newMeasurement() *measurement {
	return &measurement{Latency: newLatencies(), Extra: map[string]float64{}}
}

// rate returns the operations per second.
func (m *measurement) rate() float64 { return quotient(float64(m.Ops), m.Took.Seconds()) }

// longest returns the longest operation or wait that was cut short.
func (m *measurement) longest() time.Duration { return max(m.Latency.max(), m.Cut) }

// add adds another measurement of the same time to m.
func (m *measurement) add(other *measurement) {
	m.Ops += other.Ops
	m.Took = max(m.Took, other.Took)
	m.Latency.merge(other.Latency)
	m.Cut = max(m.Cut, other.Cut)
	m.Errors += other.Errors
	if m.Error == "" {
		m.Error = other.Error
	}
	m.Violations += other.Violations
}

// latencies is a histogram of durations, for one goroutine.
type latencies struct{ *hdrhistogram.Histogram }

// Durations up to 2 minutes, exact to three digits.
func newLatencies() *latencies {
	return &latencies{hdrhistogram.New(1, (2 * time.Minute).Nanoseconds(), 3)}
}

func (l *latencies) record(d time.Duration) {
	l.RecordValue(min(d.Nanoseconds(), l.HighestTrackableValue()))
}

func (l *latencies) at(percent float64) time.Duration {
	return time.Duration(l.ValueAtPercentile(percent))
}

// max returns 0 if nothing was recorded, like the others.
func (l *latencies) max() time.Duration {
	if l.TotalCount() == 0 {
		return 0
	}
	return time.Duration(l.Max())
}

func (l *latencies) mean() time.Duration { return time.Duration(l.Mean()) }

func (l *latencies) merge(other *latencies) { l.Merge(other.Histogram) }

// A recorder collects the durations of many goroutines. They share its few histograms, to save
// memory.
type recorder [8]struct {
	sync.Mutex
	*latencies
}

func newRecorder() *recorder {
	var r recorder
	for i := range r {
		r[i].latencies = newLatencies()
	}
	return &r
}

// record records a duration of the goroutine with that number.
func (r *recorder) record(goroutine int, d time.Duration) {
	part := &r[goroutine%len(r)]
	part.Lock()
	part.latencies.record(d)
	part.Unlock()
}

// sum returns all durations. It must not run concurrently with record.
func (r *recorder) sum() *latencies {
	all := newLatencies()
	for i := range r {
		all.merge(r[i].latencies)
	}
	return all
}

func (l *latencies) MarshalJSON() ([]byte, error) {
	histogram, err := l.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
	if err != nil {
		return nil, err
	}
	return json.Marshal(histogram)
}

func (l *latencies) UnmarshalJSON(text []byte) (err error) {
	var histogram []byte
	if err := json.Unmarshal(text, &histogram); err != nil {
		return err
	}
	l.Histogram, err = hdrhistogram.Decode(histogram)
	return err
}

// repeat repeats an operation in this goroutine and measures each time. It does at least one,
// however long that takes.
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
		m.Latency.record(took)
	}
	return m
}

// repeatFast is repeat for operations that are faster than reading the clock: the times are
// means of many operations in a row.
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
	for _, bar := range m.Latency.Distribution() {
		if bar.Count > 0 {
			single.RecordValues(max(1, bar.To/row), bar.Count)
		}
	}
	m.Ops *= row
	m.Latency = single
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

// allocations returns the average number of allocations of a call.
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
