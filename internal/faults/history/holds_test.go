package history_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"example.com/lockstore/internal/faults/history"
)

// by makes e a call of the hold's holder.
func by(holder, e history.Event) history.Event {
	e.Process, e.Worker = holder.Process, holder.Worker
	return e
}

func TestCheckHolds(t *testing.T) {
	type events = []history.Event
	h := hold(0, 10, 50, 0)
	first := by(h, read(11, 12, 1, `{}`))
	mine := by(h, write(30, 31, "h", "1", 2, ``))
	mine3 := by(h, write(30, 31, "h", "1", 3, ``))
	between := write(5, 20, "a", "1", 2, ``)
	for name, c := range map[string]struct {
		events events
		right  bool
	}{
		"own writes":                    {events{h, first, mine, by(h, write(40, 41, "h", "2", 3, ``))}, true},
		"a write before the first read": {events{h, by(h, read(11, 12, 2, `{}`)), between, mine3}, true},
		"a write before":                {events{h, between, mine3}, true},
		"a write by another":            {events{h, first, between, mine3}, false},
		"of which another has read":     {events{h, read(11, 60, 1, `{}`), between, mine3}, false},
		"and was asked long before":     {events{h, read(9, 12, 1, `{}`), between, mine3}, true},
		"under a hold that was lost":    {events{lost(h), first, between, mine3}, false},
		"a write that nobody made":      {events{h, first, mine3}, false},
		"a write of unknown outcome":    {events{h, first, by(h, as(history.Unknown, write(20, 21, "h", "0", 0, ""))), mine3}, true},
		"of somebody else":              {events{h, first, as(history.Unknown, write(5, 6, "a", "0", 0, "")), mine3}, false},
		"a write after the end": {
			events{h, first, mine, write(45, 60, "a", "1", 3, ``), by(h, write(55, 56, "h", "2", 4, ``))}, true,
		},
		"a write that ended later": {events{h, first, between, by(h, write(30, 51, "h", "1", 3, ``))}, true},
		"shared":                   {events{shared(h), first, between, mine3}, true},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, c.right, len(history.CheckHolds(c.events)) == 0)
		})
	}
}
