package history

import "fmt"

// The rules of writes with tokens, which are repeated until their outcome is known.
const (
	ToldOnce = "told once" // in the end, each caller knows which version its write made
	MadeOnce = "made once" // each write made its own version, each update counts, and there are no other versions
)

// Increments is the value of a write with a token that increments the document's counter.
const Increments = `"update"`

// CheckOnce checks documents that are written only with tokens; each write makes a version.
func CheckOnce(events []Event, final map[string]Final) (found []Violation) {
	for id, writes := range byKey(events, func(e Event) bool { return e.Kind == Once }) {
		violates := func(rule, reason string, events ...Event) {
			found = append(found, Violation{rule, id, reason, events})
		}
		made, updates := map[int64]Event{}, int64(0)
		for _, e := range writes {
			if string(e.Value) == Increments {
				updates++
			}
			other, taken := made[e.Version]
			switch {
			case e.Outcome != OK:
				violates(ToldOnce, "it is not told what became of it", e)
			case e.Version < 1 || e.Version > final[id].Version:
				violates(MadeOnce, fmt.Sprintf("it is lost: there are %d versions", final[id].Version), e)
			case taken:
				violates(MadeOnce, "two have made the same version", other, e)
			}
			made[e.Version] = e
		}
		if versions := final[id].Version; versions > int64(len(writes)) {
			violates(MadeOnce, fmt.Sprintf("%d writes have made %d versions", len(writes), versions))
		}
		if count := fieldsOf(final[id].Document).count(); count != updates {
			violates(MadeOnce, fmt.Sprintf("%d updates have made the counter %d", updates, count))
		}
	}
	return found
}
