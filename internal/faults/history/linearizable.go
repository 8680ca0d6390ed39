package history

import (
	"fmt"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// Linearizable is the rule that porcupine checks: each operation takes effect at one moment
// between its call and its return.
const Linearizable = "linearizability"

// window is the number of operations of one key that porcupine checks at a time.
const window = 1000

// judgement limits porcupine's time for one window. A window that it cannot decide in that
// time counts as a violation.
const judgement = 20 * time.Second

// CheckLinearizable checks locks and documents with porcupine, key by key, in windows. (Each
// part of a linearizable history is linearizable, from the state in which it begins.)
func CheckLinearizable(events []Event) (found []Violation, windows int) {
	check := func(model porcupine.Model, key string, ops []porcupine.Operation, events []Event) {
		windows++
		if result := porcupine.CheckOperationsTimeout(model, ops, judgement); result != porcupine.Ok {
			found = append(found, Violation{Linearizable, key, fmt.Sprintf("porcupine says %s", result), shortest(model, ops, events)})
		}
	}
	for key, holds := range byKey(events, func(e Event) bool { return e.Kind == Hold && e.Outcome == OK && !e.Shared }) {
		slices.SortFunc(holds, byReturn)
		for part := range slices.Chunk(holds, window/2) {
			check(lockModel, key, lockOperations(part), part)
		}
	}
	for key, writes := range byKey(events, Event.made) {
		slices.SortFunc(writes, byVersion)
		for part := range slices.Chunk(writes, window) {
			check(versionModel, key, writeOperations(part), part)
		}
	}
	return found, windows
}

// shortest returns the events at the end of the shortest prefix that is not linearizable.
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
	hold    int
}

// lockModel models a key: free (0), or held by the hold with this number.
var lockModel = porcupine.Model{
	Init: func() any { return 0 },
	Step: func(state, input, _ any) (bool, any) {
		in, holder := input.(lockInput), state.(int)
		if in.release {
			return holder == in.hold, 0
		}
		return holder == 0, in.hold
	},
}

// lockOperations makes two operations of each hold. A lock is released between the call of
// Unlock and its return. A lock that is lost ends at any time between its grant and the moment
// when the holder learns of the loss.
func lockOperations(holds []Event) (ops []porcupine.Operation) {
	var last time.Time
	for _, e := range holds {
		last = latest(last, latest(e.Until, e.Unlocked))
	}
	for i, e := range holds {
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

// versionModel models a document. The state is the number of writes so far; their versions give
// the order. (CheckDocuments checks gaps between versions.)
var versionModel = porcupine.Model{
	Init: func() any { return 0 },
	Step: func(state, input, _ any) (bool, any) { return state == input, state.(int) + 1 },
}

func writeOperations(writes []Event) (ops []porcupine.Operation) {
	for i, e := range writes {
		ops = append(ops, porcupine.Operation{ClientId: i, Input: i, Call: e.Call.UnixNano(), Return: e.Return.UnixNano()})
	}
	return ops
}
