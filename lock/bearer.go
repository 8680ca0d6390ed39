package lock

import (
	"context"
	"slices"
	"time"
)

// What follows is how a call that would wait for its own caller is refused. The context
// given to Lock carries the holds of its bearer: see tenureContext.

// A database is one of a running server, told apart from all others. The zero value is
// none.
type database struct {
	oid   int64
	since int64 // when the server was started, in microseconds
}

// inTheWay is a hold of ctx's bearer that keeps out what t is for, or nil. One that is
// shared may only do so.
func (t *tenure) inTheWay(ctx context.Context) *Held {
	own, _ := ctx.Value(t).(*Held)
	return own
}

// keepsOut reports whether h is still held, and of a key that t is for.
func (h *Held) keepsOut(t *tenure) bool {
	own, ok := h.tenure.(*tenure)
	if !ok || t.keptOutBy(h).name == "" {
		return false
	}
	own.queue.mu.Lock()
	over, at := own.over(), own.claims[0].session
	own.queue.mu.Unlock()
	if over != nil || own.queue == t.queue {
		return over == nil
	}
	t.queue.mu.Lock()
	defer t.queue.mu.Unlock()
	here := t.queue.server.database()
	return at != nil && at.at == here && here != database{}
}

// keptOutBy is a key that both h and t are for.
func (t *tenure) keptOutBy(h *Held) (key Key) {
	for _, k := range t.keys {
		if slices.ContainsFunc(h.keys, func(own Key) bool { return own.id == k.id }) {
			return k
		}
	}
	return key
}

func (q *queue) refuseItself(key Key, since time.Time) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.counts.Busy++
	return &BusyError{Key: key, Waited: time.Since(since), Cause: ErrHeld}
}
