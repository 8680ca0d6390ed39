package lock

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"

	"example.com/lockstore/internal/seam"
)

// A session is one connection to the server, and the locks it holds. Operations submitted while
// a batch is under way form the next batch: one round trip serves all callers that came in the
// meantime.
//
//	idle  nothing is under way
//	busy  batches, or a ping without operations, are under way
//	lost  the connection is closed, and with it every lock
//
//	idle --flush--------------> busy  sent by the caller of flush
//	busy --flush--------------> busy  with one batch more, if enough is pending
//	     --the server is ready> busy  with the next batch, sent by serve
//	                            idle  if nothing is pending
//	any  --error, silence, end> lost  unanswered operations go to owner.lost
//
// Any goroutine may send, by write, one at a time, with the mutex writing: callers (flush), the
// reader (ready), the heartbeat (ping) and Close (leave). One goroutine at a time receives, by
// receive, with the mutex reading. Mostly that is serve, so that the end of the session is
// noticed when it comes, not at its next use; it runs in a goroutine of NewPostgres, reconnect or
// openWaitConn. But if operations come one by one, each soon after the last, their callers read
// for themselves (attend): waking another goroutine, and being woken by it, would take longer
// than the server does.
//
//	serve reads   --a few lone operations--------------------------> callers read
//	callers read  --more than one under way, or none for a moment--> serve reads
//
// While callers read, the one that has sent something does.
type session struct {
	conn       net.Conn
	wire       *pgproto3.Frontend
	backend    Backend
	at         database
	silence    time.Duration // of the server, after which the session is lost
	isWaitConn bool          // is a wait connection: see waitConns
	owner      owner
	pace       pace
	beat       *time.Timer
	unused     time.Time // since when a wait connection is idle (protected by table.mu)
	looks      looks
	lost       int // number of locks lost with it

	observers *observers // nil: none

	mu       sync.Mutex
	pending  [opcodes][]op // to be sent next
	waiting  int           // their number
	blind    int           // number of pending and sent unlocks of what may not be locked
	sent     []batch       // under way, in order
	inFlight int           // number of operations in sent
	reusable [][]op        // memory of answered batches, for reuse
	answer   string        // the text of opAnswer
	heard    time.Time     // when the last batch that was answered had been sent
	answered int           // number of answered batches
	took     time.Duration // time that the last answer took
	trip     time.Duration // time that the fastest answer took
	why      error         // why the session is lost
	leaving  bool          // its owner is closing it

	reading     seam.Mutex    // locked before writing
	values      []int64       // answers to the first batch under way, so far
	failure     error         // the error that ended it
	text        string        // the last answer that was no number; a batch has at most one
	callersRead atomic.Bool   // callers read
	wakeServe   chan struct{} // makes serve read again

	writing seam.Mutex    // locked before mu, so that batches are written in the order of sent
	bind    pgproto3.Bind // its parameter is the keys
}

// A batch is operations that are sent together. One without any is a ping.
type batch struct {
	ops      []op
	at       time.Time // when it was sent
	observed *observedBatch
}

// An owner gets the outcome of its operations. Its methods may submit new ones, but leave
// sending them to flush.
type owner interface {
	// answered gets the answers of a batch, and the time when they came. ops is the session's
	// again afterwards.
	answered(s *session, ops []op, at time.Time)
	// lost gets the reason why the session is lost, and the operations that it did not answer.
	lost(s *session, why error, unanswered []op)
}

// pace has the session's thresholds. A simulation draws other numbers, which make frequent
// what is rare with these.
type pace struct {
	// maxBatch bounds the operations of one batch, so that a burst delays no answer for long
	// and a batch fits a socket's buffer.
	maxBatch int

	// While batches are under way, the next one is sent when it has minBatch operations, up to
	// maxSent batches: the server has work while the answers are processed here.
	minBatch, maxSent int

	// Over a network, where answers take longer, a batch is also sent when it has at least 1/n
	// of the operations in flight, where n is the number of spacings in the round trip, but at
	// most maxDepth, whose batches fit a socket's buffers both ways. So a few operations are
	// sent at once, each alone. If answers come late one end is busy, and each batch costs it
	// time: then n is less, and if they are late by half a round trip nothing is sent early.
	spacing  time.Duration
	maxDepth int

	// After this many lone operations serve lets callers read, until there is none for lull.
	// For so long the end of the session may go unnoticed.
	manyLone int
}

var defaultPace = pace{maxBatch: 256, minBatch: 16, maxSent: 3, manyLone: 8, spacing: 150 * time.Microsecond, maxDepth: 16}

const lull = time.Millisecond

// newSession returns a session on conn, on which the statements have been prepared. It lives
// while serve runs.
func newSession(conn net.Conn, backend Backend, silence time.Duration, isWaitConn bool, o owner) *session {
	s := &session{
		conn: conn, backend: backend, silence: silence, isWaitConn: isWaitConn, owner: o, pace: defaultPace,
		wire:  pgproto3.NewFrontend(conn, conn),
		bind:  pgproto3.Bind{ParameterFormatCodes: binaryFormat, Parameters: make([][]byte, 1), ResultFormatCodes: binaryFormat},
		heard: time.Now(), wakeServe: make(chan struct{}, 1),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.beat = time.AfterFunc(silence/3, s.heartbeat)
	return s
}

// submit adds operations to the next batch, which flush sends. It reports false if the
// session is lost.
func (s *session) submit(ops ...op) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.why != nil {
		return false
	}
	s.enqueue(ops)
	return true
}

func (s *session) enqueue(ops []op) {
	s.waiting += len(ops)
	s.blind += countBlind(ops)
	for _, o := range ops {
		s.pending[o.code] = append(s.pending[o.code], o)
	}
}

func countBlind(ops []op) (n int) {
	for i := range ops {
		if ops[i].isBlind() {
			n++
		}
	}
	return n
}

// flush sends what has been submitted to sessions, if it is due; otherwise the goroutine that
// reads will. If callers read, it then reads the answers, once everything has been sent.
func flush(sessions []*session) {
	for _, s := range sessions {
		s.sendDue()
	}
	for _, s := range sessions {
		s.takeIn()
	}
}

// takeIn reads an answer, if callers read.
func (s *session) takeIn() {
	if s.callersRead.Load() && s.reading.TryLock() {
		s.attend()
		s.reading.Unlock()
		if s.isBusy() { // with other callers' operations
			select {
			case s.wakeServe <- struct{}{}:
			default:
			}
		}
	}
}

func (s *session) isBusy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sent) > 0 || s.waiting > 0
}

func (s *session) countAnswered() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.answered
}

// sendDue sends the next batch, if it is due. If another goroutine is writing, that one checks
// again afterwards.
func (s *session) sendDue() {
	for due := true; due && s.writing.TryLock(); {
		s.send(s.pace.minBatch)
		s.writing.Unlock()
		s.mu.Lock()
		due = s.isDue(s.pace.minBatch)
		s.mu.Unlock()
	}
}

// isDue reports whether a batch is to be sent: no operation is in flight, or enough are
// pending, or as many as make a part of those in flight.
//
// A blind unlock, of what may not be locked, travels alone. If its batch fails before it, it
// is sent again. If a batch behind it had taken the same key meanwhile, the repeated unlock would
// give back that new lock. Within a batch unlocks come first.
func (s *session) isDue(enough int) bool {
	if s.why != nil || s.waiting == 0 || s.inFlight > 0 && s.blind > 0 {
		return false
	}
	late := s.took - s.trip
	depth := int(min(max(0, s.trip-2*late)/s.pace.spacing, time.Duration(s.pace.maxDepth)))
	isPart := depth*min(s.waiting, s.pace.maxBatch) >= s.inFlight
	return isPart || len(s.sent) < s.pace.maxSent && s.waiting >= enough
}

// send writes the next batch if it is due.
func (s *session) send(enough int) {
	s.mu.Lock()
	var ops []op
	var observed *observedBatch
	if s.isDue(enough) {
		ops = s.take()
		observed = s.observe(len(ops))
		s.sent = append(s.sent, batch{ops, time.Now(), observed})
		s.inFlight += len(ops)
	}
	s.mu.Unlock()
	if len(ops) > 0 {
		observed.begin()
		s.write(ops)
	}
}

// take removes the operations of a batch from those pending.
func (s *session) take() []op {
	var taken []op
	if n := len(s.reusable); n > 0 {
		taken, s.reusable = s.reusable[n-1][:0], s.reusable[:n-1]
	}
	for code, ops := range s.pending {
		n := min(len(ops), s.pace.maxBatch-len(taken))
		taken = append(taken, ops[:n]...)
		s.pending[code] = slices.Delete(ops, 0, n)
	}
	s.waiting -= len(taken)
	return taken
}

// write sends the operations of a batch; none are a ping. Its caller holds writing.
func (s *session) write(ops []op) {
	for len(ops) > 0 {
		n := 1
		for n < len(ops) && ops[n].code == ops[0].code {
			n++
		}
		if ops[0].code == opAnswer {
			s.say()
			ops = ops[1:]
			continue
		}
		o := &operations[ops[0].code]
		s.bind.Parameters[0] = appendKeys(s.bind.Parameters[0][:0], ops[:n])
		if o.queue != "" {
			s.execute(noteName)
			s.wire.SendBind(&pgproto3.Bind{PreparedStatement: o.queue})
			s.wire.SendExecute(&pgproto3.Execute{})
		}
		if n == 1 {
			s.execute(o.one)
		} else {
			s.execute(o.many)
		}
		ops = ops[n:]
	}
	s.wire.SendSync(&pgproto3.Sync{})
	if err := s.wire.Flush(); err != nil {
		s.end(err)
	}
}

// execute sends a statement with the bound parameter.
func (s *session) execute(statement string) {
	s.bind.PreparedStatement = statement
	s.wire.SendBind(&s.bind)
	s.wire.SendExecute(&pgproto3.Execute{})
}

// say sends a statement that exists for its text.
func (s *session) say() {
	s.mu.Lock()
	text := s.answer
	s.mu.Unlock()
	s.wire.SendParse(&pgproto3.Parse{Query: text})
	s.wire.SendBind(&pgproto3.Bind{ResultFormatCodes: binaryFormat})
	s.wire.SendExecute(&pgproto3.Execute{})
}

var binaryFormat = []int16{pgtype.BinaryFormatCode}

// heartbeat pings a server that has not been heard for a third of silence, and ends the
// session if a question stays unanswered for all of it.
//
// An answer proves that the server lived when it was asked, not when the answer is read: a
// process that was stopped finds old answers. If a heartbeat comes late, the server has less time
// by that much, but never less than a third of silence. So the session ends when the oldest
// question is as old as silence, or already when nothing was heard for silence and a third, but
// not before the question is a third of silence old.
func (s *session) heartbeat() {
	s.mu.Lock()
	beat, quiet, lost, busy := s.beat, time.Since(s.heard), s.why != nil, len(s.sent) > 0
	var asked time.Duration
	if busy {
		asked = time.Since(s.sent[0].at)
	}
	s.mu.Unlock()
	third := s.silence / 3
	left := min(s.silence-asked, max(s.silence+third-quiet, third-asked))
	switch {
	case lost:
	case busy && left <= 0:
		s.end(fmt.Errorf("the server has been silent for %s", quiet.Round(time.Millisecond)))
	case busy:
		beat.Reset(min(left, third)) // by then another question may be the oldest
	case quiet < third:
		beat.Reset(third - quiet)
	default:
		beat.Reset(min(left, third))
		s.ping()
	}
}

func (s *session) ping() {
	s.writing.Lock()
	s.mu.Lock()
	s.sent = append(s.sent, batch{at: time.Now()})
	s.mu.Unlock()
	s.write(nil)
	s.writing.Unlock()
	s.sendDue()
}

// leave makes the server end the session once it has answered what is under way. The server
// releases every lock before it closes the connection.
func (s *session) leave() {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	s.sent = append(s.sent, batch{at: time.Now()}) // answered by the end
	s.leaving = true
	s.mu.Unlock()
	s.wire.Send(&pgproto3.Terminate{})
	if err := s.wire.Flush(); err != nil {
		s.end(err)
	}
}

// reason returns why the session is lost.
func (s *session) reason() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.why
}

// fault returns reason, or nil if its owner has closed the session.
func (s *session) fault() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaving || errors.Is(s.why, ErrClosed) {
		return nil
	}
	return s.why
}

// end closes the session, whose locks are then lost. serve notices.
func (s *session) end(why error) {
	s.mu.Lock()
	if s.why == nil {
		s.why = why
	}
	s.mu.Unlock()
	s.conn.Close()
}

// reportLost passes what a lost session leaves behind to the owner.
func (s *session) reportLost() {
	s.mu.Lock()
	s.beat.Stop()
	why, unanswered := s.why, slices.Concat(s.pending[:]...)
	for _, b := range s.sent {
		unanswered = append(unanswered, b.ops...)
	}
	sent := s.sent
	s.mu.Unlock()
	s.owner.lost(s, why, unanswered)
	if s.hasObservers() {
		s.writing.Lock() // until the last of them has begun
		defer s.writing.Unlock()
		for _, b := range sent {
			b.observed.end(time.Since(b.at), why)
		}
	}
}
