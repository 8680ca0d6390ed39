package lock

import (
	"context"
	"slices"
)

// This file refuses calls that would wait for a lock of their own caller. The context given to
// Lock carries the locks that the caller holds: see holdContext.

// A database identifies a database of a running server. The zero value means none.
type database struct {
	oid   int64
	since int64 // when the server was started, in microseconds
}

// inTheWay returns a lock in ctx that can keep h from being granted, or nil. A shared one need
// not do so.
func (h *hold) inTheWay(ctx context.Context) *Held {
	own, _ := ctx.Value(h).(*Held)
	return own
}

// keepsOut reports whether h is still held, and of a key of asked.
func (h *Held) keepsOut(asked *hold) bool {
	own, ok := h.hold.(*hold)
	if !ok || asked.keptOutBy(h).name == "" {
		return false
	}
	own.table.mu.Lock()
	err, at := own.endErr(), own.requests[0].session
	own.table.mu.Unlock()
	if err != nil || own.table == asked.table {
		return err == nil
	}
	asked.table.mu.Lock()
	defer asked.table.mu.Unlock()
	here := asked.table.server.database()
	return at != nil && at.at == here && here != database{}
}

// keptOutBy returns a key of both h and own, or the zero Key.
func (h *hold) keptOutBy(own *Held) (key Key) {
	for _, k := range h.keys {
		if slices.ContainsFunc(own.keys, func(o Key) bool { return o.id == k.id }) {
			return k
		}
	}
	return key
}
