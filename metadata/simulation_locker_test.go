package metadata

import (
	"context"

	"example.com/lockstore/lock"
)

// A locker is a process's lock.Locker, as far as the store can tell: one session
// that holds keys, and holds of them that begin and end when the player says
// so. It never grants a key while somebody has its guard, but hands it on to the
// next hold of its own at once, unless somebody is writing.
type locker struct {
	at      *process
	session *backend
}

// A hold is one of one document's key.
type hold struct {
	locker  *locker
	session *backend
	id      string
	key     lock.Key
	number  int // of the key, in the order of holds
	ended   bool
	misled  bool // a connection for a write under it, which others share, led to another server
	writing int  // and what is written may be under way still
	held    *lock.Held
	cancel  context.CancelCauseFunc
}

var _ lock.Hold = (*hold)(nil)

func (t *hold) Unlock() error                        { return nil }
func (t *hold) Fence(context.Context) (int64, error) { return 0, nil }
func (t *hold) Backend(lock.Key) (b lock.Backend, ok bool) {
	return lock.Backend{PID: t.session.pid}, true
}

// Writing keeps the key from being handed off, until it is done.
func (t *hold) Writing() (done func(), err error) {
	w := t.locker.at.world
	w.mu.Lock()
	defer w.mu.Unlock()
	if t.ended {
		return nil, lock.ErrLost
	}
	t.writing++
	finished := false
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if !finished {
			finished = true
			t.writing--
		}
	}, nil
}

// grant begins a hold, if the server allows it.
func (l *locker) grant(id string) *hold {
	w := l.at.world
	v := w.server
	w.mu.Lock()
	defer w.mu.Unlock()
	if l.session == nil || l.session.ended {
		l.session = v.connect()
	}
	key := w.key(id).Int64()
	if v.locks[key] != nil || v.locks[w.key(id).Guard()] != nil || v.shares[w.key(id).SharedGuard()] > 0 {
		return nil
	}
	v.locks[key] = l.session
	return l.begin(id)
}

// begin is for who has the world's mutex.
func (l *locker) begin(id string) *hold {
	w := l.at.world
	w.holdsBegun[id]++
	t := &hold{locker: l, session: l.session, id: id, key: w.key(id), number: w.holdsBegun[id]}
	t.held, t.cancel = lock.NewHeld(context.Background(), t, false, t.key)
	w.holds = append(w.holds, t)
	w.Tell("process %d holds %s: hold %d, by session %d", l.at.n, id, t.number, l.session.pid)
	return t
}

// end is the end of a hold: of its own accord, by eviction, or since its
// session is lost, which nobody may notice for a while. It is for who has the
// world's mutex.
func (t *hold) end(how string) {
	w := t.locker.at.world
	v := w.server
	w.Tell("hold %d of %s: %s, %d writing", t.number, t.id, how, t.writing)
	switch how {
	case "lost":
		t.session.end(nil)
		return
	case "noticed":
		t.ended = true
		t.cancel(lock.ErrLost)
		return
	case "evicted":
		t.cancel(lock.ErrLost)
	case "unlocked":
		t.cancel(lock.ErrReleased)
	}
	t.ended = true
	mine := t.key.Int64()
	if v.locks[mine] != t.session {
		return
	}
	if t.writing == 0 && w.Chance(500) {
		t.locker.begin(t.id)
		return
	}
	delete(v.locks, mine)
}
