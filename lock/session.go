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

// A session is one connection to the server, and the locks it holds.
// Operations requested while a batch is under way form the next batch: one
// round trip serves everybody who came in the meantime.
//
//	idle  nothing is under way
//	busy  batches, or a ping without operations, are under way
//	dead  the connection is gone, and with it every lock
//
//	idle --flush--------------> busy  sent by the caller of flush
//	busy --flush--------------> busy  with one batch more, if enough is pending
//	     --the server is ready> busy  with the next batch, sent by serve
//	                            idle  if nothing is pending
//	any  --error, silence, end> dead  unanswered operations go to owner.lost
//
// What the server says is taken in by one at a time, who has reading. That is the
// goroutine serve, so that the end of the session is noticed when it comes, not
// when it is next used. But where operations come one by one, each soon after the
// last, their callers read for themselves: to wake another goroutine, and be
// woken by it, would take longer than the server does.
//
//	attended  serve reads
//	         --a few lone operations> left to callers
//	left to callers, of whom the one who has sent something reads
//	         --there is more under way than that, or nothing for a moment> attended
type session struct {
	conn    net.Conn
	wire    *pgproto3.Frontend
	backend Backend
	at      database
	silence time.Duration // of the server, that ends the session
	spare   bool          // waits in the server: see parking
	owner   owner
	pace    pace
	beat    *time.Timer
	unused  time.Time // since when, for a spare session (guarded by queue.mu)
	looks   looks
	lost    int // locks, in the end

	observers *observers // nil: none

	mu       sync.Mutex
	pending  [opcodes][]op // to be sent next
	waiting  int           // their number
	blind    int           // of them and of those under way, unlocks of what may not be locked
	sent     []batch       // that are under way, in their order
	inFlight int           // operations of these
	over     [][]op        // the memory of batches that are over
	answer   string        // the text of opAnswer
	heard    time.Time     // when the last batch was sent that was answered
	turns    int           // batches that were answered
	took     time.Duration // by the last answer
	trip     time.Duration // by the fastest one
	why      error         // why it is dead
	leaving  bool          // by its owner's will

	reading seam.Mutex    // taken before writing
	values  []int64       // answers to the first batch under way, so far
	failure error         // that ended it
	text    string        // the last answer that was no number, of which a batch has one at most
	left    atomic.Bool   // reading is, to callers
	rouse   chan struct{} // for serve to end that

	writing seam.Mutex    // taken before mu, for batches to be written as they were taken
	bind    pgproto3.Bind // whose parameter is the keys
}

// A batch is operations that are sent together. One without any is a ping.
type batch struct {
	ops      []op
	at       time.Time // when it was sent
	observed *observedBatch
}

// An owner is told what becomes of its requests. It may make new ones, but
// leaves sending them to flush.
type owner interface {
	// answered tells the answers of a batch, which is the session's again
	// afterwards, and when they came.
	answered(s *session, ops []op, at time.Time)
	// lost tells that the session is dead, and what it did not answer.
	lost(s *session, why error, unanswered []op)
}

// pace says when a session does what. A simulation draws other numbers, which
// make what is rare with these frequent.
type pace struct {
	// maxBatch bounds the operations of one batch, so that a burst delays no
	// answer for long and a batch fits a socket's buffer.
	maxBatch int

	// While a batch is under way, the next is sent when it has minBatch
	// operations, up to maxSent: the server has work while the answers are
	// being dealt with here.
	minBatch, maxSent int

	// Over a network, where answers take longer, a batch is also sent when it has its
	// part of the operations in flight. There are as many parts as there are spacings
	// in the round trip, up to maxDepth, which fit a socket's buffers both ways: so few
	// operations are sent at once, each alone. Where answers come late one end is busy,
	// and each batch costs it time: there are fewer parts, and from half a round trip on
	// there is none.
	spacing  time.Duration
	maxDepth int

	// After so many lone operations serve leaves the reading to callers, until
	// there is none for lull: so long the session's end may not be noticed.
	manyLone int
}

var defaultPace = pace{maxBatch: 256, minBatch: 16, maxSent: 3, manyLone: 8, spacing: 150 * time.Microsecond, maxDepth: 16}

const lull = time.Millisecond

// newSession is a session on conn, where the statements have been prepared.
// It lives while serve runs.
func newSession(conn net.Conn, backend Backend, silence time.Duration, spare bool, o owner) *session {
	s := &session{
		conn: conn, backend: backend, silence: silence, spare: spare, owner: o, pace: defaultPace,
		wire:  pgproto3.NewFrontend(conn, conn),
		bind:  pgproto3.Bind{ParameterFormatCodes: binaryFormat, Parameters: make([][]byte, 1), ResultFormatCodes: binaryFormat},
		heard: time.Now(), rouse: make(chan struct{}, 1),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
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

// flush sends what has been requested of sessions, if it is time; otherwise who
// reads will. Where reading is left to callers, it takes in the answers, once
// everything has been sent.
func flush(sessions []*session) {
	for _, s := range sessions {
		s.sendDue()
	}
	for _, s := range sessions {
		s.takeIn()
	}
}

// takeIn takes in an answer, if reading is left to callers.
func (s *session) takeIn() {
	if s.left.Load() && s.reading.TryLock() {
		s.attend()
		s.reading.Unlock()
		if s.isBusy() { // with what others have requested meanwhile
			select {
			case s.rouse <- struct{}{}:
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

func (s *session) countTurns() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.turns
}

// sendDue sends the next batch, if it is time. Who is writing meanwhile looks
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
// An unlock of what may not be locked travels alone. If its batch fails before it,
// it is sent again; by then a batch behind it could have taken the same key anew,
// which it would give back. Within a batch unlocks come first.
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

// take makes the operations of a batch of what is pending.
func (s *session) take() []op {
	var taken []op
	if n := len(s.over); n > 0 {
		taken, s.over = s.over[n-1][:0], s.over[:n-1]
	}
	for code, ops := range s.pending {
		n := min(len(ops), s.pace.maxBatch-len(taken))
		taken = append(taken, ops[:n]...)
		s.pending[code] = slices.Delete(ops, 0, n)
	}
	s.waiting -= len(taken)
	return taken
}

// write sends the operations of a batch; none are a ping. Its caller has writing.
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

// execute sends a statement with the parameter that is bound.
func (s *session) execute(statement string) {
	s.bind.PreparedStatement = statement
	s.wire.SendBind(&s.bind)
	s.wire.SendExecute(&pgproto3.Execute{})
}

// say sends a statement that is there for its text.
func (s *session) say() {
	s.mu.Lock()
	text := s.answer
	s.mu.Unlock()
	s.wire.SendParse(&pgproto3.Parse{Query: text})
	s.wire.SendBind(&pgproto3.Bind{ResultFormatCodes: binaryFormat})
	s.wire.SendExecute(&pgproto3.Execute{})
}

var binaryFormat = []int16{pgtype.BinaryFormatCode}

// heartbeat pings a server that has not been heard for a third of its time, and gives
// up one that leaves what it was asked unanswered for all of it.
//
// What an answer proves is that the server lived when it was asked, not when the
// answer is read: a process that was stopped finds answers that are old. One that
// comes late to ask makes up for it, but leaves the server a third of its time.
func (s *session) heartbeat() {
	s.mu.Lock()
	beat, quiet, dead, busy := s.beat, time.Since(s.heard), s.why != nil, len(s.sent) > 0
	var asked time.Duration
	if busy {
		asked = time.Since(s.sent[0].at)
	}
	s.mu.Unlock()
	third := s.silence / 3
	left := min(s.silence-asked, max(s.silence+third-quiet, third-asked))
	switch {
	case dead:
	case busy && left <= 0:
		s.end(fmt.Errorf("the server has been silent for %s", quiet.Round(time.Millisecond)))
	case busy:
		beat.Reset(min(left, third)) // what comes next may be asked later, and answered
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

// leave has the server end the session once it has answered what is under
// way. It releases every lock before it closes the connection.
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

// reason is why the session is dead.
func (s *session) reason() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.why
}

// fault is reason, unless its owner has ended the session.
func (s *session) fault() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaving || errors.Is(s.why, ErrClosed) {
		return nil
	}
	return s.why
}

// end closes the session, whose locks are then lost. Serve notices.
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
