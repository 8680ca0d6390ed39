package metadata

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"example.com/lockstore/internal/pgdb"
)

// Batches of different documents on one connection: where connections are short, writers of
// different documents share one, and its commit. This file decides which do.
//
// Each caller here leads the queue of its own document and needs a connection. One of them
// leads the connection queue: it acquires a connection while the others wait. When it has one,
// it takes a batch of those waiters that merge one patch each. Each principal has a queue of
// its own. A connection that is free is had at once; the fewer there are, the more documents a
// commit serves.
//
//	waiting  --in the batch--> inBatch     merged, or the outcome is unknown
//	                           mergeAlone  the batch could not merge it
//	         --leader leaves, or is late--> leadsBatch
//	         --context ends, store closes--> gone
//
// A batch never waits for a lock or a row: other sessions could keep it for long, and every
// document of the batch would wait.
//
// connect is called by a document's leader, and calls the rest.
type connQueue struct {
	leader  *connWaiter   // acquires a connection; earlier ones that are late may still do, too
	waiting []*connWaiter // in order of arrival
}

// How long others wait for one caller's connection while the server or the host's hooks
// hang, all from the beginning. Waiting ends if the pool has room then, and at the last look in
// any case.
const (
	lateConnLeader = 10 * time.Millisecond
	lateLeader     = 250 * time.Millisecond
	lastLook       = 500 * time.Millisecond
)

// A connWaiter is a document's leader that waits for a connection, or for a batch that has one.
type connWaiter struct {
	target
	queue     *waitQueue
	call      *call
	principal string // it shares with the same principal

	signal  chan struct{} // outcome is set
	outcome outcome
}

type outcome uint8

const (
	leadsBatch outcome = iota // it is to acquire a connection
	inBatch                   // the call has its document or error
	mergeAlone                // the call is to be made alone
)

// maxConnBatch is how many documents a batch has at most, which limits how long they wait for
// each other.
const maxConnBatch = 64

// connect gets a connection for c, which leads wq. If c can share a batch with other documents,
// its write may be done when connect returns; then there is no connection.
func (p *postgres) connect(ctx context.Context, wq *waitQueue, c *call) (conn pgdb.Conn, done bool, err error) {
	if wq.chain != nil {
		return wq.chain.conn, false, nil
	}
	if p.isOneStatement(wq, c) && !c.alone && c.token == nil && p.options.MaxBatch > 1 {
		g := &connWaiter{target: target{wq.key.id, wq.lock, c.patch}, queue: wq, call: c, principal: c.principal}
		outcome, err := p.queues.awaitConn(ctx, g)
		if err == nil && outcome == leadsBatch {
			outcome, conn, err = p.acquireForBatch(ctx, g)
		}
		if err != nil || conn != nil || outcome == inBatch {
			return conn, outcome == inBatch, err
		}
	}
	conn, err = p.acquire(ctx, wq, c)
	return conn, false, err
}

// acquire gets a connection for c alone, which leads wq. If that takes long, the calls behind c
// go on without it.
func (p *postgres) acquire(ctx context.Context, wq *waitQueue, c *call) (pgdb.Conn, error) {
	defer p.whenLate(lateLeader, func() { p.queues.split(wq, c) })()
	return p.connection(ctx)
}

// whenLate has others go on once a caller is late, unless stop was called before. If the pool is
// full then, it looks again, each time after twice as long in all, until the last look.
func (p *postgres) whenLate(late time.Duration, goOn func()) (stop func()) {
	var over atomic.Bool // it was stopped, or others go on
	var look func()
	look = func() {
		if waited := late; late < lastLook && !over.Load() && p.db.Full() {
			late = min(2*late, lastLook)
			time.AfterFunc(late-waited, look)
		} else if over.CompareAndSwap(false, true) {
			goOn()
		}
	}
	timer := time.AfterFunc(late, look)
	return func() {
		over.Store(true)
		timer.Stop()
	}
}

// acquireForBatch acquires a connection as the leader of the queue, and merges its batch.
// Without followers, the leader keeps the connection for itself.
func (p *postgres) acquireForBatch(ctx context.Context, leader *connWaiter) (o outcome, conn pgdb.Conn, err error) {
	var batch []*connWaiter
	func() {
		defer func() { batch = p.queues.closeBatch(leader, conn != nil, p.options) }()
		defer p.whenLate(lateConnLeader, func() { p.queues.replaceLeader(leader) })()
		conn, err = p.acquire(ctx, leader.queue, leader.call)
	}()
	if len(batch) == 0 {
		return leadsBatch, conn, err
	}
	defer conn.Release()
	p.mergeBatch(ctx, conn, batch)
	return leader.outcome, nil, nil
}

// mergeBatch merges the batch in one statement. The leader is the first of it.
func (p *postgres) mergeBatch(ctx context.Context, conn pgdb.Conn, batch []*connWaiter) {
	start := time.Now()
	targets := make([]target, len(batch))
	for i, g := range batch {
		targets[i] = g.target
		g.outcome, g.call.err = inBatch, ErrUnknownOutcome // should the host's tracer panic
	}
	defer p.queues.endBatch(batch)
	ctx, told := p.beginCommit(ctx, func() []string { return idsOf(targets) })
	if told != nil {
		defer func() { batch[0].call.reports = append(batch[0].call.reports, report{told: told}) }()
	}
	docs, _, err := p.mergeTargets(ctx, conn, p.sql.mergeFree, targets)
	unknown := pgdb.Uncertain(err)
	err = p.failure(err, true)
	took, merged := time.Since(start), 0
	for i, g := range batch {
		switch {
		case unknown:
			g.call.err = err
		case err == nil && docs[i].Metadata != nil:
			g.call.doc, g.call.err = docs[i], nil
		default:
			g.outcome, g.call.err = mergeAlone, nil
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

// awaitConn waits until g's outcome is set. The first of its principal leads at once. The
// error is why g no longer waits.
func (q *queues) awaitConn(ctx context.Context, g *connWaiter) (outcome, error) {
	q.mu.Lock()
	b := q.connQueues[g.principal]
	if b == nil {
		q.connQueues[g.principal] = &connQueue{leader: g}
		q.mu.Unlock()
		return leadsBatch, nil
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

// closeBatch ends the leader's waiting, and returns its batch: the leader and those waiters
// that fit. There is none if the leader has no connection, or would be alone. Each counts as
// taken by [queues.takeBatch]. The next waiter becomes the leader.
func (q *queues) closeBatch(leader *connWaiter, found bool, o *Options) (batch []*connWaiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	b := q.connQueues[leader.principal]
	if b != nil && found && !q.closed && leader.queue.isAlone() {
		batch = append(batch, leader)
		most, size := min(maxConnBatch, o.MaxBatch), leader.call.size
		b.waiting = slices.DeleteFunc(b.waiting, func(g *connWaiter) bool {
			if len(batch) == most || !g.queue.isAlone() || size+g.call.size > o.MaxBatchBytes {
				return false
			}
			size += g.call.size
			batch = append(batch, g)
			return true
		})
		if len(batch) == 1 { // a lone merge has a quicker statement
			batch = nil
		}
		for _, g := range batch {
			g.queue.taken = 1
			q.sent.Add(1)
		}
	}
	q.nextLeader(leader)
	return batch
}

// replaceLeader makes the next waiter the leader in the place of one that is late.
func (q *queues) replaceLeader(leader *connWaiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.nextLeader(leader)
}

// nextLeader makes the next waiter the leader, unless that was done already. Its caller has
// queues.mu.
func (q *queues) nextLeader(leader *connWaiter) {
	switch b := q.connQueues[leader.principal]; {
	case b == nil || b.leader != leader:
	case len(b.waiting) == 0:
		delete(q.connQueues, leader.principal)
	default:
		b.leader = b.waiting[0]
		b.waiting = slices.Delete(b.waiting, 0, 1)
		b.leader.outcome = leadsBatch
		b.leader.signal <- struct{}{}
	}
}

// isAlone reports whether a queue has one call, and the document no other queue.
func (wq *waitQueue) isAlone() bool { return len(wq.calls) == 1 && !wq.apart }

// endBatch ends a batch that closeBatch has returned.
func (q *queues) endBatch(batch []*connWaiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, g := range batch {
		g.queue.taken = 0
		q.sent.Done()
		if g.signal != nil {
			g.signal <- struct{}{}
		}
	}
}
