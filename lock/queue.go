package lock

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
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
//	held     the key is this process's, and has at least one holder here; sharers
//	         that wait for it wait to be told whether others want it: see share
//
//	absent  --lock-----------> asking
//	asking  --yes------------> held      the first waiter holds, and sharers behind a sharer;
//	                                     tries that are left have failed
//	        --yes, none waits> absent    and the key is unlocked
//	        --no-------------> asking    parked, or for the next waiter, if the policy gives up,
//	                                     or for a try that came after the server was asked
//	                           pausing   otherwise
//	pausing --timer----------> asking
//	        --last one leaves> absent
//	held    --unlock---------> held      handed to the next, within the turn of this process
//	                           pausing   unlocked, as the turn is over
//	                           asking    unlocked, to see who else waits at the server,
//	                                     or as the next is alone where sharers were, or
//	                                     the other way round
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
	maxKeys int             // entries
	pick    func(n int) int // where to look first for one of n keys

	observers observers
	logger    *slog.Logger

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
	q.observers, q.logger = newObservers(o.Observers, o.Logger), o.Logger
	q.passes = passes{rival: 20, alone: 256}
	q.pick = rand.IntN
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
	// inquire asks whether somebody else has the key alone, or waits to. The answer
	// comes by queue.inquired, from within the call or later, exactly once.
	inquire(e *entry)
	// unpark says that e need not be waited for in the server, should that
	// become possible.
	unpark(e *entry)
	// withheld reports whether the key is not to be kept here from one holder to the
	// next.
	withheld(e *entry) bool
	// release gives the key of e back. The answer comes by r, if that is not nil.
	release(e *entry, r *reply)
	// fence requests a number for the tenure of c. One that is negative stands for its
	// opposite, and may be lost with the server until it is confirmed.
	fence(c *claim) *reply
	// confirm waits until what s has been given outlives a failover.
	confirm(ctx context.Context, s *session) error
	// database is that of new locks, if that is known.
	database() database
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
	key       Key // as the first to come here named it
	state     state
	mode      mode        // asked for or held with
	line      line        // those who wait
	holders   []*claim    // while held
	one       [1]*claim   // the memory of holders, most of the time
	session   *session    // that holds the key, while held; nil in a Memory
	since     time.Time   // when the server gave the key
	turn      time.Time   // when this process began to have it to itself
	passed    int         // how often it was handed on since it was given
	rival     bool        // another process had it when the server was last asked
	wanted    bool        // is in parking.wanted
	inquiring bool        // server.inquire has not been answered
	writing   bool        // a write under a tenure that has ended may still be under way
	trouble   error       // why the server did not answer last time
	parked    *session    // on which the server is asked, if it is a spare one
	timer     *time.Timer // for the waiters' policies, while they wait for others
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
	case c.try && q.refuses(e, c):
		q.end(c, c.busy(nil))
	default:
		q.line(e, c)
		q.arrived(e, c)
	}
}

// refuses reports whether a try would have to wait for others here: for one that has
// the key, or for one that waits for it and does not share it. A try that is under
// way is not one of them, as it may fail.
func (q *queue) refuses(e *entry, c *claim) bool {
	if e.state == held && (c.mode == alone || e.mode == alone || q.server.withheld(e)) {
		return true
	}
	for w := e.first(); w != nil; w = w.next {
		if !w.try && (w.mode == alone || c.mode == alone) {
			return true
		}
	}
	return false
}

func (q *queue) line(e *entry, c *claim) {
	c.entry = e
	e.line.push(c)
	q.waiting++
}

// arrived has what is under way for e be for c, too, which has come last, or asks for
// what c needs.
func (q *queue) arrived(e *entry, c *claim) {
	switch {
	case e.state == held:
		if c.mode == shared {
			q.share(e)
		}
	case e.state == pausing && c.try:
		q.ask(e)
	case e.state == pausing:
		q.attend(e)
	case e.line.n == 1 && !c.try: // the answer was to be for somebody who has gone
		c.count()
		if e.parked != nil {
			q.parked(e)
		}
	case e.parked != nil && c.try:
		q.reconsider(e)
	case e.parked != nil:
		q.attend(e)
	}
}

// ask requests the key from the server for the first waiter, and for those behind it
// that try for the same.
func (q *queue) ask(e *entry) {
	first, now := e.first(), time.Now()
	e.state, e.mode = asking, first.mode
	e.stopTimer()
	for c := first; c != nil && c.mode == first.mode; c = c.next {
		if c.try || c == first && !c.due.After(now) {
			c.count()
		}
	}
	q.server.ask(e)
	if e.parked != nil {
		q.parked(e)
	}
}

// answered takes the server's answer to ask, which came at a time: the key is now
// held by session, or it is busy, or asking failed.
func (q *queue) answered(e *entry, granted bool, s *session, err error, at time.Time) {
	parked := e.parked != nil
	e.parked = nil
	e.stopTimer()
	if granted {
		q.server.unpark(e)
		e.state, e.session, e.since, e.passed, e.trouble = held, s, at, 0, nil
		if e.turn.IsZero() {
			e.turn = e.since
		}
		q.pass(e, at)
		if e.state == held && e.mode == alone {
			q.endTries(e, nil, func(*claim) bool { return true })
		}
		return
	}
	first := e.first()
	if err == nil || errors.Is(err, ErrUnavailable) {
		e.trouble = err
	}
	if !parked { // a wait is not for tries
		q.endTries(e, err, func(c *claim) bool { return c.asked || err != nil })
	}
	if first != nil && !first.try && err != nil && !errors.Is(err, ErrUnavailable) {
		q.end(first, err)
	}
	q.denied(e)
	switch {
	case e.line.n == 0:
		q.forget(e)
	case e.first() != first || e.line.tries > 0:
		q.ask(e)
	default:
		e.mode = first.mode
		if err == nil && q.server.park(e) {
			first.count()
			q.parked(e)
			return
		}
		e.state = pausing
		q.schedule(e)
	}
}

// endTries ends the tries in line that are meant, because of err or since the key is
// busy.
func (q *queue) endTries(e *entry, err error, meant func(*claim) bool) {
	for c := e.first(); c != nil && e.line.tries > 0; {
		behind := c.next
		if c.try && meant(c) {
			if err == nil {
				q.end(c, c.busy(nil))
			} else {
				q.end(c, err)
			}
		}
		c = behind
	}
}

// next asks for the waiter that has become the first, if there is one.
func (q *queue) next(e *entry) {
	if e.line.n == 0 {
		q.forget(e)
		return
	}
	q.ask(e)
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
	if e.state == held && !e.inquiring { // otherwise an answer may still be on its way
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
	if errors.Is(err, ErrBusy) && !c.tenure.any { // who claims several counts that once
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
	case e.state == asking && wasFirst:
		if e.line.n > 0 && !e.first().try { // the server's answer is the next one's
			e.first().count()
		}
		q.reconsider(e)
	case e.state == held && wasFirst:
		q.share(e) // with sharers that stood behind it
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
