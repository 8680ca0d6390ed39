package history

import "fmt"

// HeldUp is the rule of callers whose connections hang.
const HeldUp = "held up" // nobody else waits for these

// CheckHung checks that, while a caller's connection hangs, the writes of others in its
// process go on: of those that were called in the first half of that time, no more
// returned after it was over than succeeded.
func CheckHung(events []Event) (found []Violation) {
	for _, h := range events {
		if h.Hung.IsZero() {
			continue
		}
		half := h.Call.Add(h.Hung.Sub(h.Call) / 2)
		var done int
		var late []Event
		for _, e := range events {
			switch {
			case e.Process != h.Process || !e.writes() || !e.Hung.IsZero() || e.Call.Before(h.Call) || e.Call.After(half):
			case e.Return.After(h.Hung):
				late = append(late, e)
			case e.Outcome == OK:
				done++
			}
		}
		if len(late) > done {
			found = append(found, Violation{HeldUp, h.Key, fmt.Sprintf("while its connection hung %d writes of others succeeded, and %d waited for the end of that", done, len(late)), []Event{h, late[0]}})
		}
	}
	return found
}
