package lock

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"example.com/lockstore/backoff"
	"example.com/lockstore/internal/seam"
)

// A queue is what this process knows of its locks: for each key somebody here
// holds or wants, an entry with those who wait in the order of their calls.
// The server below it decides between processes; it is asked only on behalf
// of an entry's first waiter.
//
// An entry is in one of these states, and absent from the queue otherwise:
//
//	asking   the server has been asked for the key; its answer is on the way
//	pausing  the server said no; the timer will ask again
//	held     the key is this process's, and has at least one holder here
//
//	absent  --lock-----------> asking
//	asking  --yes------------> held      the first waiter holds, and sharers behind a sharer
//	        --yes, none waits> absent    and the key is unlocked
//	        --no-------------> asking    parked, or the policy giving up, for the next waiter
//	                           pausing   otherwise
//	pausing --timer----------> asking
//	        --last one leaves> absent
//	held    --unlock---------> held      handed to the next, within the turn of this process
//	                           pausing   unlocked, as the turn is over
//	                           asking    unlocked, to see who else waits at the server,
//	                                     or as the next is alone where sharers were
//	                           absent    unlocked, as nobody waits
//	        --session lost---> asking    or absent: every holder is told
//
// All of it is guarded by mu, which is never held across I/O: what a change of
// state asks of the server is gathered by it and sent by unlock.
type queue struct {
	server  server
	policy  backoff.Policy
	budget  time.Duration // how long a turn is
	passes  passes
	maxKeys int // entries

	observer Observer // nil: none
	logger   *slog.Logger

	mu        seam.Mutex
	entries   map[int64]*entry
	forgotten sync.Pool  // of entries
	unsent    []*session // that requests were made of
	closed    bool
	waiting   int   // claims in line
	holding   int   // claims that hold
	counts    Stats // of what has happened
}

func (q *queue) init(s server, o PostgresOptions) {
	q.server, q.policy, q.budget, q.maxKeys = s, o.Backoff, o.HandOff, o.MaxKeys
	q.observer, q.logger = o.Observer, o.Logger
	q.passes = passes{rival: 20, alone: 256}
	q.entries = make(map[int64]*entry)
}

// A server decides between processes. Its methods are called with the queue's
// mutex held and do not block: what they request is sent when it is unlocked.
type server interface {
	// ask requests the key for e. The answer comes by queue.answered, from
	// within the call or later, exactly once.
	ask(e *entry)
	// park is ask for a key that another process has, where it can be waited
	// for in the server.
	park(e *entry) bool
	// abandon says that nobody waits any more for what ask requested. The
	// answer still comes.
	abandon(e *entry)
	// unpark says that e need not be waited for in the server, should that
	// become possible.
	unpark(e *entry)
	// withheld reports whether the key is not to be kept here from one holder to the
	// next.
	withheld(e *entry) bool
	// release gives the key of e back. The answer comes by r, if that is not nil.
	release(e *entry, r *reply)
	// fence requests a number for the tenure of c.
	fence(c *claim) *reply
}

// mode says with whom a key is shared.
type mode uint8

const (
	alone mode = iota
	shared
)

type state uint8

const (
	asking state = iota
	pausing
	held
)

// An entry is one key that this process holds or wants.
type entry struct {
	key     Key // as the first to come here named it
	state   state
	mode    mode          // asked for or held with
	line    line          // those who wait
	holders []*claim      // while held
	one     [1]*claim     // the memory of holders, most of the time
	session *session      // that holds the key, while held; nil in a Memory
	since   time.Time     // when the server gave the key
	turn    time.Time     // when this process began to have it to itself
	passed  int           // how often it was handed on since it was given
	rival   bool          // another process had it when the server was last asked
	wanted  bool          // is in parking.wanted
	writing bool          // a write under a tenure that has ended may still be under way
	trouble error         // why the server did not answer last time
	parked  *session      // on which the server is asked, if it is a spare one
	timer   *time.Timer   // for the first waiter's policy, while pausing or parked
	wait    time.Duration // that it was set to
}

// first is the waiter on whose behalf the server is asked.
func (e *entry) first() *claim { return e.line.first }

// request asks something of a session. It reports false if that is dead.
func (q *queue) request(s *session, ops ...op) bool {
	if !s.request(ops...) {
		return false
	}
	if !slices.Contains(q.unsent, s) {
		q.unsent = append(q.unsent, s)
	}
	return true
}

// unlock ends a change of state, and sends what it requested.
func (q *queue) unlock() {
	var few [2]*session
	unsent := append(few[:0], q.unsent...)
	q.unsent = q.unsent[:0]
	q.mu.Unlock()
	flush(unsent)
}

// enter adds claims to their keys: each holds at once, waits in line, or has
// ended because the key is busy.
func (q *queue) enter(claims ...*claim) {
	q.mu.Lock()
	defer q.unlock()
	for _, c := range claims {
		q.enterOne(c)
	}
}

func (q *queue) enterOne(c *claim) {
	e := q.entries[c.key.id]
	switch {
	case q.closed:
		q.end(c, ErrClosed)
	case e == nil && len(q.entries) >= q.maxKeys:
		q.end(c, fmt.Errorf("%w: %d keys are held or wanted here", ErrTooMany, q.maxKeys))
	case e == nil:
		e = q.newEntry(c.key)
		q.line(e, c)
		q.ask(e)
	case e.state == asking && e.line.n == 0 && (e.parked == nil || !c.try): // for somebody who has gone
		q.line(e, c)
		c.attempts++
		if e.parked != nil {
			q.after(e, e.wait)
		}
	case q.joins(e, c):
		q.line(e, c)
		q.admit(e, time.Now())
	case c.try:
		q.end(c, c.busy(nil))
	default:
		q.line(e, c)
	}
}

// joins reports whether c may share a key that sharers hold already. It may
// not overtake a waiter, nor hold on beyond the budget what other processes
// may wait for.
func (q *queue) joins(e *entry, c *claim) bool {
	return e.state == held && e.mode == shared && c.mode == shared &&
		e.line.n == 0 && time.Since(e.turn) < q.budget && !q.server.withheld(e)
}

func (q *queue) line(e *entry, c *claim) {
	c.entry = e
	e.line.push(c)
	q.waiting++
}

// ask requests the key from the server for the first waiter.
func (q *queue) ask(e *entry) {
	first := e.first()
	first.attempts++
	e.state, e.mode = asking, first.mode
	q.server.ask(e)
	if e.parked != nil {
		q.after(e, e.wait)
	}
}

// answered takes the server's answer to ask, which came at a time: the key is now
// held by session, or it is busy, or asking failed.
func (q *queue) answered(e *entry, granted bool, s *session, err error, at time.Time) {
	e.parked = nil
	e.stopTimer()
	first := e.first()
	switch {
	case granted:
		q.server.unpark(e)
		e.state, e.session, e.since, e.passed, e.trouble = held, s, at, 0, nil
		if e.turn.IsZero() {
			e.turn = e.since
		}
		q.pass(e, nil, at)
	case first == nil:
		q.forget(e)
	case err != nil && (first.try || !errors.Is(err, ErrUnavailable)):
		q.end(first, err)
		q.next(e)
	case first.try:
		q.end(first, first.busy(nil))
		q.next(e)
	default:
		e.trouble = err
		wait, ok := q.poll(first)
		if !ok {
			q.next(e)
			return
		}
		e.mode = first.mode
		if err == nil && q.server.park(e) {
			first.attempts++
			q.after(e, wait)
			return
		}
		q.pause(e, wait)
	}
}

// poll asks a waiter's policy when to look again, and ends the waiter if that gives up.
func (q *queue) poll(c *claim) (wait time.Duration, ok bool) {
	wait, ok, gaveUp := c.poll()
	if !ok {
		q.end(c, c.busy(gaveUp))
	}
	return wait, ok
}

// next asks for the waiter that has become the first, if there is one.
func (q *queue) next(e *entry) {
	if e.line.n == 0 {
		q.forget(e)
		return
	}
	q.ask(e)
}

func (q *queue) pause(e *entry, wait time.Duration) {
	e.state = pausing
	q.after(e, wait)
}

// after has e looked at in a while.
func (q *queue) after(e *entry, wait time.Duration) {
	e.wait = wait
	var timer *time.Timer
	timer = time.AfterFunc(wait, func() {
		q.mu.Lock()
		defer q.unlock()
		if e.timer == timer { // and has not been stopped too late
			e.timer = nil
			q.due(e)
		}
	})
	e.timer = timer
}

// due asks again for an entry that pauses. One that is parked goes on waiting, if
// its first waiter does.
func (q *queue) due(e *entry) {
	if e.state == pausing {
		q.ask(e)
		return
	}
	first := e.first()
	if first == nil {
		return // abandoned
	}
	wait, ok := q.poll(first)
	switch {
	case ok:
		first.attempts++
		q.after(e, max(wait, time.Millisecond)) // which asks nobody, and must not spin
	case e.line.n == 0:
		q.server.abandon(e)
	default: // the next one's wait begins
		e.first().attempts++
		q.after(e, e.wait)
	}
}

// rouse asks at once for an entry that pauses.
func (q *queue) rouse(e *entry) {
	if e.state == pausing && e.timer != nil {
		e.stopTimer()
		q.ask(e)
	}
}

func (e *entry) stopTimer() {
	if e.timer != nil {
		e.timer.Stop()
		e.timer = nil
	}
}

// newEntry makes an entry, out of one that was forgotten if there is one.
func (q *queue) newEntry(key Key) *entry {
	e, ok := q.forgotten.Get().(*entry)
	if !ok {
		e = new(entry)
	}
	*e = entry{key: key}
	e.holders = e.one[:0]
	q.entries[key.id] = e
	return e
}

func (q *queue) forget(e *entry) {
	e.stopTimer()
	q.server.unpark(e)
	delete(q.entries, e.key.id)
	if e.state == held { // otherwise an answer may still be on its way
		q.forgotten.Put(e)
	}
}

func (q *queue) leaveLine(c *claim) {
	c.entry.line.remove(c)
	q.waiting--
}

// end ends a claim that holds nothing.
func (q *queue) end(c *claim, err error) {
	if c.entry != nil {
		q.leaveLine(c)
	}
	if errors.Is(err, ErrBusy) {
		q.counts.Busy++
	}
	c.become(ended, err)
}

// withdraw ends a claim whose caller waits no longer. It reports false if the
// claim has been decided already.
func (q *queue) withdraw(c *claim, why error) bool {
	q.mu.Lock()
	defer q.unlock()
	if c.state != waiting {
		return false
	}
	e, wasFirst := c.entry, c.entry.first() == c
	q.end(c, c.busy(why))
	switch {
	case e.state == pausing && e.line.n == 0:
		q.forget(e)
	case e.state == asking && e.line.n == 0:
		q.server.abandon(e)
	case e.state == asking && wasFirst: // the server's answer is the next one's
		e.first().attempts++
	case e.state == held && wasFirst && e.mode == shared && !q.server.withheld(e):
		q.admit(e, time.Now()) // sharers that stood behind it
	}
	return true
}

// sorted are the entries in the order of their keys, so that what ends many of
// them ends them in the same order each time.
func (q *queue) sorted() []*entry {
	entries := make([]*entry, 0, len(q.entries))
	for _, id := range slices.Sorted(maps.Keys(q.entries)) {
		entries = append(entries, q.entries[id])
	}
	return entries
}

// close ends every claim.
func (q *queue) close() {
	q.closed = true
	for _, e := range q.sorted() {
		for first := e.first(); first != nil; first = e.first() {
			q.end(first, ErrClosed)
		}
		q.endAll(e, ErrClosed)
		q.forget(e)
	}
}
