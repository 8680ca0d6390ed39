package history

import (
	"fmt"
	"maps"
)

// TakenBack is the rule of what is read, decided and merged under a document's lock.
const TakenBack = "taken back" // it was merged into the document that was read

// CheckGuarded checks that each Guarded that was acknowledged was made of the very
// document it had read: its holder alone may change that meanwhile. Unlike the rules
// that compare histories, it holds where a failover takes back what was acknowledged.
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

// Lost counts the acknowledged writes that are not in the documents at the end: of
// those that were given the same version one is there, and none beyond the last.
// CheckDocuments shows the first of a document only.
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
