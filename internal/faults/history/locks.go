package history

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// The rules of locks.
const (
	Exclusion  = "exclusion"   // while a key is held exclusively, there is no other holder
	ToldLate   = "told late"   // a holder learns soon that it has lost its lock
	FenceOrder = "fence order" // a later hold of a key has a greater fence
	KeptOut    = "kept out"    // while a document's lock is held, no other caller writes the document
)

// Pause is a time in which a process could not learn of anything: it was stopped, or the
// machine did not run it, or its network lost what the server sent.
type Pause struct {
	Process  int // or Everybody
	From, To time.Time
	Silence  time.Duration // of the network: the process notices it within Silence and a third; 0: it was stopped
}

// Everybody is the Process of a Pause that affects all processes.
const Everybody = -1

// CheckLocks checks holds. A hold that was lost may overlap its successor by grace: the server
// grants the key to the next waiter when it ends a session, and the network needs time to
// report that. See also untold.
func CheckLocks(events []Event, pauses []Pause, grace time.Duration) (found []Violation) {
	for key, holds := range byKey(events, func(e Event) bool { return e.Kind == Hold && e.Outcome == OK }) {
		slices.SortFunc(holds, byReturn)
		var held []Event // holds that may overlap later ones
		var fence Event  // the exclusive hold with the greatest fence
		ended := slices.Clone(holds)
		slices.SortFunc(ended, func(a, b Event) int { return a.Until.Compare(b.Until) })
		for _, b := range holds {
			held = slices.DeleteFunc(held, func(a Event) bool { return !a.Until.After(b.Return) })
			for _, a := range held {
				if a.Shared && b.Shared {
					continue
				}
				both := earliest(a.Until, b.Until).Sub(b.Return)
				// One of them lost the key before the other got it. That can be the second one
				// only if it may have got the key first.
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

// CheckWriters checks that no document was written while another caller held its lock. A write
// happens at some moment between its call and its return.
func CheckWriters(events []Event) (found []Violation) {
	holds := byKey(events, func(e Event) bool { return e.Kind == Hold && e.Outcome == OK && !e.Lost })
	for _, t := range holds {
		slices.SortFunc(t, byReturn)
	}
	for id, writes := range byKey(events, Event.made) {
		t := holds[LockOf(id)]
		for _, w := range writes {
			after, _ := slices.BinarySearchFunc(t, w, func(a, w Event) int { return a.Return.Compare(w.Call) })
			if after == 0 {
				continue
			}
			if h := t[after-1]; w.Return.Before(h.Until) && w.who() != h.who() {
				found = append(found, Violation{KeptOut, id, "it was written by one who did not have its lock", []Event{h, w}})
			}
		}
	}
	return found
}

// Overlap returns the longest overlap of a lost hold and its successor, without pauses.
func Overlap(events []Event, pauses []Pause) (longest time.Duration) {
	for _, holds := range byKey(events, func(e Event) bool { return e.Kind == Hold && e.Outcome == OK && !e.Shared }) {
		slices.SortFunc(holds, byReturn)
		for i, b := range holds {
			if i > 0 && holds[i-1].Lost {
				a := holds[i-1]
				longest = max(longest, earliest(a.Until, b.Until).Sub(b.Return)-paused(pauses, a.Process, b.Return, a.Until))
			}
		}
	}
	return longest
}

// untold returns how long a process may be unaware that its session has ended, because its
// network lost the message: until it notices the silence, or until grace after the network is
// back. It is zero if the network lost nothing.
func untold(pauses []Pause, process int, ended time.Time, grace time.Duration) time.Duration {
	for _, p := range pauses {
		if p.Process == process && p.Silence > 0 && !p.From.After(ended) && p.To.After(ended) {
			return min(p.Silence+p.Silence/3, p.To.Sub(ended)+grace)
		}
	}
	return 0
}

// paused returns how long a process was stopped between two moments.
func paused(pauses []Pause, process int, from, to time.Time) (sum time.Duration) {
	pauses = slices.DeleteFunc(slices.Clone(pauses), func(p Pause) bool {
		return p.Process != process && p.Process != Everybody || p.Silence > 0 || p.To.Before(from) || p.From.After(to)
	})
	slices.SortFunc(pauses, func(a, b Pause) int { return a.From.Compare(b.From) })
	for _, p := range pauses { // they may overlap
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

func byCall(a, b Event) int    { return a.Call.Compare(b.Call) }
func byReturn(a, b Event) int  { return a.Return.Compare(b.Return) }
func byVersion(a, b Event) int { return cmp.Compare(a.Version, b.Version) }
