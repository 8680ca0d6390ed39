package history

import (
	"fmt"
	"slices"
)

// Undisturbed is the rule that only the holder of a document's lock changes the document.
const Undisturbed = "undisturbed"

// CheckHolds checks that, while a document's lock is held, only the holder's writes change the
// document, whenever other writes were called.
//
// Versions show the order of changes. A version greater than any document seen after Lock
// returned was made afterwards. A version less than that of a write under the hold was made
// before the server found, for that write, that the lock was still held. All versions between
// these two must be the holder's. This also applies to holds that were lost: what counts is what
// the server allowed, not when the holder learned of the loss.
func CheckHolds(events []Event) (found []Violation) {
	byLock := byKey(events, func(e Event) bool { return e.Kind == Hold && e.Outcome == OK && !e.Shared })
	for id, calls := range byKey(events, func(e Event) bool { return e.writes() || e.Kind == Get }) {
		holds := byLock[LockOf(id)]
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

// holds has the calls on one document, for checking the holds of its lock.
type holds struct {
	made map[int64]Event    // writes, by version
	of   map[[2]int][]Event // writes, by caller, in the order of their calls
	seen []Event            // calls that returned the document, in the order of their calls
	low  []Event            // for each of seen: the event with the least version from there on
}

func newHolds(calls []Event) *holds {
	d := &holds{made: map[int64]Event{}, of: map[[2]int][]Event{}}
	slices.SortFunc(calls, byCall)
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

// disturbed finds a version that another caller made under the hold h, and the events that
// show it.
func (d *holds) disturbed(h Event) (by []Event, reason string) {
	first, _ := slices.BinarySearchFunc(d.seen, h, func(e, h Event) int { return e.Call.Compare(h.Return) })
	if first == len(d.seen) {
		return nil, ""
	}
	before, maybe := d.low[first], 0 // maybe counts the holder's writes whose outcome it does not know
	var last Event
	mine := d.of[h.who()]
	from, _ := slices.BinarySearchFunc(mine, h, func(e, h Event) int { return e.Call.Compare(h.Return) })
	for _, e := range mine[from:] {
		if e.Call.After(h.Until) {
			break
		}
		if !e.made() { // other rules check those that failed
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
