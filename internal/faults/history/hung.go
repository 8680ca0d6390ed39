package history

import (
	"fmt"
	"slices"
	"time"
)

// HeldUp is the rule that no other caller waits for a caller whose connection hangs.
const HeldUp = "held up"

// released is how long calls take at most to return once the hanging connection is free.
const released = time.Second

// CheckHung checks that, while a caller's connection hangs, the writes of other callers in its
// process continue. Of the writes that were called in the first half of that time, at least as
// many must have succeeded meanwhile as returned when it was over. Not counted are writes that
// wait even longer, which wait for something else, and writes of a document for which other
// processes wait, too, which a transaction left by an earlier fault locks.
func CheckHung(events []Event) (found []Violation) {
	for _, h := range events {
		if h.Hung.IsZero() {
			continue
		}
		half := h.Call.Add(h.Hung.Sub(h.Call) / 2)
		var done int
		var late []Event
		waits, goesOn := map[string]bool{}, map[string]bool{} // documents, elsewhere
		for _, e := range events {
			here := e.Process == h.Process
			switch {
			case !e.writes() || !e.Hung.IsZero() || e.Call.Before(h.Call) || e.Call.After(half):
			case here && e.Return.After(h.Hung):
				if e.Return.Before(h.Hung.Add(released)) {
					late = append(late, e)
				}
			case here && e.Outcome == OK:
				done++
			case !here && e.Return.After(h.Hung):
				waits[e.Key] = true
			case !here && e.Outcome == OK:
				goesOn[e.Key] = true
			}
		}
		late = slices.DeleteFunc(late, func(e Event) bool { return waits[e.Key] && !goesOn[e.Key] })
		if len(late) > done {
			found = append(found, Violation{HeldUp, h.Key, fmt.Sprintf("while its connection hung %d writes of others succeeded, and %d waited for the end of that", done, len(late)), []Event{h, late[0]}})
		}
	}
	return found
}
