package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// A mergeLoad is what writers repeat: merge a small patch into one of the documents.
type mergeLoad struct {
	Processes int // 0: this one
	Writers   int // per process
	Documents int
	Bytes     int  // of each document
	Conns     int  // of each process's pool
	Long      bool // twice the time, for queues in which a merge waits for most of a second
	Kept      bool // the case creates the documents once, not for each run
	Counter   bool // writes are of a number, so there are no keys to check
}

// run runs a subject under this load.
func (l mergeLoad) run(kind mergeKind) runFunc {
	return func(ctx context.Context, in *arena, p pace) (m *measurement, err error) {
		if l.Long && !p.Quick {
			p.Warm, p.Count = 2*p.Warm, 2*p.Count
		}
		if !l.Kept {
			if err := in.fill(ctx, l.Documents, l.Bytes); err != nil {
				return nil, err
			}
		}
		var before, after int64
		if kind.total != nil {
			if before, err = kind.total(ctx, in); err != nil {
				return nil, err
			}
		}
		var reports []mergeReport
		if l.Processes > 0 {
			reports, err = l.inProcesses(ctx, in, kind, p)
		} else {
			reports, err = l.here(ctx, in, kind, p)
		}
		if err != nil {
			return nil, err
		}
		m = newMeasurement()
		var acknowledged, failed int64
		var proofs []proof
		for _, r := range reports {
			m.add(r.Measurement)
			m.Conns = max(m.Conns, r.Measurement.Conns)
			acknowledged += r.Acknowledged
			failed += r.Failed
			proofs = append(proofs, r.Proofs...)
		}
		if m.Violations, err = in.missing(ctx, proofs); err != nil {
			return nil, err
		}
		if kind.total != nil {
			if after, err = kind.total(ctx, in); err != nil {
				return nil, err
			}
			lost, twice := acknowledged-(after-before), after-before-acknowledged-failed
			m.Violations = max(m.Violations, lost, twice)
		}
		if m.Violations > 0 {
			// The share of lost merges within the measured time is assumed to be the same as
			// in the whole run.
			kept := 1 - quotient(float64(m.Violations), float64(acknowledged))
			m.Extra[keptPerSecond] = m.rate() * max(0, kept)
		}
		return m, nil
	}
}

func (l mergeLoad) here(ctx context.Context, in *arena, kind mergeKind, p pace) (_ []mergeReport, err error) {
	opened, err := kind.open(ctx, in, l.Conns)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, opened.close()) }()
	connections := in.watch(ctx)
	r := l.drive(ctx, opened, 0, p)
	r.Measurement.Conns = connections()
	return []mergeReport{r}, nil
}

func (l mergeLoad) inProcesses(ctx context.Context, in *arena, kind mergeKind, p pace) (_ []mergeReport, err error) {
	all, err := startWorkers(ctx, l.Processes, job{Arena: in, Role: "merge", Subject: kind.name, Merge: l, Pace: p})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, all.stop()) }()
	connections := in.watch(ctx)
	reports, err := work[mergeReport](all)
	if err != nil {
		return nil, err
	}
	reports[0].Measurement.Conns = connections()
	return reports, nil
}

func mergeRole(ctx context.Context, j job, coordinator *wire) (err error) {
	kind, err := mergeKindNamed(j.Subject)
	if err != nil {
		return err
	}
	opened, err := kind.open(ctx, j.Arena, j.Merge.Conns)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, opened.close()) }()
	if err := coordinator.ready(); err != nil {
		return err
	}
	return coordinator.report(j.Merge.drive(ctx, opened, j.Number, j.Pace))
}

// A mergeReport is the report of a process of a merge case: the measurement, and all
// acknowledged merges, which must be in the documents.
type mergeReport struct {
	Measurement  *measurement
	Acknowledged int64
	Failed       int64 // they may still be in the documents
	Proofs       []proof
}

// drive runs the writers for the pace, and waits for the merges in progress. Then all writers
// concurrently merge a few unique keys each, which must be in the documents later.
func (l mergeLoad) drive(ctx context.Context, mg merger, process int, p pace) mergeReport {
	from := time.Now().Add(p.Warm)
	until := from.Add(p.Count)
	rec := newRecorder()
	writers := make([]writer, l.Writers)
	for n := range writers {
		writers[n] = writer{mergeLoad: l, process: process, number: n, from: from, until: until}
	}
	run, cancel := context.WithDeadline(ctx, until.Add(p.patience()))
	defer cancel()
	l.each(func(n int) { writers[n].write(run, mg, rec) })
	if !l.Counter {
		proving, cancel := context.WithTimeout(ctx, p.patience())
		defer cancel()
		l.each(func(n int) { writers[n].prove(proving, mg) })
	}

	r := mergeReport{Measurement: newMeasurement()}
	m := r.Measurement
	m.Took, m.Latency = p.Count, rec.sum()
	for _, w := range writers {
		m.Ops += w.ops
		m.Cut = max(m.Cut, w.cut)
		m.fail(w.errs...)
		r.Acknowledged += w.acknowledged
		r.Failed += w.failed
		r.Proofs = append(r.Proofs, w.proofs...)
	}
	return r
}

// A writer is one goroutine of a load, with its results.
type writer struct {
	mergeLoad
	process, number int
	from, until     time.Time // the measured time

	ops                  int64
	acknowledged, failed int64 // including those outside the measured time
	cut                  time.Duration
	errs                 []error
	proofs               []proof
}

// write merges until the time is over.
func (w *writer) write(ctx context.Context, mg merger, rec *recorder) {
	random := rand.New(rand.NewPCG(uint64(w.process), uint64(w.number)))
	for ctx.Err() == nil {
		id := documentID(random.IntN(w.Documents))
		began := time.Now()
		if began.After(w.until) {
			return
		}
		patch := fmt.Appendf(nil, `{"seen":%d,"by":"worker %d"}`, began.UnixNano(), w.number) // changes every document
		err := mg.merge(ctx, id, patch)
		ended := time.Now()
		w.count(err)
		switch {
		case ended.After(w.until):
			w.cut = max(w.cut, ended.Sub(began))
		case ended.Before(w.from):
		case err != nil:
			w.errs = append(w.errs, err)
		default:
			w.ops++
			rec.record(w.number, ended.Sub(began))
		}
	}
}

// prove merges unique keys.
func (w *writer) prove(ctx context.Context, mg merger) {
	for i := range max(1, 16/w.Writers) {
		mark := proof{documentID(w.number % w.Documents), fmt.Sprintf("proof-%x-%d-%d-%d", w.until.UnixNano(), w.process, w.number, i)}
		err := mg.merge(ctx, mark.ID, json.RawMessage(fmt.Sprintf(`{%q:true}`, mark.Key)))
		w.count(err)
		if err == nil {
			w.proofs = append(w.proofs, mark)
		}
	}
}

func (w *writer) count(err error) {
	if err == nil {
		w.acknowledged++
	} else {
		w.failed++
	}
}

// each runs a function for every writer, all concurrently.
func (l mergeLoad) each(do func(writer int)) {
	var group sync.WaitGroup
	for n := range l.Writers {
		group.Go(func() { do(n) })
	}
	group.Wait()
}
