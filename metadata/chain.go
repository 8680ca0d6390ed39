package metadata

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"example.com/lockstore/internal/pgdb"
)

// A chain pipelines commits of one document: over a network, the next commit is sent before
// the answer to the one before has come, on the base that that one will leave. All commits of
// a chain use one connection, and the server executes them one after the other.
//
//	leading    --sent-------> under way; the next call leads, and sends the next commit
//	under way  --answered---> done, in the order of sending
//	           --not stored-> waiting again, with all commits that were sent after it
//
// A commit that is not stored leaves the document with another text or version than predicted,
// so that no commit sent after it is stored either: see saveOnSQL. Then, or when the chain's
// time is over, nothing is added to it. The next leader begins anew once all commits of the
// chain are answered. No caller is told what was decided on a predicted base before the
// answers to that commit and to all before it are there.
//
// The last caller to leave the chain releases the connection.
//
// queue.go decides when the next call leads (isDue); base.go calls pipeline, and
// pipelinedCommit.commit sends.
type chain struct {
	conn      pgdb.Conn
	pipe      pgdb.Pipeline
	principal string
	since     time.Time
	full      bool // the pool has no free connection, and others may wait for this one

	commits       []*pipelinedCommit // under way, in order
	callsUnderWay int                // the number of their calls
	broken        bool               // nothing is added
	over          bool               // the connection is being released

	tail    chan struct{}  // the answer to the commit sent last was received
	unread  sync.WaitGroup // answers
	using   chan struct{}  // full while a goroutine sends, or uses the connection otherwise
	updated time.Time      // of the commit answered last; for the goroutine that receives
}

// A pipelinedCommit is one commit of a chain, from before it is sent to its answer.
type pipelinedCommit struct {
	*chain
	queue       *waitQueue
	queues      *queues
	leader      *call
	calls       []*call
	workingCopy *workingCopy
	leaves      *base // predicted
	fills       bool  // the pool had no free connection
	stored      bool

	began    time.Time
	previous time.Time     // when its base was stored, by the server's clock; zero: the base says so
	received chan struct{} // the answer was
}

// chainLife is how long a chain keeps its connection, for which others may wait.
const chainLife = time.Second

// A pace decides how many commits are under way besides the first: as many as the server
// executes while an answer travels.
type pace struct {
	trip time.Duration // to the server and back
	work time.Duration // of the server for a commit
	idle int           // commits until the next one that is measured
}

const (
	mostUnderWay = 8
	leastWork    = 50 * time.Microsecond
	probes       = 16 // where nothing is pipelined, one commit of so many is measured
)

func (p *pace) depth() int { return int(min(p.trip/max(p.work, leastWork), mostUnderWay)) }

// isDue reports whether a commit is to be sent as one of a chain, though it may be the only
// one.
func (p *pace) isDue() bool {
	if p.depth() == 0 && p.idle > 0 {
		p.idle--
		return false
	}
	p.idle = probes
	return true
}

// learn takes in the times of a commit. The trip is known only of one that was alone.
func (p *pace) learn(alone bool, trip, work time.Duration) {
	if alone {
		p.trip = smooth(p.trip, trip)
	}
	p.work = smooth(p.work, work)
}

// smooth follows lower values soon, and higher ones, which may be rare, slowly.
func smooth(old, now time.Duration) time.Duration {
	switch {
	case old == 0:
		return now
	case now < old:
		return old - (old-now)/4
	}
	return old + (min(now, 4*old)-old)/16
}

// pipeline makes a leader's commit a pipelined one, in the queue's chain or a new one. nil:
// the commit is made without a chain.
func (p *postgres) pipeline(wq *waitQueue, leader *call, calls []*call, conn pgdb.Conn, wc *workingCopy) *pipelinedCommit {
	halves := calls[0] != leader // of a commit that was rejected
	if halves || wq.chain == nil && !p.queues.isPaceDue() {
		return nil
	}
	f := &pipelinedCommit{chain: wq.chain, queue: wq, queues: &p.queues, leader: leader, calls: calls, workingCopy: wc, received: make(chan struct{}), fills: p.db.Full()}
	if f.chain == nil {
		pipe := conn.Pipeline()
		if pipe == nil {
			return nil
		}
		f.chain = &chain{conn: conn, pipe: pipe, principal: leader.principal, since: time.Now(), using: make(chan struct{}, 1)}
	}
	return f
}

func (q *queues) isPaceDue() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.pace.isDue()
}

// commit is [pgdb.Conn].QueryRow. Once the statement was sent, the next call may lead.
func (f *pipelinedCommit) commit(ctx context.Context, dest []any, sql string, args ...any) error {
	before, receive, err := f.send(ctx, sql, args)
	if err != nil {
		return err
	}
	a, err := f.receive(ctx, before, receive, dest)
	if a.Noticed && err == nil {
		f.shut()
		f.unread.Wait()
		f.using <- struct{}{}
		defer func() { <-f.using }()
		err = f.pipe.Confirm(ctx)
	}
	return err
}

// send sends the statement, unless nothing is to be added to the chain.
func (f *pipelinedCommit) send(ctx context.Context, sql string, args []any) (before chan struct{}, receive pgdb.Receive, err error) {
	f.using <- struct{}{}
	defer func() { <-f.using }()
	if f.queues.isBroken(f.chain) {
		return nil, nil, pgdb.ErrNoRows // so that the change is made again
	}
	f.began = time.Now()
	if receive, err = f.pipe.Send(ctx, sql, args...); err == nil {
		before = f.queues.launch(f)
	}
	return before, receive, err
}

// shut has nothing added to the chain from now on.
func (f *pipelinedCommit) shut() {
	f.using <- struct{}{}
	defer func() { <-f.using }()
	f.queues.mu.Lock()
	defer f.queues.mu.Unlock()
	f.broken = true
}

// receive reads the answer, after the answers before it.
func (f *pipelinedCommit) receive(ctx context.Context, before chan struct{}, receive pgdb.Receive, dest []any) (a pgdb.Answer, err error) {
	defer f.unread.Done()
	defer close(f.received)
	if before != nil {
		<-before
		f.previous = f.updated
	}
	a, err = receive(ctx, dest)
	if err == nil {
		f.updated = nullTime{*dest[3].(**int64)}.time()
		f.queues.learn(before == nil, a.Began.Sub(f.began), time.Since(a.Began))
	}
	return a, err
}

func (q *queues) isBroken(ch *chain) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return ch.broken
}

func (q *queues) learn(alone bool, trip, work time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.pace.learn(alone, trip, work)
}

// launch removes the calls of a sent commit from the queue, so that the next call can lead. It
// returns the channel that the answer has to wait for.
func (q *queues) launch(f *pipelinedCommit) (before chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	wq := f.queue
	q.putBack(wq, len(f.calls), false)
	q.foundTaken(wq, false)
	wq.calls, wq.taken, wq.led = wq.calls[wq.taken:], 0, false
	wq.chain, wq.base, f.leader.launched, f.leader.gone = f.chain, nil, true, true
	f.commits = append(f.commits, f)
	f.callsUnderWay += len(f.calls)
	f.full = f.fills
	f.unread.Add(1)
	before, f.tail = f.tail, f.received
	if doc := f.workingCopy.doc; len(doc.Metadata) <= mostOfBase && !f.broken {
		doc.Metadata = slices.Clone(doc.Metadata)
		f.leaves = &base{doc: doc, principal: f.principal}
		wq.base = f.leaves
	}
	q.promote(wq)
	return before
}

// conclude ends what launch began: the calls were decided on and are answered, or are put
// back. If the leader panics (whole is false), it leaves. conclude reports whether the leader
// was put back.
func (q *queues) conclude(f *pipelinedCommit, whole bool) (back bool) {
	q.mu.Lock()
	wq, answered := f.queue, f.calls
	f.commits = slices.DeleteFunc(f.commits, func(o *pipelinedCommit) bool { return o == f })
	f.callsUnderWay -= len(f.calls)
	q.sent.Done()
	switch f.calls[0].fate {
	case undecided:
		answered, back, wq.misses = nil, whole, misses
		if !whole {
			answered = f.calls[:1]
		}
		q.requeue(wq, f.calls[len(answered):])
	case sent:
		decide(f.calls, ErrUnknownOutcome)
	}
	switch {
	case !f.stored || !whole:
		f.broken, wq.base = true, nil
	case wq.base != f.leaves || wq.base == nil: // another commit was built on it
	case !bytes.Equal(f.leaves.doc.Metadata, f.workingCopy.doc.Metadata): // a trigger has changed it
		wq.base = nil
	default:
		left := *f.leaves
		left.doc.Version, left.doc.UpdatedAt, left.since = f.workingCopy.doc.Version, f.workingCopy.doc.UpdatedAt, time.Now()
		wq.base = &left
	}
	for _, c := range answered {
		wq.size -= c.size
	}
	q.mu.Unlock()
	for _, c := range answered {
		if c != f.leader {
			c.signal <- struct{}{}
		}
	}
	return back
}

// requeue has calls that were taken wait again, before all others but a leader and its batch.
// Its caller has queues.mu.
func (q *queues) requeue(wq *waitQueue, calls []*call) {
	first := wq.taken
	if wq.led {
		first = max(first, 1)
	}
	var back []*call
	for _, c := range calls {
		c.leads = false
		c.waits()
		if q.stays(wq, c, false) {
			back = append(back, c)
		}
	}
	wq.calls = slices.Concat(wq.calls[:first], back, wq.calls[first:])
}

// leaveChain has the leader wait until the chain's commits are done.
func (q *queues) leaveChain(wq *waitQueue) {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := wq.calls[0]
	wq.chain.broken, wq.led, wq.calls, c.gone = true, false, wq.calls[1:], true
	q.requeue(wq, []*call{c})
}

// ends reports, once, that a chain is at its end; its caller releases the connection. The
// caller has queues.mu.
func (wq *waitQueue) ends() bool {
	ch := wq.chain
	if ch == nil || ch.over || wq.led || len(ch.commits) > 0 {
		return false
	}
	ch.over = true
	return true
}
