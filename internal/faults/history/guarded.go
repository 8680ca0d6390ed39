package history

import (
	"fmt"
	"maps"
)

// TakenBack is the rule that a change that was read, decided and merged under a document's
// lock was merged into the document that was read.
const TakenBack = "taken back"

// CheckGuarded checks that each acknowledged Guarded was merged into the document that it had
// read, which only the holder may change meanwhile. Unlike the rules that compare histories,
// this one also holds if a failover loses acknowledged writes.
func CheckGuarded(events []Event) (found []Violation) {
	for _, e := range events {
		if e.Kind != Guarded || !e.made() {
			continue
		}
		expected := fieldsOf(e.Base)
		expected[e.Field] = string(e.Value)
		if e.Version != e.BaseVersion+1 || !maps.Equal(expected, fieldsOf(e.Document)) {
			found = append(found, Violation{TakenBack, e.Key, fmt.Sprintf("it read version %d, and made version %d of another\n    %s and\n    %s", e.BaseVersion, e.Version, e.Base, e.Document), []Event{e}})
		}
	}
	return found
}

// Lost counts the acknowledged writes that are not in the documents at the end: all but one of
// those with the same version, and all beyond the last version. (CheckDocuments reports only
// the first of each document.)
func Lost(events []Event, final map[string]Final) (lost int) {
	for id, writes := range byKey(events, Event.made) {
		versions := map[int64]bool{}
		for _, e := range writes {
			if versions[e.Version] || e.Version > final[id].Version {
				lost++
			}
			versions[e.Version] = true
		}
	}
	return lost
}
