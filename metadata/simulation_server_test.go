package metadata

import (
	"slices"
	"strings"
	"time"
)

// A server is what the store needs of PostgreSQL: rows with their versions, the
// queues for them, the advisory locks of transactions, savepoints. All that it
// does happens while one goroutine has the world's mutex.
type server struct {
	w *world

	rows      map[string]*row
	locks     map[int64]*backend
	rowOrders map[int64]*row // that a session waits for and has as it does a row
	shares    map[int64]int  // of second guards
	tokens    map[string]*keptRow
	history   map[string][]*image // all that was ever committed
	sessions  []*backend          // with something to lose
	pids      uint32
}

// A row has two images where a transaction has changed it: others see the
// committed one. No image: there is no such row.
type row struct {
	id                 string
	committed, current *image
	holder             *backend
	waiting            []*waiter
}

// A waiter is a session in the queue for a row.
type waiter struct {
	session *backend
	granted chan struct{}
}

// A backend is a session, as the server has it.
type backend struct {
	server *server
	pid    uint32
	inTx   bool

	preparedFor *op // whose rights the session has, if a pool has prepared it for somebody

	doomed bool  // the statement fails if it stores anything
	failed bool  // the transaction: nothing but its end is possible
	ended  bool  // the session
	why    error // that the client is told of it
	undo   []undo
	saves  []savepoint
	waits  *row
	killed chan struct{}
	idle   *time.Timer
	limit  time.Duration // of idle
}

// undo is what a transaction did: it locked a row, changed it, took an
// advisory lock, or inserted a token.
type undo struct {
	row    *row
	locked bool
	before *image
	change *change
	lock   int64
	shared int64
	kept   string
}

func newServer(w *world) *server {
	return &server{w: w, rows: map[string]*row{}, locks: map[int64]*backend{}, rowOrders: map[int64]*row{}, shares: map[int64]int{}, tokens: map[string]*keptRow{}, history: map[string][]*image{}}
}

// put is the state of a document before anything happens.
func (v *server) put(id string, m *image) {
	v.rows[id] = &row{id: id, committed: m, current: m}
	v.history[id] = append(v.history[id], m)
}

// The methods below are for who has the world's mutex.

func (v *server) connect() *backend {
	v.pids++
	s := &backend{server: v, pid: v.pids, killed: make(chan struct{})}
	v.sessions = append(v.sessions, s)
	return s
}

// visible is what a session sees of a row.
func (s *backend) visible(id string) *image {
	r := s.server.rows[id]
	switch {
	case r == nil:
		return nil
	case r.holder == s:
		return r.current
	}
	return r.committed
}

// rowOrder is the lock of a number that orders the sessions that wait for a row.
func (v *server) rowOrder(number int64, id string) *row {
	if v.rowOrders[number] == nil {
		v.rowOrders[number] = &row{id: rowOrderOf + id}
	}
	return v.rowOrders[number]
}

const rowOrderOf = "order of "

// committed is what everybody sees of a row.
func (v *server) committed(id string) *image {
	if r := v.rows[id]; r != nil {
		return r.committed
	}
	return nil
}

// errWaits says that a statement goes on when its session has the row.
type errWaits struct{ row *row }

func (errWaits) Error() string { return "waits for a row" }

// lockRow locks a row that may be somebody's.
func (s *backend) lockRow(r *row) error {
	switch {
	case r.holder == s:
		return nil
	case r.holder != nil:
		return errWaits{r}
	}
	s.gain(r)
	return nil
}

func (s *backend) gain(r *row) {
	r.holder = s
	s.undo = append(s.undo, undo{row: r, locked: true})
}

// yieldRow gives up a row that the session has locked last, since it is gone.
func (s *backend) yieldRow(r *row) {
	if last := len(s.undo) - 1; last >= 0 && s.undo[last].row == r && s.undo[last].locked {
		s.undo = s.undo[:last]
		s.server.free(r)
	}
}

// free has the first who waits for a row get it.
func (v *server) free(r *row) {
	r.holder = nil
	if len(r.waiting) > 0 {
		first := r.waiting[0]
		r.waiting = r.waiting[1:]
		first.session.gain(r)
		first.session.waits = nil
		close(first.granted)
		return
	}
	if r.committed == nil {
		delete(v.rows, r.id)
	}
}

// enqueue has the session wait for a row.
func (s *backend) enqueue(r *row) *waiter {
	w := &waiter{s, make(chan struct{})}
	r.waiting = append(r.waiting, w)
	s.waits = r
	return w
}

// leave ends that, and reports whether the row had come meanwhile.
func (s *backend) leave(r *row, w *waiter) (got bool) {
	i := slices.Index(r.waiting, w)
	if i < 0 {
		return true
	}
	r.waiting = slices.Delete(r.waiting, i, i+1)
	s.waits = nil
	return false
}

// deadlocked reports whether the session waits for itself.
func (s *backend) deadlocked() bool { return len(s.ring()) > 0 }

// ring is what those wait for who wait for each other, if the session is one of them.
func (s *backend) ring() (documents []string) {
	for at := s; len(documents) <= len(s.server.sessions); {
		if at.waits == nil || at.waits.holder == nil {
			return nil
		}
		documents = append(documents, strings.TrimPrefix(at.waits.id, rowOrderOf))
		if at = at.waits.holder; at == s {
			return documents
		}
	}
	return nil
}

// try takes an advisory lock until the transaction ends.
func (s *backend) try(id int64) bool {
	switch s.server.locks[id] {
	case s:
		return true
	case nil:
		s.server.locks[id] = s
		s.undo = append(s.undo, undo{lock: id})
		return true
	}
	return false
}
