package metadata

import (
	"context"
	"slices"
	"time"

	"example.com/lockstore/internal/pgdb"
)

// Where connections are short, writers of different documents share one, and its
// commit. One of those who need a connection waits for it, the captain; the
// others wait for him, and when he has it he takes along those who merge no more
// than one patch. Each principal has a captain of its own. So the fewer connections
// there are for the writers, the more documents a commit serves, while a connection
// that is free is had at once.
//
//	waiting  --taken aboard--> carried   merged, or maybe merged
//	                           sent back to go alone: what could not be merged so
//	         --captain leaves, or is late> captain
//	         --ctx ends------> gone
//
// What is carried never waits for a lock or a row, which could be long in
// somebody's hands and would hold up the others.
type boarding struct {
	captain *passage   // for whom the others wait; others may be late
	waiting []*passage // in the order of their arrival
}

// How long others wait for one whose connection does not come, as the server hangs or
// the host's hooks do: if the pool has room, or is looked at for the last time.
const (
	lateCaptain = 10 * time.Millisecond
	lateLeader  = 250 * time.Millisecond
	lastLook    = 500 * time.Millisecond
)

// A passage is one leader's wait for a connection, or for somebody who has one.
type passage struct {
	target
	line      *line
	call      *call
	principal string // with whom it may share a connection

	signal  chan struct{} // that it is decided
	outcome outcome
}

type outcome uint8

const (
	isCaptain outcome = iota // he is to get a connection
	carried                  // the call has its document or error
	sentBack                 // the call is to be made alone
)

// maxAboard bounds how many documents a captain takes along, and so how long they
// wait for each other.
const maxAboard = 64

// connect gets l's leader a connection. If he may go along with somebody who has
// one, or others with him, his call can be done when it returns, and there is no
// connection then.
func (p *postgres) connect(ctx context.Context, l *line, c *call) (conn pgdb.Conn, done bool, err error) {
	if l.chain != nil {
		return l.chain.conn, false, nil
	}
	if p.isOneStatement(l, c) && !c.alone && c.token == nil && p.options.MaxBatch > 1 {
		g := &passage{target: target{l.key.id, l.lock, c.patch}, line: l, call: c, principal: c.principal}
		outcome, err := p.queue.board(ctx, g)
		if err == nil && outcome == isCaptain {
			outcome, conn, err = p.guide(ctx, g)
		}
		if err != nil || conn != nil || outcome == carried {
			return conn, outcome == carried, err
		}
	}
	conn, err = p.acquire(ctx, l, c)
	return conn, false, err
}

// acquire gets l's leader, c, a connection for itself.
func (p *postgres) acquire(ctx context.Context, l *line, c *call) (pgdb.Conn, error) {
	defer p.whenLate(lateLeader, func() { p.queue.split(l, c) }).Stop()
	return p.connection(ctx)
}

// whenLate has others go on when so much time has passed, unless the pool is full.
// Then it looks again.
func (p *postgres) whenLate(after time.Duration, goOn func()) *time.Timer {
	return time.AfterFunc(after, func() {
		if after < lastLook && p.db.Full() {
			p.whenLate(2*after, goOn)
		} else {
			goOn()
		}
	})
}

// guide is a captain's way: he gets a connection, which he keeps if there is
// nobody to take along.
func (p *postgres) guide(ctx context.Context, captain *passage) (o outcome, conn pgdb.Conn, err error) {
	var aboard []*passage
	func() {
		defer func() { aboard = p.queue.depart(captain, conn != nil, p.options) }()
		defer p.whenLate(lateCaptain, func() { p.queue.relieve(captain) }).Stop()
		conn, err = p.acquire(ctx, captain.line, captain.call)
	}()
	if len(aboard) == 0 {
		return isCaptain, conn, err
	}
	defer conn.Release()
	p.carry(ctx, conn, aboard)
	return captain.outcome, nil, nil
}

// carry merges for all who are aboard, of whom the first is the captain, in one
// statement.
func (p *postgres) carry(ctx context.Context, conn pgdb.Conn, aboard []*passage) {
	start := time.Now()
	targets := make([]target, len(aboard))
	for i, g := range aboard {
		targets[i] = g.target
		g.outcome, g.call.err = carried, ErrUnknownOutcome // should the host's tracer panic
	}
	defer p.queue.land(aboard)
	ctx, told := p.beginCommit(ctx, func() []string { return idsOf(targets) })
	if told != nil {
		defer func() { aboard[0].call.reports = append(aboard[0].call.reports, report{told: told}) }()
	}
	docs, _, err := p.mergeTargets(ctx, conn, p.sql.mergeFree, targets)
	unknown := pgdb.Uncertain(err)
	err = p.failure(err, true)
	took, merged := time.Since(start), 0
	for i, g := range aboard {
		switch {
		case unknown:
			g.call.err = err
		case err == nil && docs[i].Metadata != nil:
			g.call.doc, g.call.err = docs[i], nil
		default:
			g.outcome, g.call.err = sentBack, nil
			continue
		}
		merged++
		told.carried(g.call.write)
		g.call.reports = append(g.call.reports, report{writes: 1, took: took, err: g.call.err, shared: true})
	}
	told.is(merged, err)
	if merged > 0 {
		p.counts.committed(merged)
	}
}

// board returns when g is decided, or with why it no longer waits.
func (q *queue) board(ctx context.Context, g *passage) (outcome, error) {
	q.mu.Lock()
	b := q.boardings[g.principal]
	if b == nil {
		q.boardings[g.principal] = &boarding{captain: g}
		q.mu.Unlock()
		return isCaptain, nil
	}
	g.signal = make(chan struct{}, 1)
	b.waiting = append(b.waiting, g)
	q.mu.Unlock()
	var err error
	select {
	case <-g.signal:
		return g.outcome, nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-q.closing:
		err = ErrClosed
	}
	q.mu.Lock()
	i := slices.Index(b.waiting, g)
	if i >= 0 {
		b.waiting = slices.Delete(b.waiting, i, i+1)
	}
	q.mu.Unlock()
	if i >= 0 {
		return 0, err
	}
	<-g.signal
	return g.outcome, nil
}

// depart ends a captain's waiting. Whom he takes along, if he has found a
// connection and there are others to take, is taken as by [queue.take]; he is the
// first of them.
func (q *queue) depart(captain *passage, found bool, o *Options) (aboard []*passage) {
	q.mu.Lock()
	defer q.mu.Unlock()
	b := q.boardings[captain.principal]
	if b != nil && found && !q.closed && captain.line.isAlone() {
		aboard = append(aboard, captain)
		most, size := min(maxAboard, o.MaxBatch), captain.call.size
		b.waiting = slices.DeleteFunc(b.waiting, func(g *passage) bool {
			if len(aboard) == most || !g.line.isAlone() || size+g.call.size > o.MaxBatchBytes {
				return false
			}
			size += g.call.size
			aboard = append(aboard, g)
			return true
		})
		if len(aboard) == 1 { // which is quicker without the others' statement
			aboard = nil
		}
		for _, g := range aboard {
			g.line.taken = 1
			q.sent.Add(1)
		}
	}
	q.succeed(captain)
	return aboard
}

// relieve has the others wait no more for a captain that is late.
func (q *queue) relieve(captain *passage) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.succeed(captain)
}

// succeed has the next be captain, unless that has happened already. Its caller has
// queue.mu.
func (q *queue) succeed(captain *passage) {
	switch b := q.boardings[captain.principal]; {
	case b == nil || b.captain != captain:
	case len(b.waiting) == 0:
		delete(q.boardings, captain.principal)
	default:
		b.captain = b.waiting[0]
		b.waiting = slices.Delete(b.waiting, 0, 1)
		b.captain.outcome = isCaptain
		b.captain.signal <- struct{}{}
	}
}

// isAlone reports whether a line has one call, and nobody else writes its document.
func (l *line) isAlone() bool { return len(l.calls) == 1 && !l.apart }

// land ends what depart began.
func (q *queue) land(aboard []*passage) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, g := range aboard {
		g.line.taken = 0
		q.sent.Done()
		if g.signal != nil {
			g.signal <- struct{}{}
		}
	}
}
