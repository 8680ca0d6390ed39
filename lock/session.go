package lock

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"
)

// stepSQL is the one statement of a session: it carries out the operations $2
// on the keys $1, in their order, and answers each with a number. None of
// them blocks. A row is sent as soon as it is computed, so if one operation
// fails, those before it have their answers, and those behind it have not
// been tried.
//
// PostgreSQL documentation, 9.28.10 Advisory Lock Functions, and 9.27.8
// Transaction ID and Snapshot Information Functions.
const (
	stepName = "lockstore_step"
	stepSQL  = `SELECT CASE op
	WHEN 0 THEN pg_advisory_unlock(key)::int::bigint
	WHEN 1 THEN pg_advisory_unlock_shared(key)::int::bigint
	WHEN 2 THEN pg_try_advisory_lock(key)::int::bigint
	WHEN 3 THEN pg_try_advisory_lock_shared(key)::int::bigint
	WHEN 4 THEN pg_current_xact_id()::text::bigint
END FROM unnest($1::bigint[], $2::smallint[]) AS step(key, op)`
)

type opcode int16

const (
	opUnlock opcode = iota
	opUnlockShared
	opTry
	opTryShared
	opFence
)

// rank is the code's place in a batch.
func (c opcode) rank() int {
	if c <= opUnlockShared {
		return 0
	}
	return 1
}

// maxBatch bounds the operations of one batch, so that a burst delays no
// answer for long and fits a socket's buffer.
const maxBatch = 1024

// An op is one operation and, later, its answer.
type op struct {
	code  opcode
	key   int64
	entry *entry // that tries
	reply *reply // to an unlock or a fence
	value int64
	err   error
}

// A session is one connection to the server, and the locks it holds.
// Operations requested while a batch is under way form the next batch: one
// round trip serves everybody who came in the meantime.
//
//	idle  nothing is under way
//	busy  a batch, or a ping without operations, is under way
//	dead  the connection is gone, and with it every lock
//
//	idle --flush--------------> busy  sent by the caller of flush
//	busy --the server is ready> busy  with the next batch, sent by the reader
//	                            idle  if nothing was requested
//	any  --error, silence, end> dead  unanswered operations go to lost
//
// One goroutine, serve, takes in all that the server says. So the end of the
// session is noticed when it comes, not when it is next used.
type session struct {
	conn    net.Conn
	wire    *pgproto3.Frontend
	types   *pgtype.Map
	backend Backend
	silence time.Duration // of the server, that ends the session
	owner   owner

	mu      sync.Mutex
	busy    bool
	pending []op // to be sent next
	sent    []op // under way
	heard   time.Time
	beat    *time.Timer
	why     error // why it is dead

	writing sync.Mutex // the server may answer before its last writer has returned
	keys    []int64    // the batch being written
	codes   []opcode
}

// An owner is told what becomes of its requests. It may make new ones, but
// leaves sending them to flush.
type owner interface {
	// answered tells the answers of a batch.
	answered(s *session, batch []op)
	// lost tells that the session is dead, and what it did not answer.
	lost(s *session, why error, unanswered []op)
}

// newSession is a session on conn, on which stepSQL has been prepared. It
// lives while serve runs.
func newSession(conn net.Conn, backend Backend, silence time.Duration, o owner) *session {
	s := &session{
		conn: conn, backend: backend, silence: silence, owner: o,
		wire: pgproto3.NewFrontend(conn, conn), types: pgtype.NewMap(),
		heard: time.Now(),
	}
	s.beat = time.AfterFunc(silence/3, s.heartbeat)
	return s
}

// request adds operations to the next batch, which flush sends. It reports
// false if the session is dead.
func (s *session) request(ops ...op) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.why != nil {
		return false
	}
	s.pending = append(s.pending, ops...)
	return true
}

// flush sends what has been requested, unless something is under way: then
// the reader will.
func (s *session) flush() {
	s.mu.Lock()
	var batch []op
	if !s.busy && s.why == nil {
		batch = s.take()
	}
	s.mu.Unlock()
	if len(batch) > 0 {
		s.write(batch)
	}
}

// take makes a batch of what is pending: unlocks first, so that the session
// never has a key twice that was given back and is wanted again.
func (s *session) take() []op {
	n := min(len(s.pending), maxBatch)
	batch := slices.Clone(s.pending[:n])
	s.pending = slices.Delete(s.pending, 0, n)
	slices.SortStableFunc(batch, func(a, b op) int { return a.code.rank() - b.code.rank() })
	s.busy, s.sent = n > 0, batch
	return batch
}

// write sends a batch; an empty one is a ping. Only who made the session busy
// calls it.
func (s *session) write(batch []op) {
	s.writing.Lock()
	defer s.writing.Unlock()
	if len(batch) > 0 {
		s.keys, s.codes = s.keys[:0], s.codes[:0]
		for _, o := range batch {
			s.keys, s.codes = append(s.keys, o.key), append(s.codes, o.code)
		}
		keys, err := s.types.Encode(pgtype.Int8ArrayOID, pgtype.BinaryFormatCode, s.keys, nil)
		if err == nil {
			var codes []byte
			codes, err = s.types.Encode(pgtype.Int2ArrayOID, pgtype.BinaryFormatCode, s.codes, nil)
			s.wire.SendBind(&pgproto3.Bind{
				PreparedStatement:    stepName,
				ParameterFormatCodes: []int16{pgtype.BinaryFormatCode},
				Parameters:           [][]byte{keys, codes},
				ResultFormatCodes:    []int16{pgtype.BinaryFormatCode},
			})
		}
		if err != nil {
			s.end(err)
			return
		}
		s.wire.SendExecute(&pgproto3.Execute{})
	}
	s.wire.SendSync(&pgproto3.Sync{})
	if err := s.wire.Flush(); err != nil {
		s.end(err)
	}
}

// serve takes in what the server says until the session is dead.
func (s *session) serve() {
	var values []int64
	var failure error
	for {
		msg, err := s.wire.Receive()
		if err != nil {
			s.end(errors.Join(failure, err))
			s.bury()
			return
		}
		switch msg := msg.(type) {
		case *pgproto3.DataRow:
			values = append(values, int64(binary.BigEndian.Uint64(msg.Values[0])))
		case *pgproto3.ErrorResponse:
			failure = pgconn.ErrorResponseToPgError(msg)
		case *pgproto3.ReadyForQuery:
			s.ready(values, failure)
			values, failure = values[:0], nil
		}
	}
}

// ready sends the next batch and tells the answers of the last.
func (s *session) ready(values []int64, failure error) {
	s.mu.Lock()
	s.heard = time.Now()
	answers := s.sent
	for i, v := range values {
		answers[i].value = v
	}
	if failure != nil {
		answers = s.recover(answers, len(values), failure)
	}
	next := s.take()
	s.mu.Unlock()
	if len(next) > 0 {
		s.write(next)
	}
	s.owner.answered(s, answers)
}

// recover deals with a batch of which the operation at failed has failed. Its
// lock may have been taken all the same, so it is unlocked, whatever that
// answers. Those behind it have not been tried, and come first in the next
// batch; so does the failed one if it was only cancelled. The rest has its
// answers.
func (s *session) recover(batch []op, failed int, failure error) (answers []op) {
	if failed >= len(batch) {
		return batch
	}
	var again []op
	switch batch[failed].code {
	case opTry:
		again = append(again, op{code: opUnlock, key: batch[failed].key})
	case opTryShared:
		again = append(again, op{code: opUnlockShared, key: batch[failed].key})
	}
	if sqlstate(failure) != queryCanceled {
		batch[failed].err = failure
		failed++
	}
	again = append(again, batch[failed:]...)
	s.pending = append(again, s.pending...)
	return batch[:failed]
}

// heartbeat pings a server that has not been heard for a while, and gives up
// one that does not answer.
func (s *session) heartbeat() {
	s.mu.Lock()
	quiet, ping, dead := time.Since(s.heard), false, s.why != nil
	switch {
	case dead:
	case s.busy && quiet >= s.silence:
		dead = true
	case !s.busy && quiet >= s.silence/3:
		s.busy, s.sent, ping = true, nil, true
	}
	wait := s.silence/3 - quiet
	if s.busy {
		wait = s.silence - quiet
	}
	s.mu.Unlock()
	if dead {
		s.end(fmt.Errorf("the server has been silent for %s", quiet.Round(time.Millisecond)))
		return
	}
	s.beat.Reset(max(wait, time.Millisecond))
	if ping {
		s.write(nil)
	}
}

// leave has the server end the session once it has answered what is under
// way. It releases every lock before it closes the connection.
func (s *session) leave() {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.wire.Send(&pgproto3.Terminate{})
	if err := s.wire.Flush(); err != nil {
		s.end(err)
	}
}

// end closes the session, whose locks are then lost. The reader notices.
func (s *session) end(why error) {
	s.mu.Lock()
	if s.why == nil {
		s.why = why
	}
	s.mu.Unlock()
	s.conn.Close()
}

// bury tells the owner what a dead session leaves behind.
func (s *session) bury() {
	s.mu.Lock()
	s.beat.Stop()
	why, unanswered := s.why, append(s.sent, s.pending...)
	s.sent, s.pending = nil, nil
	s.mu.Unlock()
	s.owner.lost(s, why, unanswered)
}
