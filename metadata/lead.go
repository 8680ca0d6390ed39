package metadata

import (
	"context"
	"errors"
	"time"

	"example.com/lockstore/backoff"
	"example.com/lockstore/internal/pgdb"
	"example.com/lockstore/internal/printable"
	"example.com/lockstore/lock"
)

// A write of a document, from its call to its report: this file joins the queue, leads when
// the queue says so, chooses the way of the commit, and tries again what may succeed later.
// What shares a commit is decided in queue.go.

// write implements [engine]. It returns when the call is done, with what its leader has made
// of it or with its own error.
func (p *postgres) write(ctx context.Context, id string, w *write) (doc Document, err error) {
	c := newCall(w, p.options.Backoff)
	defer func() { p.report(ctx, id, c) }()
	switch {
	case p.options.Principal != nil:
		c.principal = p.options.Principal(ctx)
	case p.db.PreparesForCaller():
		w.alone = true
	}
	key := p.options.key(id)
	if c.under, err = holdsIn(ctx, key); err != nil {
		return Document{}, err
	}
	ended, err := c.under.writing()
	if err != nil {
		return Document{}, err
	}
	for err = errSlowDecision; err == errSlowDecision; {
		var leads bool
		if leads, err = p.queues.join(queueKey{id, c.under.identity()}, key, c, p.options.MaxWaitingBytes); err != nil {
			break
		}
		for leads = leads || p.queues.wait(ctx, c); leads && p.lead(ctx, c.queue, c); {
			leads = p.queues.wait(ctx, c)
		}
		if err = c.err; err == errSlowDecision {
			c = c.again()
		}
	}
	if !errors.Is(err, ErrUnknownOutcome) {
		ended()
	}
	return c.result(err)
}

// lead commits for c, the first call of wq, and for its batch, until c is done, gives up, or is put
// back. It reports whether c was put back, and so waits again.
func (p *postgres) lead(ctx context.Context, wq *waitQueue, c *call) (back bool) {
	defer p.queues.handOff(wq, c)
	for early := wq.busy && c.due.After(time.Now()); ; early = false {
		if early { // as far as is known, the lock is still taken
			if c.err = wq.sleep(ctx, c, errTaken, time.Until(c.due), &p.queues); c.err != nil {
				return false
			}
		}
		n, err := p.commitBatch(ctx, wq, c)
		switch {
		case n > 0:
			return false
		case err == errPutBack:
			return true
		case !isRepeatable(err):
			c.err = err
			return false
		}
		p.counts.waits.Add(1)
		p.report(ctx, wq.key.id, c)
		if c.err = wq.pause(ctx, c, err, &p.queues); c.err != nil {
			return false
		}
	}
}

// pause waits before the next attempt, as c's policy says, or returns why there is none. err
// is the error of the last attempt.
func (wq *waitQueue) pause(ctx context.Context, c *call, err error, q *queues) error {
	wait, ok := c.polls.Next()
	if !ok {
		return wq.giveUp(c, err, backoff.ErrExhausted)
	}
	return wq.sleep(ctx, c, err, wait, q)
}

// sleep is pause with the wait that the policy has returned.
func (wq *waitQueue) sleep(ctx context.Context, c *call, err error, wait time.Duration, q *queues) error {
	cause := q.sleep(ctx, wait)
	if cause == nil || cause == ErrClosed {
		return cause
	}
	return wq.giveUp(c, err, cause)
}

// giveUp is the error of a call that ends because of cause, after an attempt that failed with
// err.
func (wq *waitQueue) giveUp(c *call, err, cause error) error {
	if errors.Is(err, errTaken) {
		return wq.busyError(c, cause)
	}
	return errors.Join(err, cause)
}

// final is the error of c where err ends it. A lock or row that was taken ends it where the
// host's decide has run and must not run again.
func (wq *waitQueue) final(c *call, err error) error {
	if errors.Is(err, errTaken) {
		return &lock.BusyError{Key: wq.lock, Waited: time.Since(c.since), Attempts: c.attempts + 1, Cause: err}
	}
	return err
}

// isRepeatable reports whether the same write may succeed later: another session has the lock
// or the row, the server aborted it in a conflict with other transactions, or its lock table
// is full.
func isRepeatable(err error) bool {
	code := pgdb.Code(err)
	return (errors.Is(err, errTaken) || code == "40001" || code == "40P01" || code == pgdb.OutOfMemory) && !errors.Is(err, ErrUnknownOutcome)
}

// errPutBack says that calls wait until the commits of their queue's chain are done.
var errPutBack = errors.New("waits for the commits before")

// commitBatch commits the writes of the leader, c, and of its batch, and returns how many of
// them, from the first on, are done. If none is, the error says why, and nothing is on its way
// to the server.
func (p *postgres) commitBatch(ctx context.Context, wq *waitQueue, c *call) (n int, err error) {
	follows := wq.chain != nil
	conn, done, err := p.connect(ctx, wq, c)
	switch {
	case done:
		wq.base = nil
		return 1, nil
	case err == nil:
	case ctx.Err() != nil:
		return 0, wq.busyError(c, because(ctx, err))
	default:
		return 0, p.failure(err, false)
	}
	defer func() {
		if !follows && !c.launched {
			conn.Release()
		}
	}()
	calls, err := p.queues.takeBatch(wq, p.options)
	if err != nil {
		return 0, err
	}
	whole := false
	defer func() { // before Release, which is foreign code
		why := err
		if !whole {
			why = errPanicked
		}
		c.made(nil, report{err: why}) // of a commit that has decided on nothing
		switch {
		case c.launched:
			if p.queues.conclude(c.pipelined, whole) {
				n, err = 0, errPutBack
			}
			return
		case !whole:
			n = max(1, p.queues.abandon(wq))
		}
		p.queues.settle(wq, n, errors.Is(err, errTaken))
		if err == errPutBack {
			p.queues.leaveChain(wq)
		}
	}()
	n, err = p.commit(ctx, conn, wq, c, calls)
	whole = true
	return n, err
}

// commit is commitBatch for a batch. A batch with a base, also one of a lone write, is stored on
// that (see base.go). Without a base a lone merge is one statement. All else is a transaction. Where the database rejects what
// several calls make together, commit halves them until the calls to blame stand alone. The
// leader gets the reports.
func (p *postgres) commit(ctx context.Context, conn pgdb.Conn, wq *waitQueue, leader *call, calls []*call) (done int, err error) {
	start := time.Now()
	inside, told := p.beginCommit(ctx, func() []string { return []string{wq.key.id} })
	leader.told = told
	base := p.queues.baseFor(wq, calls[0], p.options)
	if c := calls[0]; len(calls) == 1 && base == nil && wq.chain == nil && p.isOneStatement(wq, c) {
		c.fate = sent
		c.doc, err = p.mergeOne(inside, conn, wq, c)
		err = p.failure(err, true)
		if endedWith(ctx, err) {
			err = because(ctx, err)
		}
		used := c.token != nil && errors.Is(err, ErrRejected) // perhaps
		if !errors.Is(err, ErrNotFound) && !isRepeatable(err) && !used {
			c.err = err
			decide(calls, nil)
			leader.made(calls, report{took: time.Since(start), err: err})
			return 1, nil
		}
		c.fate = undecided
		wq.rowFirst = true
		if errors.Is(err, errTaken) {
			return 0, err
		}
	}
	var stuck error
	err = errStale
	if base != nil {
		calls, err = p.commitOnBase(inside, conn, wq, leader, base, calls)
	}
	switch {
	case err == errStale && (leader.launched || wq.chain != nil):
		return 0, errPutBack
	case err == errStale:
		for err = errUsed; err == errUsed; {
			calls, stuck, err = p.transact(inside, conn, wq, calls)
		}
	}
	var last *unsettled
	err = p.failure(err, errors.As(err, &last))
	done = len(calls)
	once := p.options.MaxBatch == 1 && calls[0].decide != nil && calls[0].begun
	switch {
	case err == nil:
	case err == errSlowDecision, isRepeatable(err) && !once:
		return 0, err
	case endedWith(ctx, err): // while waiting for another connection: it ends the leader alone
		return 0, because(ctx, err)
	case errors.Is(err, ErrRejected) && done > 1:
		leader.made(nil, report{err: err})
		half, err := p.commit(ctx, conn, wq, leader, calls[:done/2])
		if err != nil || half < done/2 {
			return half, err
		}
		rest, err := p.commit(ctx, conn, wq, leader, calls[half:])
		return half + rest, err
	}
	decide(calls, wq.final(leader, err))
	if done > 0 {
		leader.made(calls, report{took: time.Since(start), err: err, stuck: stuck})
	}
	return done, nil
}

// endedWith reports whether err comes from the end of ctx, and nothing is on its way to the
// server.
func endedWith(ctx context.Context, err error) bool {
	return !errors.Is(err, ErrUnknownOutcome) && ctx.Err() != nil && errors.Is(err, ctx.Err())
}

// isOneStatement reports whether a lone write is stored by one statement, without a
// transaction of several.
func (p *postgres) isOneStatement(wq *waitQueue, c *call) bool {
	return c.patch != nil && !c.patch.costly && wq.key.under == "" && !wq.rowFirst && !p.options.MergeInGo
}

// A report says that a transaction has decided on writes, or has failed.
type report struct {
	writes int // 0: it has decided on none, which only observers are told
	took   time.Duration
	err    error
	stuck  error // why the rollback failed, if there was one
	shared bool  // with writes of other documents, and counted with these
	told   *observedCommit
}

// made adds a report of the commit that has decided on calls. If there are none, the report is
// for observers alone.
func (c *call) made(calls []*call, r report) {
	if len(calls) == 0 && c.told == nil {
		return
	}
	r.writes, r.told = len(calls), c.told
	c.told = nil
	r.told.is(r.writes, r.err)
	for _, o := range calls {
		r.told.carried(o.write)
	}
	c.reports = append(c.reports, r)
}

// report tells the host what a leader has committed: counters, hints, logger and observer. A
// panic of foreign code passes through it, so it runs when no call waits for this one.
func (p *postgres) report(ctx context.Context, id string, leader *call) {
	for len(leader.reports) > 0 {
		r := leader.reports[0]
		leader.reports = leader.reports[1:]
		if r.writes > 0 {
			p.reportWrites(ctx, id, r)
		}
		r.told.end()
	}
}

func (p *postgres) reportWrites(ctx context.Context, id string, r report) {
	p.hint(id, r.err)
	if !r.shared {
		p.counts.committed(r.writes)
	}
	if r.stuck != nil {
		p.options.Logger.WarnContext(ctx, "metadata: rollback failed", "error", r.stuck)
	}
	if errors.Is(r.err, ErrUnknownOutcome) {
		p.options.Logger.WarnContext(ctx, "metadata: outcome unknown", "id", printable.Text(id), "writes", r.writes, "took", r.took, "error", r.err)
	}
}

var _ engine = (*postgres)(nil)
