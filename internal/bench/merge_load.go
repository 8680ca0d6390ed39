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

// A mergeLoad is what writers do to a merger, again and again: merge a small patch
// into one of the documents.
type mergeLoad struct {
	Processes int // 0: this one
	Writers   int // of each process
	Documents int
	Bytes     int  // of each document
	Conns     int  // of each process's pool
	Kept      bool // the documents are the case's, and not made anew for each run
}

// run is the run of a subject under this load.
func (l mergeLoad) run(kind mergeKind) runFunc {
	return func(ctx context.Context, in *arena, p pace) (m *measurement, err error) {
		if !l.Kept {
			if err := in.fill(ctx, l.Documents, l.Bytes); err != nil {
				return nil, err
			}
		}
		before, err := in.versions(ctx)
		if err != nil {
			return nil, err
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
		after, err := in.versions(ctx)
		if kind.counts {
			lost, twice := acknowledged-(after-before), after-before-acknowledged-failed
			m.Violations = max(m.Violations, lost, twice)
		}
		if m.Violations > 0 {
			// What was lost, of all that was acknowledged, was lost within the
			// counted time just the same.
			kept := 1 - quotient(float64(m.Violations), float64(acknowledged))
			m.Extra[keptPerSecond] = m.rate() * max(0, kept)
		}
		return m, err
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
	crew, err := hire(ctx, l.Processes, job{Arena: in, Role: "merge", Subject: kind.name, Merge: l, Pace: p})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, crew.dismiss()) }()
	connections := in.watch(ctx)
	reports, err := work[mergeReport](crew)
	if err != nil {
		return nil, err
	}
	reports[0].Measurement.Conns = connections()
	return reports, nil
}

func mergeRole(ctx context.Context, j job, boss *wire) (err error) {
	kind, err := mergeKindNamed(j.Subject)
	if err != nil {
		return err
	}
	opened, err := kind.open(ctx, j.Arena, j.Merge.Conns)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, opened.close()) }()
	if err := boss.ready(); err != nil {
		return err
	}
	return boss.report(j.Merge.drive(ctx, opened, j.Number, j.Pace))
}

// A mergeReport is what a process tells at the end of a merge case. Beyond what
// was measured it has what was acknowledged at all, to be looked for.
type mergeReport struct {
	Measurement  *measurement
	Acknowledged int64
	Failed       int64 // which may be in the documents all the same
	Proofs       []proof
}

// drive lets the writers go until the pace is over, and waits for the merges that
// are under way. Then each writer merges a few keys of its own, all writers at
// once: these must be found later.
func (l mergeLoad) drive(ctx context.Context, mg merger, process int, p pace) mergeReport {
	var (
		from  = time.Now().Add(p.Warm)
		until = from.Add(p.Count)
		rec   = newRecorder()
		mu    sync.Mutex // guards r
		r     = mergeReport{Measurement: newMeasurement()}
		m     = r.Measurement
	)
	m.Took = p.Count
	run, cancel := context.WithDeadline(ctx, until.Add(p.patience()))
	defer cancel()
	l.each(func(n int) {
		random := rand.New(rand.NewPCG(uint64(process), uint64(n)))
		var acknowledged, failed, ops, errs int64
		var first string
		var cut time.Duration
		for run.Err() == nil {
			id := documentID(random.IntN(l.Documents))
			began := time.Now()
			patch := fmt.Appendf(nil, `{"seen":%d,"by":"worker %d"}`, began.UnixNano(), n) // which changes any document
			if began.After(until) {
				break
			}
			err := mg.merge(run, id, patch)
			ended := time.Now()
			inTime := began.After(from) && ended.Before(until)
			switch {
			case err == nil && inTime:
				ops++
				rec.record(n, ended.Sub(began))
				fallthrough
			case err == nil:
				acknowledged++
				if ended.After(until) {
					cut = max(cut, ended.Sub(began))
				}
			default:
				failed++
				if run.Err() != nil {
					cut = max(cut, ended.Sub(began))
				} else if inTime {
					errs++
					first = err.Error()
				}
			}
		}
		mu.Lock()
		defer mu.Unlock()
		m.Ops += ops
		m.Errors += errs
		if m.Error == "" {
			m.Error = first
		}
		m.Cut = max(m.Cut, cut)
		r.Acknowledged += acknowledged
		r.Failed += failed
	})
	m.latency = rec.sum()
	proving, cancel := context.WithTimeout(ctx, p.patience())
	defer cancel()
	l.each(func(n int) {
		for i := range max(1, 16/l.Writers) {
			mark := proof{documentID(n % l.Documents), fmt.Sprintf("proof-%x-%d-%d-%d", until.UnixNano(), process, n, i)}
			err := mg.merge(proving, mark.ID, json.RawMessage(fmt.Sprintf(`{%q:true}`, mark.Key)))
			mu.Lock()
			if err == nil {
				r.Acknowledged++
				r.Proofs = append(r.Proofs, mark)
			} else {
				r.Failed++
			}
			mu.Unlock()
		}
	})
	return r
}

// each has every writer do something, all at once.
func (l mergeLoad) each(do func(writer int)) {
	var group sync.WaitGroup
	for n := range l.Writers {
		group.Go(func() { do(n) })
	}
	group.Wait()
}
