package lock

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"example.com/lockstore/internal/simulate"
)

// simServer is a model of the server.
type simServer struct {
	w        *world
	backends []*backend // all there ever were
	table    lockTable
	lastPID  uint32
	xid      int64 // given out last
	durable  int64 // the last of a transaction that a crash does not undo
	down     bool  // refuses connections
}

// A backend is one session at the server.
type backend struct {
	server   *simServer
	pid      uint32
	start    time.Time
	conn     *simConn // nil: an outsider, which is none of ours
	process  *process
	alive    bool
	name     string // application_name
	stranger bool   // may terminate no session
	last     opcode // that it carried out

	received []byte      // of a message that is not whole
	todo     []statement // that have come
	done     int         // keys of the first
	cancel   bool        // by pg_cancel_backend
	wait     wait
	tx       transaction
	answer   []byte // that has not been sent
}

// A statement is one Execute; or what a client says besides.
type statement struct {
	kind byte // of the message: Execute, Sync, Terminate
	code opcode
	keys []int64
}

type wait struct {
	on      *tableLock // nil: it does not wait
	mode    mode
	until   time.Time
	granted bool
}

// A transaction is all up to a Sync.
type transaction struct {
	active bool
	failed bool
	xid    int64
	locks  []xactLock
}

type xactLock struct {
	lock *tableLock
	mode mode
}

func (srv *simServer) connect(p *process, c *simConn) *backend {
	srv.lastPID++
	b := &backend{server: srv, pid: srv.lastPID, start: time.Now(), conn: c, process: p, alive: true}
	srv.backends = append(srv.backends, b)
	return b
}

func (srv *simServer) backend(pid int64) *backend {
	for _, b := range srv.backends {
		if int64(b.pid) == pid && b.alive {
			return b
		}
	}
	return nil
}

func (b *backend) String() string { return fmt.Sprintf("session %d of %s", b.pid, b.process) }

// take parses what has come from the client.
func (b *backend) take(data []byte) {
	b.received = append(b.received, data...)
	for len(b.received) >= 5 {
		size := 1 + int(binary.BigEndian.Uint32(b.received[1:]))
		if len(b.received) < size {
			break
		}
		b.message(b.received[0], b.received[5:size])
		b.received = b.received[size:]
	}
}

func (b *backend) message(kind byte, body []byte) {
	switch kind {
	case 'B':
		var bind pgproto3.Bind
		if err := bind.Decode(body); err != nil {
			panic(err)
		}
		if s, ok := statementOf(&bind); ok {
			b.todo = append(b.todo, s)
		}
	case 'S', 'X':
		b.todo = append(b.todo, statement{kind: kind})
	case 'E':
	default:
		panic(fmt.Sprintf("message %c", kind))
	}
}

// statementOf is [session.write] the other way round. Of a wait the last statement
// stands for all.
func statementOf(bind *pgproto3.Bind) (s statement, ok bool) {
	for code, o := range operations {
		switch bind.PreparedStatement {
		case noteName, o.queue:
			return s, false
		case o.one:
			argument := bind.Parameters[0]
			return statement{'E', opcode(code), []int64{int64(binary.BigEndian.Uint64(argument))}}, true
		case o.many:
			argument := bind.Parameters[0]
			var keys []int64
			for element := argument[20:]; len(element) > 0; element = element[12:] {
				keys = append(keys, int64(binary.BigEndian.Uint64(element[4:])))
			}
			return statement{'E', opcode(code), keys}, true
		}
	}
	panic("unknown statement " + bind.PreparedStatement)
}

// canGo reports whether step does something.
func (b *backend) canGo() bool {
	if b.wait.on != nil {
		return b.wait.granted || b.cancel || !time.Now().Before(b.wait.until)
	}
	return b.alive && len(b.todo) > 0
}

// A mishap is what goes wrong with an operation.
type mishap uint8

const (
	none   mishap = iota
	before        // it fails without effect
	after         // it fails with its effect
)

// SQLSTATEs of operations that fail (PostgreSQL documentation, Appendix A).
const (
	outOfMemory = "53200"
	internal    = "XX000"
	shutdown    = "57P01"
)

// step does one operation of what has come.
func (b *backend) step(m mishap) {
	if b.wait.on != nil {
		b.endWait()
		return
	}
	s, rest := b.todo[0], b.todo[1:]
	switch {
	case s.kind == 'X':
		b.end(reset)
	case s.kind == 'S':
		b.todo = rest
		b.sync(m)
	case b.tx.failed:
		b.todo = rest
	default:
		b.tx.active = true
		b.operate(s, rest, m)
	}
}

func (b *backend) operate(s statement, rest []statement, m mishap) {
	switch {
	case b.cancel:
		b.fail(queryCanceled, rest)
	case m == before:
		b.fail(simulate.One(b.server.w.Schedule, queryCanceled, outOfMemory), rest)
	default:
		answered := len(b.answer)
		b.execute(s.code, s.keys[b.done])
		if m == after && b.wait.on == nil && !isUnlock(s.code) { // nothing behind it could fail
			b.answer = b.answer[:answered]
			b.fail(simulate.One(b.server.w.Schedule, queryCanceled, outOfMemory), rest)
		}
	}
}

// execute carries out one operation on one key.
func (b *backend) execute(code opcode, key int64) {
	srv := b.server
	l := srv.table.at(key)
	b.last = code
	switch code {
	case opDrop, opDropShared, opUnlock, opUnlockShared:
		known := l.unlock(b, modeOf(code))
		srv.w.Tell("%s unlocks %d: %t", b, key, known)
		b.row(known)
	case opFence:
		if b.tx.xid == 0 {
			srv.xid++
			b.tx.xid = srv.xid
		}
		b.number(b.tx.xid)
	case opTry, opTryShared:
		if !l.try(b, modeOf(code)) {
			srv.w.Tell("%s tries %d: false", b, key)
			b.row(false)
			return
		}
		srv.w.Tell("%s tries %d: true", b, key)
		b.row(b.guarded(l, modeOf(code)))
	case opWait, opWaitShared:
		if l.isFree(b, modeOf(code), len(l.queue)) {
			l.grant(b, modeOf(code))
			b.waited(l, modeOf(code))
			return
		}
		srv.w.Tell("%s waits for %d", b, key)
		b.wait = wait{on: l, mode: modeOf(code), until: time.Now().Add(waitSlice(&srv.w.options))}
		l.queue = append(l.queue, b)
	case opWanted:
		b.row(l.wanted())
	case opRest:
		b.row(false)
	case opFlagged:
		b.row(!b.tryInTx(key, alone))
	case opRequests:
		b.send(&pgproto3.DataRow{Values: [][]byte{srv.requests(b)}})
		b.next()
	case opCancel:
		other := srv.backend(key)
		waits := other != nil && other.wait.on != nil
		if waits {
			other.canceled()
		}
		b.row(waits)
	default:
		panic(code)
	}
}

func modeOf(code opcode) mode {
	switch code {
	case opTryShared, opWaitShared, opUnlockShared, opDropShared:
		return shared
	}
	return alone
}

func isUnlock(code opcode) bool { return code <= opUnlockShared }

// guarded reports whether a key that was granted is kept: not if a session has the guard.
func (b *backend) guarded(l *tableLock, m mode) (kept bool) {
	if b.tryInTx(guardOf(l.key), shared) {
		return true
	}
	b.server.w.Tell("%s finds %d guarded", b, l.key)
	l.unlock(b, m)
	return false
}

// waited answers a wait for a key that was granted.
func (b *backend) waited(l *tableLock, m mode) {
	if b.guarded(l, m) {
		b.number(1)
		return
	}
	b.number(0)
}

// tryInTx tries a lock that ends with the transaction.
func (b *backend) tryInTx(key int64, m mode) bool {
	l := b.server.table.at(key)
	if !l.try(b, m) {
		return false
	}
	b.tx.locks = append(b.tx.locks, xactLock{l, m})
	return true
}

// requests returns those of sessions that may terminate b.
func (srv *simServer) requests(b *backend) (text []byte) {
	for _, o := range srv.backends {
		if o.alive && !o.stranger && strings.HasPrefix(o.name, fmt.Sprintf("%s%d ", evictPrefix, b.pid)) {
			text = append(append(text, o.name...), '\n')
		}
	}
	return text
}

// endWait ends a wait that was granted, was canceled, or has lasted long enough. If two of
// these apply, either counts; what was granted is given back where queueSQL says so. A
// cancellation may also end the statement.
func (b *backend) endWait() {
	w, rest := b.wait, b.todo[1:]
	b.wait = wait{}
	late := !time.Now().Before(w.until)
	switch {
	case w.granted && !b.cancel && (!late || b.server.w.N(2) == 0):
		b.waited(w.on, w.mode)
	case b.cancel && b.server.w.N(4) == 0:
		w.on.forget(b)
		b.fail(queryCanceled, rest)
	default:
		b.cancel = false
		w.on.forget(b)
		if w.granted && strings.Contains(queueSQL, "PERFORM pg_advisory_unlock") {
			w.on.unlock(b, w.mode)
		}
		b.number(waitEnded)
	}
}

// canceled is pg_cancel_backend: it does nothing to an idle session.
func (b *backend) canceled() {
	b.cancel = b.tx.active || len(b.todo) > 0
}

// fail ends the operation under way, and drops the rest.
func (b *backend) fail(code string, rest []statement) {
	b.server.w.Tell("%s fails of %s", b, code)
	b.tx.failed, b.cancel = true, false
	b.todo, b.done = rest, 0
	b.send(&pgproto3.ErrorResponse{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: code, Message: "simulated"})
}

// sync ends the transaction, and sends its answers.
func (b *backend) sync(m mishap) {
	if m != none && b.tx.active && !b.tx.failed {
		b.server.w.Tell("%s fails to commit", b)
		b.tx.failed = true
		b.send(&pgproto3.ErrorResponse{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: internal, Message: "simulated"})
	}
	for _, l := range b.tx.locks {
		l.lock.unlock(b, l.mode)
	}
	if !b.tx.failed {
		b.server.durable = max(b.server.durable, b.tx.xid)
	}
	b.tx, b.cancel = transaction{locks: b.tx.locks[:0]}, false
	b.send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	b.flush()
	if b.conn != nil {
		b.conn.said = time.Now()
	}
}

func (b *backend) row(yes bool) {
	column := []byte{0}
	if yes {
		column[0] = 1
	}
	b.send(&pgproto3.DataRow{Values: [][]byte{column}})
	b.next()
}

func (b *backend) number(n int64) {
	b.send(&pgproto3.DataRow{Values: [][]byte{binary.BigEndian.AppendUint64(nil, uint64(n))}})
	b.next()
}

// next moves on to the next key.
func (b *backend) next() {
	if b.done++; b.done == len(b.todo[0].keys) {
		b.todo, b.done = b.todo[1:], 0
	}
}

func (b *backend) send(m pgproto3.BackendMessage) {
	var err error
	if b.answer, err = m.Encode(b.answer); err != nil {
		panic(err)
	}
}

func (b *backend) flush() {
	if b.conn != nil {
		b.conn.down = append(b.conn.down, b.answer...)
	}
	b.answer = b.answer[:0]
}

// An ending is what a client learns of the end of its session.
type ending uint8

const (
	told      ending = iota // a message and an EOF
	reset                   // that it is over
	lingering               // a message: the process takes long to exit
	silent                  // nothing
)

// end ends the session, and with it all it holds.
func (b *backend) end(how ending) {
	if !b.alive {
		return
	}
	b.server.w.Tell("%s ends, %s", b, [...]string{"and says so", "by a reset", "says so, and lingers", "silently"}[how])
	b.alive, b.wait, b.todo = false, wait{}, nil
	b.server.table.release(b)
	if b.conn == nil || how == silent {
		return
	}
	if how != reset {
		b.send(&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: shutdown, Message: "terminating connection"})
		b.flush()
		b.conn.message = true
	}
	b.conn.over = how != lingering
}

// restart ends every session; a crash undoes what is not durable.
func (srv *simServer) restart(crash bool) {
	if crash {
		srv.xid = srv.durable
	}
	for _, b := range srv.backends {
		b.end(simulate.One(srv.w.Schedule, told, reset))
	}
}
