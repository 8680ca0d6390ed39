package history

// Rights is the rule that nobody writes what it may not, and that nobody is refused
// what it may.
const Rights = "rights"

// CheckRights checks what callers were answered who had rights, or had none.
func CheckRights(events []Event) (found []Violation) {
	for _, e := range events {
		switch {
		case e.Kind == Trespass && e.Outcome == OK:
			found = append(found, Violation{Rights, e.Key, "it was written by another tenant", []Event{e}})
		case e.Kind == Rightful && e.Outcome == Refused:
			found = append(found, Violation{Rights, e.Key, "its tenant was refused", []Event{e}})
		}
	}
	return found
}
