package history

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// Linearizable is the rule that porcupine checks: each operation takes effect
// at one moment between its call and its return.
const Linearizable = "linearizability"

// window is how many operations of one key porcupine is given at a time.
const window = 1000

// judgement bounds the time porcupine may take for one window. A window that
// it cannot decide on counts as a violation.
const judgement = 20 * time.Second

// CheckLinearizable checks locks and documents with porcupine, key by key, in
// windows. A part of a history that is linearizable is so by itself, from the
// state in which it begins.
func CheckLinearizable(events []Event) (found []Violation, windows int) {
	check := func(model porcupine.Model, key string, ops []porcupine.Operation, events []Event) {
		windows++
		if result := porcupine.CheckOperationsTimeout(model, ops, judgement); result != porcupine.Ok {
			found = append(found, Violation{Linearizable, key, fmt.Sprintf("porcupine says %s", result), shortest(model, ops, events)})
		}
	}
	for key, tenures := range byKey(events, func(e Event) bool { return e.Kind == Tenure && e.Outcome == OK && !e.Shared }) {
		slices.SortFunc(tenures, func(a, b Event) int { return a.Return.Compare(b.Return) })
		for part := range slices.Chunk(tenures, window/2) {
			check(lockModel, key, lockOperations(part), part)
		}
	}
	for key, writes := range byKey(events, Event.made) {
		slices.SortFunc(writes, func(a, b Event) int { return cmp.Compare(a.Version, b.Version) })
		for part := range slices.Chunk(writes, window) {
			check(versionModel, key, writeOperations(part), part)
		}
	}
	return found, windows
}

// shortest is the shortest run of operations that is wrong by itself, given
// that all of them are.
func shortest(model porcupine.Model, ops []porcupine.Operation, events []Event) []Event {
	bad := func(n int) bool {
		return porcupine.CheckOperationsTimeout(model, ops[:n], time.Second) == porcupine.Illegal
	}
	n := len(ops)
	if bad(n) {
		for low := 0; low < n; { // the more operations, the more can be wrong
			if mid := (low + n) / 2; bad(mid) {
				n = mid
			} else {
				low = mid + 1
			}
		}
	}
	per := len(ops) / len(events)
	end := (n + per - 1) / per
	return events[max(0, end-3):end]
}

type lockInput struct {
	release bool
	tenure  int
}

// lockModel is a key: free (0), or held by the tenure with a number.
var lockModel = porcupine.Model{
	Init: func() any { return 0 },
	Step: func(state, input, _ any) (bool, any) {
		in, holder := input.(lockInput), state.(int)
		if in.release {
			return holder == in.tenure, 0
		}
		return holder == 0, in.tenure
	},
	DescribeOperation: func(input, _ any) string { return fmt.Sprint(input) },
}

// lockOperations makes two operations of each tenure. A lock is given back
// between the call of Unlock and its return; one that is lost, at any time
// after it was granted and before that was told.
func lockOperations(tenures []Event) (ops []porcupine.Operation) {
	var last time.Time
	for _, e := range tenures {
		last = latest(last, latest(e.Until, e.Unlocked))
	}
	for i, e := range tenures {
		from, to := e.Until, e.Unlocked
		switch {
		case e.Lost:
			from, to = e.Call, latest(e.Return, e.Until)
		case to.IsZero():
			to = last
		}
		ops = append(ops,
			porcupine.Operation{ClientId: 2 * i, Input: lockInput{false, i + 1}, Call: e.Call.UnixNano(), Return: e.Return.UnixNano()},
			porcupine.Operation{ClientId: 2*i + 1, Input: lockInput{true, i + 1}, Call: from.UnixNano(), Return: to.UnixNano() + 1},
		)
	}
	return ops
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// versionModel is a document: the state is how many of the writes have been
// made, whose versions give their order. (What there is between versions that
// do not follow each other, CheckDocuments finds out.)
var versionModel = porcupine.Model{
	Init:              func() any { return 0 },
	Step:              func(state, input, _ any) (bool, any) { return state == input, state.(int) + 1 },
	DescribeOperation: func(input, output any) string { return fmt.Sprint("version ", output) },
}

func writeOperations(writes []Event) (ops []porcupine.Operation) {
	for i, e := range writes {
		ops = append(ops, porcupine.Operation{ClientId: i, Input: i, Output: e.Version, Call: e.Call.UnixNano(), Return: e.Return.UnixNano()})
	}
	return ops
}
