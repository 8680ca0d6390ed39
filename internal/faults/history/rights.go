package history

// Rights is the rule that a write succeeds if its caller has the right, and only then.
const Rights = "rights"

// CheckRights checks the outcomes of writes by the document's tenant and by others.
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
