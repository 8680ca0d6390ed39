package history

import (
	"fmt"
	"slices"
	"time"
)

// HeldUp is the rule of callers whose connections hang.
const HeldUp = "held up" // nobody else waits for these

// released is how long it takes at most to return once what was waited for has come.
const released = time.Second

// CheckHung checks that, while a caller's connection hangs, the writes of others in its
// process go on: of those that were called in the first half of that time, no more
// returned once it was over than succeeded. Those that go on waiting then do not count, as
// they wait for something else, nor do those of a document that other processes wait for,
// too: an earlier fault has left a transaction that keeps it.
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
