package history

import (
	"fmt"
	"slices"
)

// Undisturbed is the rule of who changes documents that it has locked.
const Undisturbed = "undisturbed" // a document whose lock is held changes by its holder's writes only

// CheckHolds checks that no document changed under somebody's hold but by its
// holder, also by a write that was called before that hold. The tenures of a
// document's lock have the key that lockOf returns.
//
// Versions tell what changed when. One that is greater than any document seen
// after Lock returned was made afterwards; one that is less than that of a
// write under the hold was made before the server found, for that write, that
// the lock was still held. Between these two all versions are the holder's.
// That holds for those who have lost the lock, too: not by what they were told
// or when, but by what the server let them do.
func CheckHolds(events []Event, lockOf func(id string) string) (found []Violation) {
	tenures := byKey(events, func(e Event) bool { return e.Kind == Tenure && e.Outcome == OK && !e.Shared })
	for id, calls := range byKey(events, func(e Event) bool { return e.writes() || e.Kind == Get }) {
		holds := tenures[lockOf(id)]
		if len(holds) == 0 {
			continue
		}
		d := newHolds(calls)
		for _, h := range holds {
			if by, reason := d.disturbed(h); reason != "" {
				found = append(found, Violation{Undisturbed, id, reason, by})
			}
		}
	}
	return found
}

// holds are the calls on one document, for whoever held its lock.
type holds struct {
	made map[int64]Event    // writes, by version
	of   map[[2]int][]Event // writes, by process and worker, in the order of their calls
	seen []Event            // calls that returned the document, in the order of their calls
	low  []Event            // for each of seen, what returned the least version from there on
}

func newHolds(calls []Event) *holds {
	d := &holds{made: map[int64]Event{}, of: map[[2]int][]Event{}}
	slices.SortFunc(calls, func(a, b Event) int { return a.Call.Compare(b.Call) })
	for _, e := range calls {
		if e.writes() {
			d.of[e.who()] = append(d.of[e.who()], e)
		}
		if e.Outcome == OK && e.Version > 0 {
			d.seen = append(d.seen, e)
			if e.made() {
				d.made[e.Version] = e
			}
		}
	}
	d.low = slices.Clone(d.seen)
	for i := len(d.low) - 2; i >= 0; i-- {
		if d.low[i+1].Version < d.low[i].Version {
			d.low[i] = d.low[i+1]
		}
	}
	return d
}

func (e Event) who() [2]int { return [2]int{e.Process, e.Worker} }

// disturbed finds a version that was made under the hold h by somebody else,
// and the events that show it.
func (d *holds) disturbed(h Event) (by []Event, reason string) {
	first, _ := slices.BinarySearchFunc(d.seen, h, func(e, h Event) int { return e.Call.Compare(h.Return) })
	if first == len(d.seen) {
		return nil, ""
	}
	before, maybe := d.low[first], 0 // made by the holder, which was not told of it
	var last Event
	mine := d.of[h.who()]
	from, _ := slices.BinarySearchFunc(mine, h, func(e, h Event) int { return e.Call.Compare(h.Return) })
	for _, e := range mine[from:] {
		if e.Call.After(h.Until) {
			break
		}
		if !e.made() { // other rules judge those that were to fail
			maybe++
		} else if e.Version > last.Version && !e.Return.After(h.Until) {
			last = e
		}
	}
	for version := before.Version + 1; version < last.Version; version++ {
		w, known := d.made[version]
		switch {
		case known && w.who() != h.who():
			return []Event{h, before, w, last}, fmt.Sprintf("version %d was made between %d and %d, under the hold of another", version, before.Version, last.Version)
		case !known:
			if maybe--; maybe < 0 {
				return []Event{h, before, last}, fmt.Sprintf("version %d was made between %d and %d, and not by the holder", version, before.Version, last.Version)
			}
		}
	}
	return nil, ""
}
