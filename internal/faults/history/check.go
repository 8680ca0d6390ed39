package history

import "time"

// Verdict is the result of checking a history.
type Verdict struct {
	Violations []Violation
	Windows    int           // the number of windows that porcupine checked
	Overlap    time.Duration // see Overlap
}

// Check applies every rule. The holds of a document's lock have the key LockOf(id).
func Check(events []Event, final map[string]Final, pauses []Pause, grace time.Duration) (v Verdict) {
	v.Violations = CheckLocks(events, pauses, grace)
	v.Violations = append(v.Violations, CheckEvictions(events, pauses, grace)...)
	v.Violations = append(v.Violations, CheckWriters(events)...)
	v.Violations = append(v.Violations, CheckHolds(events)...)
	v.Violations = append(v.Violations, CheckGuarded(events)...)
	v.Violations = append(v.Violations, CheckHung(events)...)
	v.Violations = append(v.Violations, CheckRights(events)...)
	v.Violations = append(v.Violations, CheckDocuments(events, final)...)
	v.Violations = append(v.Violations, CheckWatched(events, final)...)
	v.Violations = append(v.Violations, CheckOnce(events, final)...)
	more, windows := CheckLinearizable(events)
	v.Violations = append(v.Violations, more...)
	v.Windows, v.Overlap = windows, Overlap(events, pauses)
	return v
}

// LockOf returns the key of the holds of a named lock.
func LockOf(name string) string { return "lock of " + name }
