package history

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// The rules of locks.
const (
	Exclusion  = "exclusion"   // while one holds a key alone, nobody else does
	ToldLate   = "told late"   // who has lost a lock is told before long
	FenceOrder = "fence order" // a later tenure of a key has a greater fence
	KeptOut    = "kept out"    // who has a document's lock keeps other writers out
)

// Pause is a time in which a process could be told nothing: it was stopped, or the machine
// had no time for it, or its network lost what the server sent.
type Pause struct {
	Process  int // or Everybody
	From, To time.Time
	Silence  time.Duration // of the network, of which the process may take a third more to notice it; 0: it stood still
}

// Everybody is the Process of a Pause of all, such as that of what stands between them and the server.
const Everybody = -1

// CheckLocks checks tenures. A tenure that was lost may overlap its successor
// by grace: the server gives a key away at the moment at which it ends a
// session, and the network needs a while to tell. See also untold.
func CheckLocks(events []Event, pauses []Pause, grace time.Duration) (found []Violation) {
	for key, tenures := range byKey(events, func(e Event) bool { return e.Kind == Tenure && e.Outcome == OK }) {
		slices.SortFunc(tenures, func(a, b Event) int { return a.Return.Compare(b.Return) })
		var held []Event // that may overlap what comes
		var fence Event  // the greatest among tenures alone
		ended := slices.Clone(tenures)
		slices.SortFunc(ended, func(a, b Event) int { return a.Until.Compare(b.Until) })
		for _, b := range tenures {
			held = slices.DeleteFunc(held, func(a Event) bool { return !a.Until.After(b.Return) })
			for _, a := range held {
				if a.Shared && b.Shared {
					continue
				}
				both := earliest(a.Until, b.Until).Sub(b.Return)
				// One of them had lost it before the other was granted it: the second one can
				// be that only if it may have been granted it first.
				toldInTime := func(loser Event) bool {
					return loser.Lost && both-paused(pauses, loser.Process, b.Return, loser.Until) <= max(grace, untold(pauses, loser.Process, b.Return, grace))
				}
				switch {
				case !a.Lost && !b.Lost:
					found = append(found, Violation{Exclusion, key, fmt.Sprintf("two held it for %v", both), []Event{a, b}})
				case !toldInTime(a) && !(b.Call.Before(a.Return) && toldInTime(b)):
					found = append(found, Violation{ToldLate, key, fmt.Sprintf("two held it for %v", both), []Event{a, b}})
				}
			}
			held = append(held, b)
			for ; len(ended) > 0 && !ended[0].Until.After(b.Return); ended = ended[1:] {
				if a := ended[0]; !a.Shared && a.Fence > fence.Fence {
					fence = a
				}
			}
			if !b.Shared && b.Fence != 0 && b.Fence <= fence.Fence {
				found = append(found, Violation{FenceOrder, key, fmt.Sprintf("%d came after %d", b.Fence, fence.Fence), []Event{fence, b}})
			}
		}
	}
	return found
}

// CheckWriters checks that nobody wrote a document while another had its lock,
// whose tenures have the key that lockOf returns. Each write was made at some
// moment between its call and its return.
func CheckWriters(events []Event, lockOf func(id string) string) (found []Violation) {
	tenures := byKey(events, func(e Event) bool { return e.Kind == Tenure && e.Outcome == OK && !e.Lost })
	for _, t := range tenures {
		slices.SortFunc(t, func(a, b Event) int { return a.Return.Compare(b.Return) })
	}
	for id, writes := range byKey(events, Event.made) {
		t := tenures[lockOf(id)]
		for _, w := range writes {
			after, _ := slices.BinarySearchFunc(t, w, func(a, w Event) int { return a.Return.Compare(w.Call) })
			if after == 0 {
				continue
			}
			if h := t[after-1]; w.Return.Before(h.Until) && (w.Process != h.Process || w.Worker != h.Worker) {
				found = append(found, Violation{KeptOut, id, "it was written by one who did not have its lock", []Event{h, w}})
			}
		}
	}
	return found
}

// Overlap is the longest time for which a lost tenure and its successor
// overlapped, but for pauses.
func Overlap(events []Event, pauses []Pause) (longest time.Duration) {
	for _, tenures := range byKey(events, func(e Event) bool { return e.Kind == Tenure && e.Outcome == OK && !e.Shared }) {
		slices.SortFunc(tenures, func(a, b Event) int { return a.Return.Compare(b.Return) })
		for i, b := range tenures {
			if i > 0 && tenures[i-1].Lost {
				a := tenures[i-1]
				longest = max(longest, earliest(a.Until, b.Until).Sub(b.Return)-paused(pauses, a.Process, b.Return, a.Until))
			}
		}
	}
	return longest
}

// untold is how long after a session has ended, while the network lost what its process was
// to be told of that, the process may know nothing of it: until it has noticed the silence,
// or for grace once the network is back. Zero: the network lost nothing.
func untold(pauses []Pause, process int, ended time.Time, grace time.Duration) time.Duration {
	for _, p := range pauses {
		if p.Process == process && p.Silence > 0 && !p.From.After(ended) && p.To.After(ended) {
			return min(p.Silence+p.Silence/3, p.To.Sub(ended)+grace)
		}
	}
	return 0
}

// paused is for how long a process stood still between two moments.
func paused(pauses []Pause, process int, from, to time.Time) (sum time.Duration) {
	pauses = slices.DeleteFunc(slices.Clone(pauses), func(p Pause) bool {
		return p.Process != process && p.Process != Everybody || p.Silence > 0 || p.To.Before(from) || p.From.After(to)
	})
	slices.SortFunc(pauses, func(a, b Pause) int { return a.From.Compare(b.From) })
	for _, p := range pauses { // of which some are at the same time
		begin, end := p.From, earliest(p.To, to)
		if begin.Before(from) {
			begin = from
		}
		if end.After(begin) {
			sum += end.Sub(begin)
			from = end
		}
	}
	return sum
}

func earliest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func byKey(events []Event, wanted func(Event) bool) map[string][]Event {
	keys := map[string][]Event{}
	for _, e := range events {
		if wanted(e) {
			keys[e.Key] = append(keys[e.Key], e)
		}
	}
	return keys
}

func byVersion(a, b Event) int { return cmp.Compare(a.Version, b.Version) }
