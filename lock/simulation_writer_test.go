package lock

import (
	"slices"

	"example.com/lockstore/internal/simulate"
)

// A writer is a store's write under a lock, on a session of its own, by the protocol of
// [Held.Writing].
type writer struct {
	call    *call
	key     Key
	session *backend // with which its transaction ends
}

// write makes the holder write. What an observer sees of it happens in steps of its own.
func (c *call) write() {
	w := c.process.w
	if w.memory || c.held.shared {
		return
	}
	wr := &writer{call: c, key: simulate.One(w.Schedule, c.held.keys...)}
	w.Tell("%s: write", c)
	c.with(func() {
		done, err := c.held.Writing()
		if err != nil {
			return
		}
		w.Stop("a writer, before it takes the guard")
		if !wr.guard() {
			done()
			return
		}
		w.Stop("a writer, before its check")
		if !wr.check() {
			wr.session.finish()
			done()
			return
		}
		w.Stop("a writer, before it commits")
		known := !w.Chance(200)
		wr.commit()
		if known {
			done()
		}
	})
}

// guard takes the key's guard, on a session of the host's pool.
func (wr *writer) guard() bool {
	w := wr.call.process.w
	w.mu.Lock()
	defer w.mu.Unlock()
	b := w.server.connect(nil, nil)
	l := w.server.table.at(wr.key.Guard())
	if len(l.holders) > 0 || !l.try(b, alone) {
		b.alive = false
		return false
	}
	w.Tell("%s: guards %s", wr.call, wr.key)
	wr.session = b
	return true
}

// check checks whether the key is still held, as far as this process knows and by the server.
func (wr *writer) check() bool {
	known, _ := wr.call.held.Backend(wr.key)
	over := wr.call.held.Context().Err() != nil
	w := wr.call.process.w
	w.mu.Lock()
	defer w.mu.Unlock()
	b := w.server.backend(int64(known.PID))
	if over || b == nil || w.server.table.at(wr.key.id).count(b, alone) == 0 {
		return false
	}
	w.Tell("%s: writes", wr.call)
	w.writing = append(w.writing, wr)
	return true
}

func (wr *writer) commit() {
	wr.session.finish()
	w := wr.call.process.w
	w.mu.Lock()
	defer w.mu.Unlock()
	w.Tell("%s: has written", wr.call)
	w.writing = slices.DeleteFunc(w.writing, func(o *writer) bool { return o == wr })
}

// finish ends the session of a writer, and with it its transaction.
func (b *backend) finish() {
	w := b.server.w
	w.mu.Lock()
	defer w.mu.Unlock()
	b.end(told)
}

// lateWrites checks that no hold begins while a write under an earlier one is under way,
// unless the session of the write, or that of the holder, has ended. Its caller holds w.mu.
func (w *world) lateWrites(c *call) {
	for _, wr := range w.writing {
		by, _ := c.held.Backend(wr.key)
		if wr.call != c && wr.session.alive && slices.Contains(c.held.keys, wr.key) && w.server.backend(int64(by.PID)) != nil {
			w.Problem("LATE WRITE", "%s holds %s, and %s has yet to commit", c, wr.key, wr.call)
		}
	}
}
