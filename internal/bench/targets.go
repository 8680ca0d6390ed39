package main

import (
	"fmt"
	"io"
	"math"
	"text/tabwriter"
)

// A target is what lockstore has set itself for one case.
type target struct {
	name  string
	inOne string // the case
	value func(s scores) float64
	least float64 // 0: there is none
	most  float64 // 0: there is none
}

// scores is the rows of a case by their subjects.
type scores map[string]row

// own is lockstore's row: over pgx, where there are two.
func (s scores) own() row {
	for _, name := range []string{"lockstore (pgx)", "lockstore pgtest", "lockstore"} {
		if r, ok := s[name]; ok {
			return r
		}
	}
	return row{}
}

func ratioToFloor(s scores) float64 {
	if r := s.own().RatioToFloor; r != nil {
		return *r
	}
	return 0
}

// timesFloor is how many times the floor's time lockstore takes.
func timesFloor(s scores) float64 { return quotient(1, ratioToFloor(s)) }

func p99ToFloor(s scores) float64 {
	if r := s.own().P99Ratio; r != nil {
		return *r
	}
	return math.Inf(1)
}

func conns(s scores) float64     { return float64(s.own().Conns) }
func p50Millis(s scores) float64 { return s.own().P50 / 1000 }
func extra(name string) func(scores) float64 {
	return func(s scores) float64 { return s.own().Extra[name] }
}

// against compares the rates with another subject's, of which only counts what it
// kept.
func against(name string) func(scores) float64 {
	return func(s scores) float64 {
		other := s[name]
		rate := other.OpsPerSec
		if kept, counted := other.Extra[keptPerSecond]; counted {
			rate = kept
		}
		if rate == 0 {
			return math.Inf(1)
		}
		return s.own().OpsPerSec / rate
	}
}

const keptPerSecond = "acknowledged and kept, 1/s"

var targets = []target{
	{name: "p50, × floor", inOne: "lock/uncontended", value: timesFloor, most: 1.15},
	{name: "rate, × floor", inOne: "lock/distinct/64", value: ratioToFloor, least: 4},
	{name: "rate, × floor", inOne: "lock/distinct/256", value: ratioToFloor, least: 9},
	{name: "rate, × floor", inOne: "lock/distinct/1024", value: ratioToFloor, least: 9},
	{name: "connections", inOne: "lock/distinct/1024", value: conns, most: 1},
	{name: "rate, × go-pglock", inOne: "lock/hot/empty", value: against(goPglock.name), least: 20},
	{name: "of the ideal, %", inOne: "lock/hot/1ms", value: extra("of the ideal, %"), least: 95},
	{name: "longest wait / mean", inOne: "lock/hot/1ms", value: extra("longest wait / mean"), most: 2},
	{name: "least share of a process, %", inOne: "lock/hot/4-processes", value: extra("least share of a process, %"), least: 15},
	{name: "longest wait / mean", inOne: "lock/hot/4-processes", value: extra("longest wait / mean"), most: 20},
	{name: "connections", inOne: "lock/held/10000", value: conns, most: 2},
	{name: "until all are held, ms", inOne: "lock/held/10000", value: extra("until all are held, ms"), most: 1000},
	{name: "heap of each, B", inOne: "lock/held/10000", value: extra("heap of each, B"), most: 1024},
	{name: "p50, × floor", inOne: "merge/lone/200B", value: timesFloor, most: 1.25},
	{name: "p50, × floor", inOne: "merge/lone/2KB", value: timesFloor, most: 1.4},
	{name: "rate, × floor", inOne: "merge/one-document/16", value: ratioToFloor, least: 3},
	{name: "rate, × floor", inOne: "merge/one-document/64", value: ratioToFloor, least: 6},
	{name: "rate, × floor", inOne: "merge/one-document/256", value: ratioToFloor, least: 10},
	{name: "p99, × floor", inOne: "merge/one-document/256", value: p99ToFloor, most: 0.2},
	{name: "kept, × article v0.25", inOne: "merge/one-document/256", value: against("article v0.25"), least: 100},
	{name: "rate, × floor", inOne: "merge/one-document/1024", value: ratioToFloor, least: 12},
	{name: "rate, × floor", inOne: "merge/one-document/4-processes", value: ratioToFloor, least: 6},
	{name: "rate, × floor", inOne: "merge/spread/10000", value: ratioToFloor, least: 0.9},
	{name: "rate, × single merges", inOne: "merge/many/1000", value: against("lockstore one by one"), least: 10},
	{name: "rate, × evanphx", inOne: "mergepatch/2KB", value: against("evanphx/json-patch"), least: 1.5},
	{name: "p50, ms", inOne: "pgtest/cold-boot", value: p50Millis, most: 150},
	{name: "p50, ms", inOne: "pgtest/join", value: p50Millis, most: 15},
	{name: "p50, made ahead, ms", inOne: "pgtest/fresh", value: p50Millis, most: 8},
	{name: "p50, back to back, ms", inOne: "pgtest/fresh", most: 22,
		value: func(s scores) float64 { return s["lockstore back to back"].P50 / 1000 }},
	{name: "back to back, × pgtestdb", inOne: "pgtest/fresh", least: 1.5,
		value: func(s scores) float64 { return quotient(s["pgtestdb"].P50, s["lockstore back to back"].P50) }},
	{name: "p50, ms", inOne: "pgtest/teardown", value: p50Millis, most: 2},
}

// printTargets says which targets of the cases that were run are met.
func printTargets(out io.Writer, rows []row) error {
	byCase := map[string]scores{}
	for _, r := range rows {
		if byCase[r.Case] == nil {
			byCase[r.Case] = scores{}
		}
		byCase[r.Case][r.Subject] = r
	}
	fmt.Fprint(out, "\nTargets\n")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, t := range targets {
		s, ran := byCase[t.inOne]
		if !ran {
			continue
		}
		v := t.value(s)
		bound, met := fmt.Sprintf("≥ %v", t.least), v >= t.least
		if t.most > 0 {
			bound, met = fmt.Sprintf("≤ %v", t.most), v <= t.most
		}
		verdict := "met"
		if !met {
			verdict = "MISSED"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", t.inOne, t.name, bound, digits(v), verdict)
	}
	return w.Flush()
}
