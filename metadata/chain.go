package metadata

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"example.com/lockstore/internal/pgdb"
)

// Over a network, further commits of a document are sent before the answer to the first
// is there, each on what the one before will leave: its base is predicted. They make a
// chain, on one connection, which the server carries out one after the other.
//
//	leading  --sent----> under way  the turn is given on, to one that sends the next
//	         --answered> done, in the order in which they were sent
//	         --of no use> waiting again, as with all that was sent behind it
//
// A commit that is not stored leaves the document other than predicted, or of another
// version, so that what was sent behind it is not stored either: see saveOnSQL. Then, or
// when its time is over, nothing is added to the chain, and once everything of it is
// answered the next leader begins anew. Nobody is told what was decided on a predicted
// base before the answer is there that it was stored, and with it all before it.
//
// The connection is given back by whoever leaves the chain as the last.
type chain struct {
	conn      pgdb.Conn
	pipe      pgdb.Pipeline
	principal string
	since     time.Time
	full      bool // others may wait for a connection

	flights []*flight // under way, in order
	flying  int       // their calls
	broken  bool      // nothing is to follow
	over    bool      // the connection is being given back

	tail    chan struct{}  // that the last answer before the next commit was received
	unread  sync.WaitGroup // answers
	turn    chan struct{}  // for who sends, or uses the connection otherwise
	updated time.Time      // of what was answered last; for who receives
}

// A flight is a commit of a chain, from before it is sent.
type flight struct {
	*chain
	line   *line
	queue  *queue
	leader *call
	calls  []*call
	draft  *draft
	left   *base // predicted
	fills  bool  // the pool has no connection for others
	stored bool

	began    time.Time
	previous time.Time     // when what it builds on was stored, as the server says; zero: it is known
	received chan struct{} // that the answer was
}

// chainLife is for how long a chain has its connection; others may wait for one.
const chainLife = time.Second

// A pace says how many commits are to be under way besides the first: as many as the server
// carries out while an answer travels.
type pace struct {
	trip time.Duration // there and back
	work time.Duration // of the server for a commit
	idle int           // commits since the last that something was learnt of
}

const (
	mostUnderWay = 8
	leastWork    = 50 * time.Microsecond
	probes       = 16 // one commit of so many is looked at where none would be else
)

func (p *pace) depth() int { return int(min(p.trip/max(p.work, leastWork), mostUnderWay)) }

// isDue reports whether a commit is to be sent by itself though it may be the only one.
func (p *pace) isDue() bool {
	if p.depth() == 0 && p.idle > 0 {
		p.idle--
		return false
	}
	p.idle = probes
	return true
}

// learn takes in what a commit took. Its trip can only be told where it was alone.
func (p *pace) learn(alone bool, trip, work time.Duration) {
	if alone {
		p.trip = smooth(p.trip, trip)
	}
	p.work = smooth(p.work, work)
}

// smooth follows what falls soon, and what rises, perhaps once, slowly.
func smooth(old, now time.Duration) time.Duration {
	switch {
	case old == 0:
		return now
	case now < old:
		return old - (old-now)/4
	}
	return old + (min(now, 4*old)-old)/16
}

// fly makes a flight of a commit of a leader with a connection, in the line's chain if
// there is one. Nil: the commit is to be made without.
func (p *postgres) fly(l *line, leader *call, calls []*call, conn pgdb.Conn, dr *draft) *flight {
	if calls[0] != leader || l.chain == nil && !p.queue.isPaceDue() { // it halves a commit
		return nil
	}
	f := &flight{chain: l.chain, line: l, queue: &p.queue, leader: leader, calls: calls, draft: dr, received: make(chan struct{}), fills: p.db.Full()}
	if f.chain == nil {
		pipe := conn.Pipeline()
		if pipe == nil {
			return nil
		}
		f.chain = &chain{conn: conn, pipe: pipe, principal: leader.principal, since: time.Now(), turn: make(chan struct{}, 1)}
	}
	return f
}

func (q *queue) isPaceDue() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.pace.isDue()
}

// commit is [pgdb.Conn].QueryRow: the turn is another's once the statement has been sent.
func (f *flight) commit(ctx context.Context, dest []any, sql string, args ...any) error {
	before, receive, err := f.send(ctx, sql, args)
	if err != nil {
		return err
	}
	a, err := f.receive(ctx, before, receive, dest)
	if a.Noticed && err == nil {
		f.shut()
		f.unread.Wait()
		f.turn <- struct{}{}
		defer func() { <-f.turn }()
		err = f.pipe.Confirm(ctx)
	}
	return err
}

// send sends the statement, unless nothing is to follow.
func (f *flight) send(ctx context.Context, sql string, args []any) (before chan struct{}, receive pgdb.Receive, err error) {
	f.turn <- struct{}{}
	defer func() { <-f.turn }()
	if f.queue.isBroken(f.chain) {
		return nil, nil, pgdb.ErrNoRows // whoever asked for it asks anew
	}
	f.began = time.Now()
	if receive, err = f.pipe.Send(ctx, sql, args...); err == nil {
		before = f.queue.launch(f)
	}
	return before, receive, err
}

// shut has nothing follow, from now on.
func (f *flight) shut() {
	f.turn <- struct{}{}
	defer func() { <-f.turn }()
	f.queue.mu.Lock()
	defer f.queue.mu.Unlock()
	f.broken = true
}

// receive reads the answer after those before it.
func (f *flight) receive(ctx context.Context, before chan struct{}, receive pgdb.Receive, dest []any) (a pgdb.Answer, err error) {
	defer f.unread.Done()
	defer close(f.received)
	if before != nil {
		<-before
		f.previous = f.updated
	}
	a, err = receive(ctx, dest)
	if err == nil {
		f.updated = nullTime{*dest[3].(**int64)}.time()
		f.queue.learn(before == nil, a.Began.Sub(f.began), time.Since(a.Began))
	}
	return a, err
}

func (q *queue) isBroken(ch *chain) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return ch.broken
}

func (q *queue) learn(alone bool, trip, work time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.pace.learn(alone, trip, work)
}

// launch takes those whose changes were sent out of the line, which is then the next
// leader's. It returns what the answer has to wait for.
func (q *queue) launch(f *flight) (before chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := f.line
	q.putBack(l, len(f.calls), false)
	q.foundTaken(l, false)
	l.calls, l.taken, l.led = l.calls[l.taken:], 0, false
	l.chain, l.base, f.leader.flown, f.leader.gone = f.chain, nil, true, true
	f.flights = append(f.flights, f)
	f.flying += len(f.calls)
	f.full = f.fills
	f.unread.Add(1)
	before, f.tail = f.tail, f.received
	if doc := f.draft.doc; len(doc.Metadata) <= mostOfBase && !f.broken {
		doc.Metadata = slices.Clone(doc.Metadata)
		f.left = &base{doc: doc, principal: f.principal}
		l.base = f.left
	}
	q.offer(l)
	return before
}

// conclude ends what launch began: the calls have been decided on and are answered, or are put
// back. A leader that panics leaves. It reports whether the leader was put back.
func (q *queue) conclude(f *flight, whole bool) (back bool) {
	q.mu.Lock()
	l, answered := f.line, f.calls
	f.flights = slices.DeleteFunc(f.flights, func(o *flight) bool { return o == f })
	f.flying -= len(f.calls)
	q.sent.Done()
	switch f.calls[0].fate {
	case undecided:
		answered, back, l.misses = nil, whole, misses
		if !whole {
			answered = f.calls[:1]
		}
		q.lineUp(l, f.calls[len(answered):])
	case sent:
		decide(f.calls, ErrUnknownOutcome)
	}
	switch {
	case !f.stored || !whole:
		f.broken, l.base = true, nil
	case l.base != f.left || l.base == nil: // somebody has built on it
	case !bytes.Equal(f.left.doc.Metadata, f.draft.doc.Metadata): // which a trigger has made another
		l.base = nil
	default:
		left := *f.left
		left.doc.Version, left.doc.UpdatedAt, left.since = f.draft.doc.Version, f.draft.doc.UpdatedAt, time.Now()
		l.base = &left
	}
	for _, c := range answered {
		l.size -= c.size
	}
	q.mu.Unlock()
	for _, c := range answered {
		if c != f.leader {
			c.signal <- struct{}{}
		}
	}
	return back
}

// lineUp has those that were taken wait again, before all others but a leader and those
// that it has taken. Its caller has queue.mu.
func (q *queue) lineUp(l *line, calls []*call) {
	first := l.taken
	if l.led {
		first = max(first, 1)
	}
	var back []*call
	for _, c := range calls {
		c.leads = false
		c.waits()
		if q.stays(l, c, false) {
			back = append(back, c)
		}
	}
	l.calls = slices.Concat(l.calls[:first], back, l.calls[first:])
}

// retreat has a leader of a chain wait for the end of that.
func (q *queue) retreat(l *line) {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := l.calls[0]
	l.chain.broken, l.led, l.calls, c.gone = true, false, l.calls[1:], true
	q.lineUp(l, []*call{c})
}

// isDue reports whether the first in line is to lead: nothing is under way, or there are
// as many as make a part of those under way, so that a few who come one by one make few
// commits. Its caller has queue.mu.
func (q *queue) isDue(l *line) bool {
	ch, depth := l.chain, q.pace.depth()
	switch {
	case l.led, len(l.calls) == 0:
		return false
	case ch == nil:
		return true
	case ch.over, ch.broken, ch.full, len(ch.flights) == 0, len(ch.flights) > depth, depth*len(l.calls) < ch.flying:
		return false
	}
	c := l.calls[0]
	return c.decide == nil && !c.alone && c.principal == ch.principal && time.Since(ch.since) < chainLife
}

// offer gives the turn to the first in line, if it is due. Its caller has queue.mu.
func (q *queue) offer(l *line) {
	if q.isDue(l) {
		l.led = true
		l.appoint()
	}
}

// ends reports whether a chain is at its end, for who is to give its connection back. Its
// caller has queue.mu.
func (l *line) ends() bool {
	ch := l.chain
	if ch == nil || ch.over || l.led || len(ch.flights) > 0 {
		return false
	}
	ch.over = true
	return true
}
