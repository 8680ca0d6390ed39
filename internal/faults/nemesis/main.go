// Program nemesis injects faults into processes that lock and merge, into their network and into
// their server. Then it checks what the processes saw.
//
//	go run ./nemesis -seconds 60 -seed 7 [-json]
//	go run ./nemesis -neighbour
//
// With -neighbour there are no faults, but attacks by a hostile neighbour in the same database.
// It prints the rate that the processes keep meanwhile.
//
// The seed decides which faults there are, their processes and their order, but not how they
// coincide with calls. The exit status is 1 if a rule was violated.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"time"

	"example.com/lockstore/internal/faults/history"
)

func main() {
	if os.Getenv(childEnv) != "" {
		if err := child(); err != nil {
			fmt.Fprintln(os.Stderr, "nemesis:", err)
			os.Exit(1)
		}
		return
	}
	seconds := flag.Int("seconds", 60, "how long there are faults, but for the recovery at the end")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()%1_000_000), "decides on the faults")
	asJSON := flag.Bool("json", false, "print the report as JSON, and nothing else")
	processes := flag.Int("processes", 4, "how many processes use lockstore")
	workers := flag.Int("workers", 12, "goroutines of each that have patience")
	hasty := flag.Int("hasty", 24, "goroutines of each whose contexts end about when their calls do")
	watchers := flag.Int("watchers", 4, "goroutines of each that watch")
	repeaters := flag.Int("repeaters", 4, "goroutines of each that make writes once, and repeat them until they are told")
	only := flag.String("only", "", "a single kind of fault")
	peaceful := flag.Bool("neighbour", false, "hurt nothing, have a hostile neighbour come and go, and print the rate that the others keep")
	keep := flag.String("history", "", "a file for all that the processes saw, one event a line")
	flag.Parse()
	fmt.Fprintf(os.Stderr, "seed %d\n", *seed)
	if *peaceful { // hasty goroutines have their own rate
		*hasty = 0
	}
	n := nemesis{seed: *seed, workers: *workers, hasty: *hasty, watchers: *watchers, repeaters: *repeaters, seconds: *seconds, only: *only, peaceful: *peaceful, keep: *keep, started: map[string]int{}}
	r, err := n.run(context.Background(), *processes)
	if err != nil {
		fmt.Fprintln(os.Stderr, "nemesis:", err)
		os.Exit(1)
	}
	if *asJSON {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		_ = encoder.Encode(r)
	} else {
		fmt.Println(r)
	}
	if len(r.Violations)+len(r.Leaks) > 0 {
		os.Exit(1)
	}
}

// A Report is the result of a run.
type Report struct {
	Seed       uint64              `json:"seed"`
	Seconds    int                 `json:"seconds"`
	Operations int                 `json:"operations"`
	Kinds      map[string]int      `json:"operations_by_kind"`
	Faults     map[string]int      `json:"faults"`
	FaultKinds int                 `json:"fault_kinds"`
	Failed     int                 `json:"failed"`
	Unknown    int                 `json:"unknown_outcomes"`
	LostLocks  int                 `json:"lost_locks"`
	Recovery   float64             `json:"longest_recovery_ms"`
	Overlap    float64             `json:"longest_overlap_after_loss_ms"`
	Windows    int                 `json:"porcupine_windows"`
	Rates      []Rate              `json:"rates,omitempty"`
	Violations []history.Violation `json:"violations"`
	Beside     [][]Spell           `json:"beside_violations,omitempty"` // for each violation: the faults during it
	Leaks      []string            `json:"leaks"`
}

func (r *Report) count(events []history.Event) {
	r.Kinds = map[string]int{}
	for _, e := range events {
		r.Operations++
		r.Kinds[string(e.Kind)]++
		switch {
		case e.Outcome == history.Failed:
			r.Failed++
		case e.Outcome == history.Unknown:
			r.Unknown++
		case e.Kind == history.Hold && e.Lost:
			r.LostLocks++
		}
	}
}

func (r Report) String() string {
	s := fmt.Sprintf("seed %d, %d s: %d operations %v, %d failed, %d of unknown outcome, %d locks lost\n",
		r.Seed, r.Seconds, r.Operations, r.Kinds, r.Failed, r.Unknown, r.LostLocks)
	s += fmt.Sprintf("%d kinds of fault:", r.FaultKinds)
	kinds := make([]string, 0, len(r.Faults))
	for kind := range r.Faults {
		kinds = append(kinds, kind)
	}
	slices.Sort(kinds)
	for _, kind := range kinds {
		s += fmt.Sprintf(" %s %d;", kind, r.Faults[kind])
	}
	s += fmt.Sprintf("\nlongest recovery %.0f ms, longest overlap after a loss %.1f ms, %d porcupine windows\n%d violations, %d leaks",
		r.Recovery, r.Overlap, r.Windows, len(r.Violations), len(r.Leaks))
	for _, rate := range r.Rates {
		s += "\n" + rate.String()
	}
	for i, v := range r.Violations {
		if i == 20 {
			s += "\n…"
			break
		}
		s += "\n" + v.String()
		for _, spell := range r.Beside[i] {
			s += "\n    beside: " + spell.String()
		}
	}
	for _, leak := range r.Leaks {
		s += "\n" + leak
	}
	return s
}
