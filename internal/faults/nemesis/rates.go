package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"example.com/lockstore/internal/faults/history"
	"example.com/lockstore/internal/faults/neighbour"
)

// A phase is a time with one attack of the neighbour, or none.
type phase struct {
	attack   string // empty: none
	from, to time.Time
}

// How long a phase is measured, and how long after its begin.
const (
	measured = 500 * time.Millisecond
	leadIn   = 100 * time.Millisecond
)

// alternate alternates between no attack and one of the neighbour's attacks: each once before
// any is repeated.
func (n *nemesis) alternate(ctx context.Context) error {
	hostile := append(attacks(neighbour.Attacks...), tenant)
	harmless := attacks(neighbour.Load)
	all := append(harmless, hostile...)
	all = append(all, together("all attacks at once", hostile), together("as many queries", slices.Repeat(harmless, len(hostile))))
	for deadline := time.Now().Add(time.Duration(n.seconds) * time.Second); time.Now().Before(deadline); {
		for _, i := range n.rand.Perm(len(all)) {
			n.phase("")
			if err := all[i].do(n, ctx, n.clients[n.rand.IntN(len(n.clients))], leadIn+measured); err != nil {
				return err
			}
			n.started[all[i].name]++
			n.phase(all[i].name)
			n.attacks.Wait()
		}
	}
	n.phase("")
	return nil
}

func together(name string, faults []fault) fault {
	return fault{name, func(n *nemesis, ctx context.Context, c *client, d time.Duration) error {
		for _, f := range faults {
			if err := f.do(n, ctx, c, d); err != nil {
				return err
			}
		}
		return nil
	}}
}

func (n *nemesis) phase(attack string) {
	time.Sleep(leadIn)
	from := time.Now()
	time.Sleep(measured)
	n.phases = append(n.phases, phase{attack, from, time.Now()})
}

// A Rate is the clients' rate of successful calls during an attack, as a share of the rate
// before and after it.
type Rate struct {
	Attack string  `json:"attack"`
	Turns  int     `json:"turns"`
	Quiet  float64 `json:"quiet_per_second"` // the median
	Kept   float64 `json:"kept"`             // the median
	Least  float64 `json:"least"`
	Most   float64 `json:"most"`
	Locks  float64 `json:"locks_kept"` // of locks alone, the median
	Writes float64 `json:"writes_kept"`
}

func (r Rate) String() string {
	return fmt.Sprintf("%-40s %.2f of %.0f calls/s are kept (%.2f to %.2f in %d turns; locks %.2f, writes %.2f)",
		r.Attack, r.Kept, r.Quiet, r.Least, r.Most, r.Turns, r.Locks, r.Writes)
}

// rates compares each phase with an attack to those around it.
func (n *nemesis) rates(events []history.Event) (rates []Rate) {
	type turn struct{ quiet, kept, locks, writes float64 }
	turns := map[string][]turn{}
	all := n.tally(events)
	for i, p := range n.phases {
		if p.attack != "" {
			before, beside, after := all[i-1], all[i], all[i+1]
			turns[p.attack] = append(turns[p.attack], turn{
				(before.locks + before.writes + after.locks + after.writes) / 2,
				2 * (beside.locks + beside.writes) / (before.locks + before.writes + after.locks + after.writes),
				2 * beside.locks / (before.locks + after.locks),
				2 * beside.writes / (before.writes + after.writes),
			})
		}
	}
	for attack, of := range turns {
		sorted := func(value func(turn) float64) (all []float64) {
			for _, t := range of {
				all = append(all, value(t))
			}
			slices.Sort(all)
			return all
		}
		median := func(value func(turn) float64) float64 { return sorted(value)[len(of)/2] }
		kept := sorted(func(t turn) float64 { return t.kept })
		rates = append(rates, Rate{
			Attack: attack, Turns: len(of), Quiet: median(func(t turn) float64 { return t.quiet }),
			Kept: kept[len(of)/2], Least: kept[0], Most: kept[len(of)-1],
			Locks:  median(func(t turn) float64 { return t.locks }),
			Writes: median(func(t turn) float64 { return t.writes }),
		})
	}
	slices.SortFunc(rates, func(a, b Rate) int { return cmp.Compare(a.Kept, b.Kept) })
	return rates
}

// A tally counts the calls that succeeded in a second of a phase.
type tally struct{ locks, writes float64 }

func (n *nemesis) tally(events []history.Event) []tally {
	all := make([]tally, len(n.phases))
	for _, e := range events {
		i, _ := slices.BinarySearchFunc(n.phases, e.Return, func(p phase, t time.Time) int { return p.to.Compare(t) })
		if i == len(all) || e.Return.Before(n.phases[i].from) || e.Outcome != history.OK {
			continue
		}
		each := 1 / n.phases[i].to.Sub(n.phases[i].from).Seconds()
		switch e.Kind {
		case history.Hold:
			all[i].locks += each
		case history.Merge, history.Update, history.Replace, history.Guarded:
			all[i].writes += each
		}
	}
	return all
}
