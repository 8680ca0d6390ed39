package history_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/internal/faults/history"
)

var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func at(ms int) time.Time { return epoch.Add(time.Duration(ms) * time.Millisecond) }

var serial int64

func write(call, ret int, field, value string, version int64, document string) history.Event {
	serial++
	return history.Event{N: serial, Kind: history.Merge, Key: "d", Call: at(call), Return: at(ret), Outcome: history.OK,
		Field: field, Value: json.RawMessage(value), Answer: "d", Version: version, Document: json.RawMessage(document)}
}

func as(o history.Outcome, e history.Event) history.Event {
	e.Outcome, e.Answer, e.Version, e.Document = o, "", 0, nil
	return e
}

func empty(e history.Event) history.Event {
	e.Answer = ""
	return e
}

func read(call, ret int, version int64, document string) history.Event {
	e := write(call, ret, "", "", version, document)
	e.Kind = history.Get
	return e
}

func update(call, ret int, value string, version int64, document string) history.Event {
	e := write(call, ret, history.Counter, value, version, document)
	e.Kind = history.Update
	return e
}

func hold(call, ret, until int, fence int64) history.Event {
	serial++
	return history.Event{N: serial, Kind: history.Hold, Key: history.LockOf("d"), Worker: int(serial), Outcome: history.OK,
		Call: at(call), Return: at(ret), Until: at(until), Unlocked: at(until + 1), Fence: fence}
}

func eviction(call, ret int) history.Event {
	serial++
	return history.Event{N: serial, Kind: history.Eviction, Key: history.LockOf("d"), Outcome: history.OK, Call: at(call), Return: at(ret)}
}

func lost(e history.Event) history.Event {
	e.Lost = true
	return e
}

func shared(e history.Event) history.Event {
	e.Shared = true
	return e
}

func TestCheck(t *testing.T) {
	type events = []history.Event
	none := history.Final{}
	for name, c := range map[string]struct {
		events events
		final  history.Final
		rules  []string // the broken rules
	}{
		"nothing": {nil, none, nil},
		"two writes": {
			events{write(0, 1, "a", "1", 1, `{"a":1}`), write(0, 2, "b", "1", 2, `{"a":1,"b":1}`)},
			history.Final{2, json.RawMessage(`{"b":1,"a":1}`)}, nil,
		},
		"an unknown outcome that was applied": {
			events{as(history.Unknown, write(0, 1, "a", "1", 0, "")), write(2, 3, "b", "1", 2, `{"a":1,"b":1}`)},
			history.Final{2, json.RawMessage(`{"a":1,"b":1}`)}, nil,
		},
		"an unknown outcome that was not": {
			events{as(history.Unknown, write(0, 1, "a", "1", 0, "")), write(2, 3, "b", "1", 1, `{"b":1}`)},
			history.Final{1, json.RawMessage(`{"b":1}`)}, nil,
		},
		"an unknown outcome that was covered up": {
			events{as(history.Unknown, write(0, 1, "a", "1", 0, "")), write(2, 3, "a", "2", 2, `{"a":2}`)},
			history.Final{2, json.RawMessage(`{"a":2}`)}, nil,
		},
		"an unknown outcome that was applied twice": {
			events{as(history.Unknown, write(0, 1, "a", "1", 0, "")), write(2, 3, "a", "2", 2, `{"a":2}`), write(4, 5, "b", "1", 4, `{"a":1,"b":1}`)},
			history.Final{4, json.RawMessage(`{"a":1,"b":1}`)}, []string{history.LostWrite},
		},
		"two unknown counts, the lesser covered up": {
			events{
				update(0, 1, "1", 1, `{"count":1}`),
				as(history.Unknown, update(2, 9, "4", 0, "")), as(history.Unknown, update(2, 9, "2", 0, "")),
				update(3, 4, "3", 3, `{"count":3}`), write(5, 6, "b", "1", 5, `{"b":1,"count":4}`),
			},
			history.Final{5, json.RawMessage(`{"b":1,"count":4}`)}, nil,
		},
		"an unknown outcome of later, which cannot be what was covered up": {
			events{
				write(0, 1, "a", "1", 1, `{"a":1}`), write(2, 3, "a", "2", 3, `{"a":2}`),
				as(history.Unknown, write(4, 5, "a", "3", 0, "")),
			},
			history.Final{3, json.RawMessage(`{"a":2}`)}, []string{history.Contiguity},
		},
		"a failure that was applied": {
			events{as(history.Failed, write(0, 1, "a", "1", 0, "")), write(2, 3, "b", "1", 2, `{"a":1,"b":1}`)},
			history.Final{2, json.RawMessage(`{"a":1,"b":1}`)}, []string{history.NotApplied},
		},
		"a failure that was applied and covered up": {
			events{
				write(0, 1, "b", "1", 1, `{"b":1}`), as(history.Failed, write(2, 3, "a", "1", 0, "")),
				write(4, 5, "a", "2", 3, `{"a":2,"b":1}`),
			},
			history.Final{3, json.RawMessage(`{"a":2,"b":1}`)}, []string{history.Contiguity},
		},
		"a version that nobody made": {
			events{write(0, 1, "a", "1", 1, `{"a":1}`), write(2, 3, "b", "1", 3, `{"a":1,"b":1}`)},
			history.Final{3, json.RawMessage(`{"a":1,"b":1}`)}, []string{history.Contiguity},
		},
		"a change that nobody made": {
			events{write(0, 1, "a", "1", 1, `{"a":1,"x":1}`)},
			history.Final{1, json.RawMessage(`{"a":1,"x":1}`)}, []string{history.Unexplained},
		},
		"a write that vanished": {
			events{write(0, 1, "a", "1", 1, `{"a":1}`), write(2, 3, "b", "1", 2, `{"b":1}`)},
			history.Final{2, json.RawMessage(`{"b":1}`)}, []string{history.LostWrite},
		},
		"a write that is gone at the end": {
			events{write(0, 1, "a", "1", 1, `{"a":1}`)}, none, []string{history.LostWrite},
		},
		"a write that its answer does not show": {
			events{write(0, 1, "a", "1", 1, `{}`)},
			history.Final{1, json.RawMessage(`{}`)}, []string{history.LostWrite},
		},
		"an answer without a document": {
			events{empty(write(0, 1, "a", "1", 0, "")), write(2, 3, "b", "1", 1, `{"b":1}`)},
			history.Final{1, json.RawMessage(`{"b":1}`)}, []string{history.EmptyAnswer},
		},
		"two answers without a document": {
			events{empty(write(0, 1, "a", "1", 0, "")), empty(write(0, 2, "c", "1", 0, "")), write(2, 3, "b", "1", 2, `{"a":1,"b":1}`)},
			history.Final{2, json.RawMessage(`{"a":1,"b":1}`)}, []string{history.EmptyAnswer, history.EmptyAnswer},
		},
		"a read of nothing": {events{empty(read(0, 1, 0, ""))}, none, []string{history.EmptyAnswer}},
		"one version for two": {
			events{write(0, 1, "a", "1", 1, `{"a":1}`), write(0, 1, "b", "1", 1, `{"b":1}`)},
			history.Final{1, json.RawMessage(`{"b":1}`)}, []string{history.OneVersion},
		},
		"an update of an old document": {
			events{update(0, 1, "1", 1, `{"count":1}`), update(0, 1, "3", 2, `{"count":3}`)},
			history.Final{2, json.RawMessage(`{"count":3}`)}, []string{history.LostUpdate},
		},
		"an update of an old document, behind an unknown outcome": {
			events{
				update(0, 1, "1", 1, `{"count":1}`), as(history.Unknown, write(2, 9, "a", "1", 0, "")),
				update(3, 4, "1", 3, `{"a":1,"count":1}`),
			},
			history.Final{3, json.RawMessage(`{"a":1,"count":1}`)}, []string{history.LostUpdate},
		},
		"an unknown update of an old document": {
			events{update(0, 1, "1", 1, `{"count":1}`), update(2, 3, "2", 2, `{"count":2}`), as(history.Unknown, update(0, 9, "1", 0, ""))},
			history.Final{3, json.RawMessage(`{"count":1}`)}, []string{history.LostUpdate},
		},
		"a later write in an earlier version": {
			events{write(2, 3, "a", "1", 1, `{"a":1}`), write(0, 1, "b", "1", 2, `{"a":1,"b":1}`)},
			history.Final{2, json.RawMessage(`{"a":1,"b":1}`)}, []string{history.RealTime, history.Linearizable},
		},
		"a stale read": {
			events{write(0, 1, "a", "1", 1, `{"a":1}`), read(2, 3, 0, `{}`)},
			history.Final{1, json.RawMessage(`{"a":1}`)}, []string{history.FreshRead},
		},
		"a read from the future": {
			events{write(2, 3, "a", "1", 1, `{"a":1}`), read(0, 1, 1, `{"a":1}`)},
			history.Final{1, json.RawMessage(`{"a":1}`)}, []string{history.FreshRead},
		},
		"a read of less than another": {
			events{write(0, 9, "a", "1", 1, `{"a":1}`), write(0, 9, "b", "1", 2, `{"a":1,"b":1}`), read(1, 2, 2, `{"a":1,"b":1}`), read(3, 4, 1, `{"a":1}`)},
			history.Final{2, json.RawMessage(`{"a":1,"b":1}`)}, []string{history.FreshRead},
		},
		"a write before what was read": {
			events{write(0, 9, "a", "1", 2, `{"a":1,"b":1}`), read(1, 2, 2, `{"a":1,"b":1}`), write(3, 4, "b", "1", 1, `{"b":1}`)},
			history.Final{2, json.RawMessage(`{"a":1,"b":1}`)}, []string{history.FreshRead},
		},
		"two reads of one version that nobody acknowledged": {
			events{
				as(history.Unknown, write(0, 1, "a", "1", 0, "")), read(2, 3, 1, `{"a":1}`), read(4, 5, 1, `{"a":2}`),
				write(6, 7, "b", "1", 2, `{"a":1,"b":1}`),
			},
			history.Final{2, json.RawMessage(`{"a":1,"b":1}`)}, []string{history.ReadVersion},
		},
		"a read of the last version, not as it is": {
			events{as(history.Unknown, write(0, 1, "a", "1", 0, "")), read(2, 3, 1, `{"a":2}`)},
			history.Final{1, json.RawMessage(`{"a":1}`)}, []string{history.ReadVersion},
		},
		"a read of what never was": {
			events{write(0, 1, "a", "1", 1, `{"a":1}`), read(2, 3, 2, `{"a":2}`)},
			history.Final{1, json.RawMessage(`{"a":1}`)}, []string{history.ReadVersion},
		},
		"a read of something else": {
			events{write(0, 1, "a", "1", 1, `{"a":1}`), read(2, 3, 1, `{"a":2}`)},
			history.Final{1, json.RawMessage(`{"a":1}`)}, []string{history.ReadVersion},
		},
		"holds in turn":          {events{hold(0, 1, 2, 7), hold(0, 3, 4, 8)}, none, nil},
		"holds at once":          {events{hold(0, 1, 5, 7), hold(0, 3, 6, 8)}, none, []string{history.Exclusion, history.Linearizable}},
		"a hold in another":      {events{hold(0, 1, 9, 0), hold(0, 3, 4, 0)}, none, []string{history.Exclusion, history.Linearizable}},
		"sharers":                {events{shared(hold(0, 1, 5, 0)), shared(hold(0, 2, 6, 0))}, none, nil},
		"a sharer and another":   {events{shared(hold(0, 1, 5, 0)), hold(0, 2, 6, 0)}, none, []string{history.Exclusion}},
		"a loss told soon":       {events{lost(hold(0, 1, 5, 7)), hold(0, 3, 6, 8)}, none, nil},
		"a loss told late":       {events{lost(hold(0, 1, 500, 7)), hold(0, 3, 600, 8)}, none, []string{history.ToldLate}},
		"a fence that falls":     {events{hold(0, 1, 2, 8), hold(0, 3, 4, 7)}, none, []string{history.FenceOrder}},
		"a fence that stays":     {events{hold(0, 1, 2, 8), hold(0, 3, 4, 8)}, none, []string{history.FenceOrder}},
		"an eviction, told soon": {events{lost(hold(0, 1, 40, 0)), eviction(2, 30)}, none, nil},
		"an eviction in vain":    {events{hold(0, 1, 200, 0), eviction(2, 30)}, none, []string{history.Freed}},
		"an eviction that failed, or was of an earlier holder": {
			events{hold(0, 9, 200, 0), eviction(2, 30), as(history.Failed, eviction(10, 30))}, none, nil,
		},
		"a writer within a hold": {
			events{hold(0, 1, 9, 0), write(2, 3, "a", "1", 1, `{"a":1}`)},
			history.Final{1, json.RawMessage(`{"a":1}`)}, []string{history.KeptOut},
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := history.Check(c.events, map[string]history.Final{"d": c.final}, nil, 100*time.Millisecond)
			var rules []string
			for _, violation := range v.Violations {
				rules = append(rules, violation.Rule)
				assert.NotEmpty(t, violation.String())
				assert.NotEmpty(t, violation.Events)
			}
			assert.ElementsMatch(t, c.rules, rules)
		})
	}
}

func TestCheckUnharmed(t *testing.T) {
	type events = []history.Event
	for name, c := range map[string]struct {
		events events
		right  bool
	}{
		"a hold":                             {events{hold(0, 1, 5, 0)}, true},
		"a hold that was lost":               {events{lost(hold(0, 1, 5, 0))}, false},
		"one that was evicted":               {events{lost(hold(0, 1, 5, 0)), eviction(2, 6)}, true},
		"one that was evicted, told later":   {events{lost(hold(0, 1, 50, 0)), eviction(2, 6)}, true},
		"one that was evicted, but long ago": {events{lost(hold(0, 1, 500, 0)), eviction(2, 6)}, false},
		"an eviction of later":               {events{lost(hold(0, 1, 5, 0)), eviction(6, 7)}, false},
		"a write that failed":                {events{as(history.Failed, write(0, 1, "a", "1", 0, ""))}, true},
		"a write of unknown outcome":         {events{as(history.Unknown, write(0, 1, "a", "1", 0, ""))}, false},
	} {
		assert.Equal(t, c.right, len(history.CheckUnharmed(c.events, 100*time.Millisecond)) == 0, name)
	}
}

func TestPausedProcessCannotBeTold(t *testing.T) {
	stopped := lost(hold(0, 1, 500, 7))
	stopped.Process = 3
	events := []history.Event{stopped, hold(0, 3, 600, 8)}
	pause := history.Pause{Process: 3, From: at(2), To: at(490)}
	assert.Empty(t, history.CheckLocks(events, []history.Pause{pause}, 100*time.Millisecond))
	pause.Process = 4
	assert.NotEmpty(t, history.CheckLocks(events, []history.Pause{pause}, 100*time.Millisecond))
}

// Pauses that overlap count once.
func TestPausesAreCountedOnce(t *testing.T) {
	stopped := lost(hold(0, 1, 500, 7))
	stopped.Process = 3
	events := []history.Event{stopped, hold(0, 3, 600, 8)}
	half := []history.Pause{{Process: 3, From: at(2), To: at(250)}, {Process: history.Everybody, From: at(100), To: at(260)}}
	assert.NotEmpty(t, history.CheckLocks(events, half, 100*time.Millisecond))
	rest := append(half, history.Pause{Process: history.Everybody, From: at(255), To: at(410)})
	assert.Empty(t, history.CheckLocks(events, rest, 100*time.Millisecond))
}

// If the next holder loses the key, too, that does not excuse the previous one, unless they may
// have had it in the other order.
func TestOneOfTwoWasToldLate(t *testing.T) {
	stopped := lost(hold(0, 1, 500, 7))
	stopped.Process = 3
	pause := []history.Pause{{Process: 3, From: at(2), To: at(490)}}
	for name, c := range map[string]struct {
		events []history.Event
		pauses []history.Pause
		right  bool
	}{
		"the first could not be told":          {[]history.Event{stopped, lost(hold(0, 3, 450, 8))}, pause, true},
		"it could":                             {[]history.Event{stopped, lost(hold(2, 3, 450, 8))}, nil, false},
		"it was not told, but its successor":   {[]history.Event{stopped, lost(hold(2, 3, 50, 8))}, nil, true},
		"it has lost nothing, and came before": {[]history.Event{hold(0, 1, 500, 7), lost(hold(2, 3, 50, 8))}, nil, false},
		"it has lost nothing, and came behind": {[]history.Event{hold(0, 1, 500, 7), lost(hold(0, 3, 50, 6))}, nil, true},
	} {
		assert.Equal(t, c.right, len(history.CheckLocks(c.events, c.pauses, 100*time.Millisecond)) == 0, name)
	}
}

// A holder that is evicted while its network loses everything learns of it only by noticing the
// silence. Other holders must learn of it in time.
func TestBlackNetworkTellsNobody(t *testing.T) {
	const silence, grace = 300 * time.Millisecond, 100 * time.Millisecond
	for name, c := range map[string]struct {
		process, from, to int // of the network that loses everything
		told              int // when the holder learns of the loss; another has the key at 10, when an eviction returns
		right             bool
	}{
		"told when the silence was noticed":      {3, 5, 900, 400, true},
		"told later than that":                   {3, 5, 900, 420, false},
		"told when the network was back":         {3, 5, 200, 290, true},
		"the network was back long before":       {3, 5, 200, 310, false},
		"the network was back before the end":    {3, 5, 9, 120, false},
		"the network was black after the end":    {3, 11, 900, 400, false},
		"another's network was black":            {4, 5, 900, 400, false},
		"told soon, whatever the network did":    {3, 5, 11, 105, true},
		"told late, of what ended in an instant": {3, 10, 11, 150, false},
	} {
		t.Run(name, func(t *testing.T) {
			evicted := lost(hold(0, 1, c.told, 0))
			evicted.Process = 3
			events := []history.Event{evicted, hold(0, 10, 1000, 0), eviction(2, 10)}
			black := []history.Pause{{Process: c.process, From: at(c.from), To: at(c.to), Silence: silence}}
			assert.Equal(t, c.right, len(history.CheckLocks(events, black, grace)) == 0, "lost to another")
			assert.Equal(t, c.right, len(history.CheckEvictions(events, black, grace)) == 0, "evicted")
		})
	}
}

func TestKilledProcessLeavesAHistory(t *testing.T) {
	var out bytes.Buffer
	r := history.NewRecorder(1, history.Write(&out))
	e := r.Begin(history.Event{Kind: history.Hold, Key: "k"})
	e.Outcome, e.Return = history.OK, time.Now()
	r.Record(e)
	r.Begin(history.Event{Kind: history.Merge, Key: "d"})
	out.Truncate(out.Len() - 1) // the last line is incomplete
	out.WriteString("\n{\"n\":3,")
	var log history.Log
	require.NoError(t, history.Read(&out, log.Add))
	killed := time.Now()
	log.Ended(1, killed)
	events := log.Events()
	require.Len(t, events, 2)
	for _, e := range events {
		if e.Kind == history.Hold {
			assert.True(t, e.Lost)
			assert.True(t, killed.Equal(e.Until))
		} else {
			assert.Equal(t, history.Unknown, e.Outcome)
		}
	}
}

func TestGuarded(t *testing.T) {
	guarded := func(base int64, read, value string, version int64, document string) history.Event {
		e := write(0, 1, history.Counter, value, version, document)
		e.Kind, e.BaseVersion, e.Base = history.Guarded, base, json.RawMessage(read)
		return e
	}
	assert.Empty(t, history.CheckGuarded([]history.Event{
		guarded(0, ``, `1`, 1, `{"count":1}`),
		guarded(4, `{"count":1,"a":2}`, `2`, 5, `{"a":2,"count":2}`),
		as(history.Unknown, guarded(4, `{"count":1}`, `2`, 0, ``)),
	}))
	for name, e := range map[string]history.Event{
		"an old version":           guarded(4, `{"count":1}`, `2`, 6, `{"count":2}`),
		"that version of a fork":   guarded(4, `{"count":1}`, `2`, 5, `{"a":2,"count":2}`),
		"a document not there yet": guarded(0, ``, `1`, 3, `{"count":1}`),
	} {
		found := history.CheckGuarded([]history.Event{e})
		if assert.Len(t, found, 1, name) {
			assert.Equal(t, history.TakenBack, found[0].Rule, name)
		}
	}
}

func TestHung(t *testing.T) {
	hung := write(0, 110, "a", `1`, 9, `{"a":1}`)
	hung.Hung = at(100)
	quick, late := write(10, 20, "b", `1`, 1, `{"b":1}`), write(20, 101, "c", `1`, 8, `{"b":1,"c":1}`)
	longer := write(20, 1200, "c", `1`, 8, `{"b":1,"c":1}`)
	elsewhere, never := late, as(history.Unknown, late)
	elsewhere.Process, never.Return = 1, time.Time{}
	quickElsewhere := quick
	quickElsewhere.Process = 1
	for name, c := range map[string]struct {
		others []history.Event
		rules  int
	}{
		"others go on":                     {[]history.Event{quick, late}, 0},
		"they wait for something else":     {[]history.Event{longer, longer}, 0},
		"they wait for the one that hangs": {[]history.Event{quick, late, late}, 1},
		"they are elsewhere":               {[]history.Event{elsewhere}, 0},
		"all wait for a document":          {[]history.Event{quick, late, late, elsewhere}, 0},
		"one waits for it elsewhere":       {[]history.Event{quick, late, late, elsewhere, quickElsewhere}, 1},
		"they came late":                   {[]history.Event{write(60, 101, "c", `1`, 8, `{"c":1}`)}, 0},
		"they never returned":              {[]history.Event{never}, 0},
	} {
		assert.Len(t, history.CheckHung(append(c.others, hung)), c.rules, name)
	}
}

func TestLost(t *testing.T) {
	events := []history.Event{
		write(0, 1, "a", `1`, 1, `{"a":1}`),
		write(2, 3, "b", `1`, 2, `{"a":1,"b":1}`), // lost, and its version made again
		write(4, 5, "c", `1`, 2, `{"a":1,"c":1}`),
		write(6, 7, "d", `1`, 3, `{"a":1,"b":1,"d":1}`), // beyond the end
		as(history.Unknown, write(8, 9, "e", `1`, 4, ``)),
	}
	assert.Equal(t, 2, history.Lost(events, map[string]history.Final{"d": {Version: 2}}))
	assert.Zero(t, history.Lost(events[:1], map[string]history.Final{"d": {Version: 2}}))
}

func TestCheckWatched(t *testing.T) {
	told := func(call int, version int64, document string) history.Event {
		e := read(call, call, version, document)
		e.Kind, e.Process = history.Watched, 7
		return e
	}
	one, two := write(0, 1, "a", `1`, 1, `{"a":1}`), write(2, 3, "b", `1`, 2, `{"a":1,"b":1}`)
	elsewhere := told(4, 1, `{"a":1}`)
	elsewhere.Worker++
	for name, c := range map[string]struct {
		events []history.Event
		rule   string
	}{
		"all states":                     {[]history.Event{told(0, 0, ``), told(1, 1, `{"a":1}`), told(3, 2, `{"a":1,"b":1}`)}, ""},
		"the last state":                 {[]history.Event{told(3, 2, `{"a":1,"b":1}`)}, ""},
		"an older one, to another":       {[]history.Event{told(3, 2, `{"a":1,"b":1}`), elsewhere}, ""},
		"before the answer to the write": {[]history.Event{told(2, 2, `{"a":1,"b":1}`)}, ""},
		"an older one":                   {[]history.Event{told(3, 2, `{"a":1,"b":1}`), told(4, 1, `{"a":1}`)}, history.ToldInOrder},
		"one twice":                      {[]history.Event{told(1, 1, `{"a":1}`), told(2, 1, `{"a":1}`)}, history.ToldInOrder},
		"another document":               {[]history.Event{told(1, 1, `{"a":2}`)}, history.ToldWhatWas},
		"before it was written":          {[]history.Event{told(1, 2, `{"a":1,"b":1}`)}, history.ToldWhatWas},
		"what never was":                 {[]history.Event{told(4, 4, `{"a":1,"b":4}`)}, history.ToldWhatWas},
		"what the end is not":            {[]history.Event{told(4, 3, `{"a":1,"b":4}`)}, history.ToldWhatWas},
		"not the last":                   {[]history.Event{told(1, 1, `{"a":1}`), as(history.Failed, told(9, 3, ``))}, history.ToldTheLast},
	} {
		final := history.Final{Version: 3, Document: json.RawMessage(`{"a":1,"b":3}`)}
		found := history.CheckWatched(append(c.events, one, two), map[string]history.Final{"d": final})
		if c.rule == "" {
			assert.Empty(t, found, name)
		} else if assert.Len(t, found, 1, name) {
			assert.Equal(t, c.rule, found[0].Rule, name)
		}
	}
}

func TestCheckOnce(t *testing.T) {
	once := func(version int64) history.Event {
		e := write(0, 1, "token", `"merge"`, version, "")
		e.Kind = history.Once
		return e
	}
	increment := func(version int64) history.Event {
		e := once(version)
		e.Value = json.RawMessage(history.Increments)
		return e
	}
	for name, c := range map[string]struct {
		events []history.Event
		final  int64
		rule   string
	}{
		"each has a version":       {[]history.Event{once(2), increment(1), once(3)}, 3, ""},
		"an update does not count": {[]history.Event{increment(1), increment(2)}, 2, history.MadeOnce},
		"one is not told":          {[]history.Event{once(1), as(history.Unknown, once(0))}, 2, history.ToldOnce},
		"one is made twice":        {[]history.Event{once(1), once(3)}, 3, history.MadeOnce},
		"one is lost":              {[]history.Event{once(1), once(2)}, 1, history.MadeOnce},
		"one is told as another":   {[]history.Event{once(1), once(1)}, 2, history.MadeOnce},
		"there is no such version": {[]history.Event{once(0)}, 1, history.MadeOnce},
	} {
		found := history.CheckOnce(c.events, map[string]history.Final{"d": {Version: c.final, Document: json.RawMessage(`{"count":1}`)}})
		if c.rule == "" {
			assert.Empty(t, found, name)
		} else if assert.NotEmpty(t, found, name) {
			assert.Equal(t, c.rule, found[0].Rule, name)
		}
	}
}
