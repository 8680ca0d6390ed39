package lock

import (
	"errors"
	"os"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"example.com/lockstore/internal/pgdb"
)

// This file is the half of a session that reads what the server sends.

// serve reads what the server sends until the session is closed or lost.
func (s *session) serve() {
	for {
		s.reading.Lock()
		s.conn.SetReadDeadline(time.Time{})
		for lone := 0; lone < s.pace.manyLone || s.isWaitConn; {
			n, err := s.receive()
			if err != nil {
				s.reading.Unlock()
				s.end(err)
				s.reportLost()
				return
			}
			switch {
			case n == 1 && !s.isBusy():
				lone++
			case n > 0:
				lone = 0
			}
		}
		s.reading.Unlock()
		s.letCallersRead()
	}
}

// letCallersRead lets callers read, and returns when serve is to read again.
func (s *session) letCallersRead() {
	select {
	case <-s.wakeServe: // from an earlier time
	default:
	}
	s.callersRead.Store(true)
	tick := time.NewTicker(lull)
	defer tick.Stop()
	for before, now := -1, 0; before != now; {
		select {
		case <-s.wakeServe:
			before = now
		case <-tick.C:
			before, now = now, s.countAnswered()
		}
	}
	s.callersRead.Store(false)
	s.conn.SetReadDeadline(time.Unix(1, 0)) // stops a caller that reads
}

// attend reads the answers to a batch, if one is under way, for its caller. It returns early
// when serve wants to read.
func (s *session) attend() {
	for s.isBusy() {
		n, err := s.receive()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return
		case err != nil:
			s.end(err) // which serve will notice
			return
		case n >= 0:
			return
		}
	}
}

// receive reads one message. If it was the last of a batch, n is the batch's number of
// operations, and otherwise negative.
//
// The server's message that it ends the session is the end: next it releases the locks, and it
// may take long to close the connection.
func (s *session) receive() (n int, err error) {
	msg, err := s.wire.Receive()
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return -1, err
	case err != nil && s.failure != nil: // the reason that the server gave before it hung up
		return -1, s.failure
	case err != nil:
		return -1, err
	}
	switch msg := msg.(type) {
	case *pgproto3.DataRow:
		column := msg.Values[0]
		if len(column) > 8 {
			s.text, column = string(column), nil
		}
		s.values = append(s.values, valueOf(column))
	case *pgproto3.ErrorResponse:
		failure := pgdb.ServerError(msg)
		if s.failure = failure; failure.Fatal {
			return -1, failure
		}
	case *pgproto3.ReadyForQuery:
		values, failure := s.values, s.failure
		s.values, s.failure = s.values[:0], nil
		n = s.ready(values, failure)
		s.text = ""
		return n, nil
	}
	return -1, nil
}

// ready sends the next batch, passes on the answers to the first one under way, and returns
// its size.
func (s *session) ready(values []int64, failure error) (size int) {
	now := time.Now()
	s.mu.Lock()
	s.heard = s.sent[0].at
	s.answered++
	s.took = now.Sub(s.heard)
	if s.trip == 0 || s.took < s.trip {
		s.trip = s.took
	}
	first := s.sent[0]
	answers := s.sent[0].ops
	size = len(answers)
	s.inFlight -= size
	s.sent = slices.Delete(s.sent, 0, 1)
	if s.blind > 0 {
		s.blind -= countBlind(answers)
	}
	for i, v := range values {
		answers[i].value = v
	}
	if failure != nil {
		answers = s.recover(answers, len(values), failure)
	}
	s.mu.Unlock()

	s.writing.Lock()
	s.send(1)
	s.writing.Unlock()

	s.owner.answered(s, answers, now)
	first.observed.end(now.Sub(first.at), failure)
	clear(answers)
	s.mu.Lock()
	if cap(answers) > 0 { // a ping has no batch
		s.reusable = append(s.reusable, answers)
	}
	s.mu.Unlock()
	s.sendDue()
	return size
}

// queryCanceled is the SQLSTATE of a statement that pg_cancel_backend ended (PostgreSQL
// documentation, Appendix A).
const queryCanceled = "57014"

// recover handles a batch whose operation at index failed has failed, and returns the
// operations that are answered.
//
//   - The failed operation may have taken its lock all the same, so the lock is dropped,
//     whatever that answers. If the operation was only canceled, it goes into a later
//     batch, unless it is a wait, on which its owner decides.
//   - Those after it have not been tried, and go into a later batch.
//   - Those before it have their answers, but those that were rolled back go into a later
//     batch.
func (s *session) recover(batch []op, failed int, failure error) (answers []op) {
	again := len(batch)
	if failed < len(batch) {
		switch batch[failed].code {
		case opTry, opWait:
			s.enqueue([]op{{code: opDrop, key: batch[failed].key}})
		case opTryShared, opWaitShared:
			s.enqueue([]op{{code: opDropShared, key: batch[failed].key}})
		}
		again = failed
		if code := batch[failed].code; pgdb.Code(failure) != queryCanceled || code == opWait || code == opWaitShared {
			batch[failed].err = failure
			again++
		}
	}
	s.enqueue(batch[again:])
	answers = batch[:0]
	for _, o := range batch[:again] {
		if o.isTransactional() && o.err == nil { // its transaction was not committed
			if failed < len(batch) {
				s.enqueue([]op{o})
				continue
			}
			o.err = failure
		}
		answers = append(answers, o)
	}
	return answers
}
