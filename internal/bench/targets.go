package main

import (
	"fmt"
	"io"
	"math"
	"text/tabwriter"
)

// A target is a target of lockstore for one case.
type target struct {
	name  string
	inOne string // the case
	other string // the subject to compare with, if it may be missing on a machine
	value func(s scores) reading
	least float64 // 0: there is none
	most  float64 // 0: there is none
}

// A reading is a figure of a target: the median of the rounds and, if it is computed for each
// round, their minimum and maximum.
type reading struct {
	median float64 // not a number: nothing was measured
	rounds *spread
}

var nothing = reading{median: math.NaN()}

// positive returns a figure that is 0 only if nothing was measured.
func positive(x float64) reading {
	if x > 0 {
		return reading{median: x}
	}
	return nothing
}

// scores has the rows of a case by subject.
type scores map[string]row

func byCase(rows []row) map[string]scores {
	cases := map[string]scores{}
	for _, r := range rows {
		if cases[r.Case] == nil {
			cases[r.Case] = scores{}
		}
		cases[r.Case][r.Subject] = r
	}
	return cases
}

// own returns lockstore's row, over pgx if there are two.
func (s scores) own() row {
	for _, name := range []string{"lockstore (pgx)", "lockstore pgtest", "lockstore"} {
		if r, ok := s[name]; ok {
			return r
		}
	}
	return row{}
}

func reads(ratio *float64, rounds *spread) reading {
	if ratio == nil {
		return nothing
	}
	return reading{*ratio, rounds}
}

func ratioToFloor(s scores) reading { return reads(s.own().RatioToFloor, s.own().FloorRange) }
func ratioToBound(s scores) reading { return reads(s.own().RatioToBound, s.own().BoundRange) }

// timesFloor returns lockstore's time as a multiple of the floor's.
func timesFloor(s scores) reading {
	r := ratioToFloor(s)
	if !(r.median > 0) {
		return nothing
	}
	return reading{quotient(1, r.median), &spread{quotient(1, r.rounds[1]), quotient(1, r.rounds[0])}}
}

func p99ToFloor(s scores) reading {
	if r := s.own().P99Ratio; r != nil {
		return positive(*r)
	}
	return nothing
}

func conns(s scores) reading     { return positive(float64(s.own().Conns)) }
func p50Millis(s scores) reading { return positive(s.own().P50 / 1000) }
func p99Millis(s scores) reading { return positive(s.own().P99 / 1000) }
func extra(name string) func(scores) reading {
	return func(s scores) reading {
		if x, measured := s.own().Extra[name]; measured {
			return reading{median: x}
		}
		return nothing
	}
}

// against compares the rates with another subject's for each round, without that one's lost
// operations.
func against(name string) func(scores) reading {
	return func(s scores) reading {
		var ratios []float64
		for round, rate := range s.own().Rates {
			if others := s[name].Rates; round < len(others) && rate > 0 {
				if others[round] == 0 { // it lost everything
					ratios = append(ratios, math.Inf(1))
				} else {
					ratios = append(ratios, rate/others[round])
				}
			}
		}
		if ratios == nil {
			return nothing
		}
		median, rounds := middle(ratios)
		return reading{median, &rounds}
	}
}

// ofTheFloor compares a subject's rate with the floor's.
func ofTheFloor(subject string) func(scores) reading {
	return func(s scores) reading { return reads(s[subject].RatioToFloor, s[subject].FloorRange) }
}

const keptPerSecond = "acknowledged and kept, 1/s"

var targets = []target{
	{name: "p50, × floor", inOne: "lock/uncontended", value: timesFloor, most: 1.15},
	{name: "rate, × floor", inOne: "lock/distinct/64", value: ratioToFloor, least: 4},
	{name: "rate, × floor", inOne: "lock/distinct/256", value: ratioToFloor, least: 9},
	{name: "rate, × floor", inOne: "lock/distinct/1024", value: ratioToFloor, least: 9},
	{name: "connections", inOne: "lock/distinct/1024", value: conns, most: 1},
	{name: "rate, × go-pglock", inOne: "lock/hot/empty", value: against(goPglock.name), least: 20},
	{name: "of the ideal, %", inOne: "lock/hot/1ms", value: extra(idealShare), least: 95},
	{name: "longest wait / mean", inOne: "lock/hot/1ms", value: extra("longest wait / mean"), most: 2},
	{name: "least share of a process, %", inOne: "lock/hot/4-processes", value: extra("least share of a process, %"), least: 15},
	{name: "longest wait / mean", inOne: "lock/hot/4-processes", value: extra("longest wait / mean"), most: 20},
	{name: "connections", inOne: "lock/held/10000", value: conns, most: 2},
	{name: "until all are held, ms", inOne: "lock/held/10000", value: extra("until all are held, ms"), most: 1000},
	{name: "heap of each, B", inOne: "lock/held/10000", value: extra("heap of each, B"), most: 1024},
	{name: "p50, ms", inOne: "lead/killed", value: p50Millis, most: 10},
	{name: "p99, ms", inOne: "lead/killed", value: p99Millis, most: 50},
	{name: "p99, ms", inOne: "lead/released", value: p99Millis, most: 5},
	{name: "p99, ms", inOne: "who/4-processes", value: p99Millis, most: 50},
	{name: "the first time, ms", inOne: "who/4-processes", value: extra("the first time, ms"), most: 50},
	{name: "p99, ms", inOne: "who/stopped", value: p99Millis, most: 1000},
	{name: "of the ideal, %", inOne: "semaphore/8/4-processes", value: extra(idealShare), least: 90},
	{name: "least share of a process, %", inOne: "semaphore/8/4-processes", value: extra("least share of a process, %"), least: 15},
	{name: "p50, × floor", inOne: "merge/lone/200B", value: timesFloor, most: 1.25},
	{name: "p50, × floor", inOne: "merge/lone/2KB", value: timesFloor, most: 1.4},
	{name: "rate, × floor", inOne: "merge/one-document/16", value: ratioToFloor, least: 3},
	{name: "rate, × floor", inOne: "merge/one-document/64", value: ratioToFloor, least: 6},
	{name: "rate, × floor", inOne: "merge/one-document/256", value: ratioToFloor, least: 80},
	{name: "p99, × floor", inOne: "merge/one-document/256", value: p99ToFloor, most: 0.2},
	{name: "kept, × zep-v0.25", inOne: "merge/one-document/256", value: against("zep-v0.25"), least: 100},
	{name: "rate, × floor", inOne: "merge/one-document/1024", value: ratioToFloor, least: 12},
	{name: "rate, × floor", inOne: "merge/one-document/4-processes", value: ratioToFloor, least: 30},
	{name: "rate, × floor", inOne: "merge/spread/10000", value: ratioToFloor, least: 0.9},
	{name: "rate, × by hand", inOne: "merge/hung/8", value: ratioToFloor, least: 0.9},
	{name: "rate, × pipelined by hand", inOne: "merge/many/1000", value: ratioToFloor, least: 1},
	{name: "rate, × single merges", inOne: "merge/many/1000", value: against("lockstore one by one"), least: 10},
	{name: "rate without tokens, × with", inOne: "once/lone", value: against(storeOnce.name), most: 1.25},
	{name: "rate without tokens, × with", inOne: "once/hot", value: against(storeOnce.name), most: 2},
	{name: "rate, × by hand", inOne: "update/one-document/16", value: ratioToFloor, least: 5},
	{name: "rate, × by hand", inOne: "update/one-document/64", value: ratioToFloor, least: 15},
	{name: "rate, × by hand", inOne: "update/one-document/256", value: ratioToFloor, least: 30},
	{name: "rate, × by hand", inOne: "counter/256", value: ratioToFloor, least: 20},
	{name: "rate, × Redis INCR", inOne: "counter/256", other: redisCounter.name, value: against(redisCounter.name), least: 1},
	{name: "successes, × bare UPDATE", inOne: "if-version/16", value: ratioToFloor, least: 0.8},
	{name: "successes, × bare UPDATE", inOne: "if-version/64", value: ratioToFloor, least: 0.8},
	{name: "successes, × bare UPDATE", inOne: "if-version/256", value: ratioToFloor, least: 0.8},
	{name: "rate, × by hand", inOne: "in-transaction/16", value: ratioToFloor, least: 1},
	{name: "rate, × by hand", inOne: "in-transaction/64", value: ratioToFloor, least: 1},
	{name: "rate, × by hand", inOne: "in-transaction/256", value: ratioToFloor, least: 1},
	{name: "rate, × bound", inOne: "merge/one-document/64@1ms", value: ratioToBound, least: 0.8},
	{name: "rate, × bound", inOne: "merge/one-document/256@1ms", value: ratioToBound, least: 0.8},
	{name: "rate, × bound", inOne: "merge/one-document/64@5ms", value: ratioToBound, least: 0.8},
	{name: "rate, × bound", inOne: "merge/one-document/256@5ms", value: ratioToBound, least: 0.8},
	{name: "rate, × bound", inOne: "lock/distinct/64@1ms", value: ratioToBound, least: 0.8},
	{name: "rate, × bound", inOne: "lock/distinct/256@1ms", value: ratioToBound, least: 0.8},
	{name: "rate, × bound", inOne: "lock/distinct/1024@1ms", value: ratioToBound, least: 0.8},
	{name: "rate, × bound", inOne: "lock/distinct/64@5ms", value: ratioToBound, least: 0.8},
	{name: "rate, × bound", inOne: "lock/distinct/256@5ms", value: ratioToBound, least: 0.8},
	{name: "rate, × bound", inOne: "lock/distinct/1024@5ms", value: ratioToBound, least: 0.8},
	{name: "p50, ms", inOne: "watch/told", value: p50Millis, most: 2},
	{name: "p99, ms", inOne: "watch/told", value: p99Millis, most: 10},
	{name: "rate, nobody watches, × without hints", inOne: "watch/hot", value: ofTheFloor(unwatched.name), least: 0.98},
	{name: "rate, 100 here watch, × without hints", inOne: "watch/hot", value: ofTheFloor(watchedHere.name), least: 0.9},
	{name: "rate, 100 elsewhere watch, × without hints", inOne: "watch/hot", value: ofTheFloor(watchedElsewhere.name), least: 0.9},
	{name: "connections", inOne: "watch/10000", value: conns, most: 1},
	{name: "heap of each, B", inOne: "watch/10000", value: extra("heap of each, B"), most: 2048},
	{name: "of a core, here, %", inOne: "watch/10000", value: extra("of a core, here, %"), most: 1},
	{name: "rate, × with OpenTelemetry", inOne: "observed/merge", other: withTraces.name, value: against(withTraces.name), most: 1.11},
	{name: "rate, × with OpenTelemetry", inOne: "observed/lock", other: withTraces.name, value: against(withTraces.name), most: 1.11},
	{name: "rate, × evanphx", inOne: "mergepatch/2KB", value: against("evanphx/json-patch"), least: 1.5},
	{name: "p50, ms", inOne: "pgtest/cold-boot", value: p50Millis, most: 150},
	{name: "p50, ms", inOne: "pgtest/join", value: p50Millis, most: 15},
	{name: "p50, made ahead, ms", inOne: "pgtest/fresh", value: p50Millis, most: 8},
	{name: "p50, back to back, ms", inOne: "pgtest/fresh", most: 22,
		value: func(s scores) reading { return positive(s["lockstore back to back"].P50 / 1000) }},
	{name: "back to back, × pgtestdb", inOne: "pgtest/fresh", least: 1.5,
		value: func(s scores) reading {
			return positive(quotient(s["pgtestdb"].P50, s["lockstore back to back"].P50))
		}},
	{name: "p50, ms", inOne: "pgtest/teardown", value: p50Millis, most: 2},
}

// printTargets prints which targets of the cases that were run are met.
func printTargets(out io.Writer, rows []row) error {
	fmt.Fprint(out, "\nTargets\n")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	cases := byCase(rows)
	for _, t := range targets {
		s, ran := cases[t.inOne]
		if !ran {
			continue
		}
		if why := s[t.other].Failed; why != "" {
			fmt.Fprintf(w, "%s\t%s\t\t\tnot measured: %s\n", t.inOne, t.name, firstLine(why))
			continue
		}
		v := t.value(s)
		if math.IsNaN(v.median) {
			fmt.Fprintf(w, "%s\t%s\t\t\tnot measured\n", t.inOne, t.name)
			continue
		}
		bound, met := fmt.Sprintf("≥ %v", t.least), v.median >= t.least
		if t.most > 0 {
			bound, met = fmt.Sprintf("≤ %v", t.most), v.median <= t.most
		}
		verdict := "met"
		if !met {
			verdict = "not met"
		}
		figure := digits(v.median)
		if v.rounds != nil {
			figure = times(&v.median, v.rounds)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", t.inOne, t.name, bound, figure, verdict)
	}
	return w.Flush()
}
