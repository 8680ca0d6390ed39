package history

import (
	"cmp"
	"fmt"
	"slices"
)

// The rules of watchers.
const (
	ToldInOrder = "told in order" // a watcher receives no state after a later one
	ToldWhatWas = "told what was" // a watcher receives states that the document has, and only once they are written
	ToldTheLast = "told the last" // a watcher that continues receives the last state
)

// CheckWatched checks what watchers received, of documents that were never deleted.
func CheckWatched(events []Event, final map[string]Final) (found []Violation) {
	written := byKey(events, Event.made)
	for id, told := range byKey(events, func(e Event) bool { return e.Kind == Watched }) {
		seen := newStates(written[id], final[id])
		slices.SortFunc(told, func(a, b Event) int { return cmp.Compare(a.N, b.N) })
		last := map[[2]int]Event{} // by watcher
		for _, e := range told {
			violates := func(rule, reason string, events ...Event) {
				found = append(found, Violation{rule, id, reason, append(events, e)})
			}
			before, any := last[e.who()]
			switch e.Outcome {
			case Failed:
				violates(ToldTheLast, fmt.Sprintf("version %d is not told, but %d", e.Version, before.Version), before)
			case OK:
				if any && e.Version <= before.Version {
					violates(ToldInOrder, fmt.Sprintf("version %d is told after %d", e.Version, before.Version), before)
				}
				if w := seen.of[e.Version]; w.writes() && w.Call.After(e.Return) {
					violates(ToldWhatWas, "it is told before it is written", w)
				}
				if reason, by := seen.contradict(e); reason != "" {
					violates(ToldWhatWas, reason, by...)
				}
				last[e.who()] = e
			}
		}
	}
	return found
}
