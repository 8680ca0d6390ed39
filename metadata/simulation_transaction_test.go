package metadata

import (
	"slices"

	"example.com/lockstore/internal/pgdb"
)

// What is here is for who has the world's mutex, but for abandon.

// A savepoint is where a transaction can go back to.
type savepoint struct {
	name string
	at   int // the length of undo
}

// savepoint runs a statement about the savepoint of a name, which is the last.
func (s *backend) savepoint(what, name string) error {
	if what == "SAVEPOINT" {
		s.saves = append(s.saves, savepoint{name, len(s.undo)})
		return nil
	}
	i := len(s.saves) - 1
	for ; i >= 0 && s.saves[i].name != name; i-- {
	}
	if i < 0 {
		return &pgdb.Error{Code: "3B001"}
	}
	if what == "RELEASE SAVEPOINT" {
		s.saves = s.saves[:i]
		return nil
	}
	s.failed = false
	s.back(s.saves[i].at)
	s.saves = s.saves[:i+1]
	return nil
}

// set makes an image the current one of a row that the session has locked.
func (s *backend) set(r *row, m *image, c *change) {
	s.undo = append(s.undo, undo{row: r, before: r.current, change: c})
	r.current = m
}

// back undoes what the transaction did since.
func (s *backend) back(to int) {
	for _, u := range slices.Backward(s.undo[to:]) {
		switch {
		case u.row == nil:
			s.server.unlock(u)
		case u.locked:
			u.row.current = u.row.committed
			s.server.free(u.row)
		default:
			u.row.current = u.before
		}
	}
	s.undo = s.undo[:to]
}

// commit makes the transaction's changes true, and ends it.
func (s *backend) commit() {
	for i, u := range s.undo {
		if u.kept != "" {
			s.server.tokens[u.kept].by, s.undo[i].kept = nil, ""
		}
		if u.change != nil && u.change.after == nil { // perhaps to be made anew
			s.server.history[u.row.id] = append(s.server.history[u.row.id], nil)
		}
	}
	for _, u := range s.undo {
		if u.row == nil || u.locked {
			continue
		}
		if r := u.row; r.committed != r.current {
			r.committed = r.current
			s.server.history[r.id] = append(s.server.history[r.id], r.current)
		}
		s.server.w.made(u.row, u.change)
	}
	for _, u := range s.undo {
		if u.row == nil {
			s.server.unlock(u)
		} else if u.locked {
			s.server.free(u.row)
		}
	}
	s.over()
}

// unlock gives back a lock of a transaction.
func (v *server) unlock(u undo) {
	if u.kept != "" {
		delete(v.tokens, u.kept)
		return
	}
	if u.shared != 0 {
		v.shares[u.shared]--
		return
	}
	delete(v.locks, u.lock)
}

func (s *backend) rollback() {
	s.back(0)
	s.over()
}

func (s *backend) over() {
	s.inTx, s.failed, s.undo, s.saves = false, false, s.undo[:0], s.saves[:0]
}

// end ends the session. Locks that it has for longer than a transaction go with it.
func (s *backend) end(why error) {
	if s.ended {
		return
	}
	s.rollback()
	s.ended, s.why = true, why
	close(s.killed)
	for id, holder := range s.server.locks {
		if holder == s {
			delete(s.server.locks, id)
		}
	}
	s.server.sessions = slices.DeleteFunc(s.server.sessions, func(o *backend) bool { return o == s })
}

// abandon is what the server does with a transaction that waits for its next
// statement for too long.
func (s *backend) abandon() {
	w := s.server.w
	w.mu.Lock()
	defer w.mu.Unlock()
	w.strange.Store(true)
	w.Tell("session %d: idle in transaction for too long", s.pid)
	s.end(&pgdb.Error{Code: "25P03", Fatal: true})
}
