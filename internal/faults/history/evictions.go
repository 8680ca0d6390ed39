package history

import (
	"fmt"
	"time"
)

// The rules of evictions, and of neighbours.
const (
	Freed    = "freed"    // when Evict returns nil, the key's holds that had been granted before have ended
	Unharmed = "unharmed" // without faults, holds are lost only to evictions, and no outcome is unknown
)

// CheckEvictions checks that no hold outlives, by more than grace, an eviction that was called
// after its grant and returned nil. See also untold.
func CheckEvictions(events []Event, pauses []Pause, grace time.Duration) (found []Violation) {
	holds := byKey(events, func(e Event) bool { return e.Kind == Hold && e.Outcome == OK })
	for key, evictions := range byKey(events, func(e Event) bool { return e.Kind == Eviction && e.Outcome == OK }) {
		for _, t := range holds[key] {
			for _, v := range evictions {
				if v.Call.Before(t.Return) || t.Until.Sub(v.Return) <= grace {
					continue
				}
				if held := t.Until.Sub(v.Return) - paused(pauses, t.Process, v.Return, t.Until); held > max(grace, untold(pauses, t.Process, v.Return, grace)) {
					found = append(found, Violation{Freed, key, fmt.Sprintf("it was held for %v more", held), []Event{t, v}})
				}
			}
		}
	}
	return found
}

// CheckUnharmed checks a history without faults of the callers, their server or their network;
// others may have attacked in the same database. An evicted holder may learn of that up to
// grace after Evict has returned.
func CheckUnharmed(events []Event, grace time.Duration) (found []Violation) {
	evictions := byKey(events, func(e Event) bool { return e.Kind == Eviction })
	evicted := func(t Event) bool {
		for _, v := range evictions[t.Key] {
			if v.Call.Before(t.Until) && v.Return.Add(grace).After(t.Until) {
				return true
			}
		}
		return false
	}
	for _, e := range events {
		switch {
		case e.writes() && e.Outcome == Unknown:
			found = append(found, Violation{Unharmed, e.Key, "its outcome is unknown", []Event{e}})
		case e.Kind == Hold && e.Lost && !evicted(e):
			found = append(found, Violation{Unharmed, e.Key, "nobody evicted it", []Event{e}})
		}
	}
	return found
}
