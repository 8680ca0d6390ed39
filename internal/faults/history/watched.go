package history

import (
	"bytes"
	"fmt"
	"slices"
)

// The rules of watchers.
const (
	ToldInOrder = "told in order" // a watcher receives no state after a later one
	ToldWhatWas = "told what was" // a version has one document, which was written before a watcher receives it
	ToldTheLast = "told the last" // a watcher that continues receives the last state
)

// CheckWatched checks what watchers received, of documents that were never deleted.
func CheckWatched(events []Event) (found []Violation) {
	written := byKey(events, Event.made)
	for id, told := range byKey(events, func(e Event) bool { return e.Kind == Watched }) {
		documents := map[int64]Event{}
		for _, e := range written[id] {
			documents[e.Version] = e
		}
		slices.SortFunc(told, func(a, b Event) int { return int(a.N - b.N) })
		last := map[[2]int]Event{} // by watcher
		for _, e := range told {
			violates := func(rule, reason string, events ...Event) {
				found = append(found, Violation{rule, id, reason, append(events, e)})
			}
			watcher := [2]int{e.Process, e.Worker}
			before, any := last[watcher]
			same, known := documents[e.Version]
			switch {
			case e.Outcome == Failed:
				violates(ToldTheLast, fmt.Sprintf("version %d is not told, but %d", e.Version, before.Version), before)
				continue
			case e.Outcome != OK:
				continue
			case any && e.Version <= before.Version:
				violates(ToldInOrder, fmt.Sprintf("version %d is told after %d", e.Version, before.Version), before)
			case known && !bytes.Equal(e.Document, same.Document):
				violates(ToldWhatWas, fmt.Sprintf("version %d is\n    %s and\n    %s", e.Version, same.Document, e.Document), same)
			case known && same.writes() && same.Call.After(e.Return):
				violates(ToldWhatWas, "it is told before it is written", same)
			}
			last[watcher] = e
			if !known {
				documents[e.Version] = e
			}
		}
	}
	return found
}
