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

// write implements [engine].
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
	if c.under, err = carriedBy(ctx, key); err != nil {
		return Document{}, err
	}
	ended, err := c.under.writing()
	if err != nil {
		return Document{}, err
	}
	for err = errLate; err == errLate; {
		var leads bool
		if leads, err = p.queue.join(lineKey{id, c.under.identity()}, key, c, p.options.MaxWaitingBytes); err != nil {
			break
		}
		for leads = leads || p.queue.wait(ctx, c); leads && p.lead(ctx, c.line, c); {
			leads = p.queue.wait(ctx, c)
		}
		if err = c.err; err == errLate {
			c = c.again()
		}
	}
	if !errors.Is(err, ErrUnknownOutcome) {
		ended()
	}
	return c.result(err)
}

// lead has the turn until c, the first in line, is done or gives up, or has been put back.
func (p *postgres) lead(ctx context.Context, l *line, c *call) (back bool) {
	defer p.queue.pass(l, c)
	for early := l.busy && c.due.After(time.Now()); ; early = false {
		if early { // as far as is known, the lock is taken still
			if c.err = l.sleep(ctx, c, errTaken, time.Until(c.due), &p.queue); c.err != nil {
				return false
			}
		}
		n, err := p.commitTurn(ctx, l, c)
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
		p.report(ctx, l.key.id, c)
		if c.err = l.pause(ctx, c, err, &p.queue); c.err != nil {
			return false
		}
	}
}

// pause waits before the next attempt, or returns why there will be none; err
// is what the last one failed of.
func (l *line) pause(ctx context.Context, c *call, err error, q *queue) error {
	wait, ok := c.polls.Next()
	if !ok {
		return l.giveUp(c, err, backoff.ErrExhausted)
	}
	return l.sleep(ctx, c, err, wait, q)
}

// sleep is pause once the policy has been asked.
func (l *line) sleep(ctx context.Context, c *call, err error, wait time.Duration, q *queue) error {
	cause := q.sleep(ctx, wait)
	if cause == nil || cause == ErrClosed {
		return cause
	}
	return l.giveUp(c, err, cause)
}

// giveUp is the error of a call whose last attempt failed of err.
func (l *line) giveUp(c *call, err, cause error) error {
	if errors.Is(err, errTaken) {
		return l.busyError(c, cause)
	}
	return errors.Join(err, cause)
}

// final is err where it ends c. That the lock or the row was taken does, too, where
// the host's code has run that must not run again.
func (l *line) final(c *call, err error) error {
	if errors.Is(err, errTaken) {
		return &lock.BusyError{Key: l.lock, Waited: time.Since(c.since), Attempts: c.attempts + 1, Cause: err}
	}
	return err
}

// isRepeatable reports whether the same write may succeed at another time: the lock
// or the row was in somebody's hands, the server resolved a conflict with others
// to its disadvantage, or others have filled its lock table.
func isRepeatable(err error) bool {
	code := pgdb.Code(err)
	return (errors.Is(err, errTaken) || code == "40001" || code == "40P01" || code == pgdb.OutOfMemory) && !errors.Is(err, ErrUnknownOutcome)
}

// errPutBack says that calls wait for the end of their line's chain.
var errPutBack = errors.New("waits for the commits before")

// commitTurn carries out the writes of the leader, c, and of those behind it, and
// returns how many, from the first on, are done. If none is, the error says
// why, and nothing is on its way to the server.
func (p *postgres) commitTurn(ctx context.Context, l *line, c *call) (n int, err error) {
	follows := l.chain != nil
	conn, done, err := p.connect(ctx, l, c)
	switch {
	case done:
		l.base = nil
		return 1, nil
	case err == nil:
	case ctx.Err() != nil:
		return 0, l.busyError(c, because(ctx, err))
	default:
		return 0, p.failure(err, false)
	}
	defer func() {
		if !follows && !c.flown {
			conn.Release()
		}
	}()
	calls, err := p.queue.take(l, p.options)
	if err != nil {
		return 0, err
	}
	whole := false
	defer func() { // before the connection is released, which is foreign code
		why := err
		if !whole {
			why = errPanicked
		}
		c.made(nil, report{err: why}) // of a commit that has decided on nothing
		switch {
		case c.flown:
			if p.queue.conclude(c.flight, whole) {
				n, err = 0, errPutBack
			}
			return
		case !whole:
			n = max(1, p.queue.abandon(l))
		}
		p.queue.settle(l, n, errors.Is(err, errTaken))
		if err == errPutBack {
			p.queue.retreat(l)
		}
	}()
	n, err = p.commit(ctx, conn, l, c, calls)
	whole = true
	return n, err
}

// commit is commitTurn for calls that have been taken. Where the database
// rejects what several of them make together, it halves them until those that
// are to blame stand alone. The leader gets the reports.
func (p *postgres) commit(ctx context.Context, conn pgdb.Conn, l *line, leader *call, calls []*call) (done int, err error) {
	start := time.Now()
	inside, told := p.beginCommit(ctx, func() []string { return []string{l.key.id} })
	leader.told = told
	base := p.queue.baseFor(l, calls[0], p.options)
	if c := calls[0]; len(calls) == 1 && base == nil && l.chain == nil && p.isOneStatement(l, c) {
		c.fate = sent
		c.doc, err = p.mergeOne(inside, conn, l, c)
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
		l.rowFirst = true
		if errors.Is(err, errTaken) {
			return 0, err
		}
	}
	var stuck error
	err = errStale
	if base != nil {
		calls, err = p.amend(inside, conn, l, leader, base, calls)
	}
	switch {
	case err == errStale && (leader.flown || l.chain != nil):
		return 0, errPutBack
	case err == errStale:
		for err = errUsed; err == errUsed; {
			calls, stuck, err = p.transact(inside, conn, l, calls)
		}
	}
	var last *unsettled
	err = p.failure(err, errors.As(err, &last))
	done = len(calls)
	once := p.options.MaxBatch == 1 && calls[0].decide != nil && calls[0].begun
	switch {
	case err == nil:
	case err == errLate, isRepeatable(err) && !once:
		return 0, err
	case endedWith(ctx, err): // while another connection was asked for: the leader's end alone
		return 0, because(ctx, err)
	case errors.Is(err, ErrRejected) && done > 1:
		leader.made(nil, report{err: err})
		half, err := p.commit(ctx, conn, l, leader, calls[:done/2])
		if err != nil || half < done/2 {
			return half, err
		}
		rest, err := p.commit(ctx, conn, l, leader, calls[half:])
		return half + rest, err
	}
	decide(calls, l.final(leader, err))
	if done > 0 {
		leader.made(calls, report{took: time.Since(start), err: err, stuck: stuck})
	}
	return done, nil
}

// endedWith reports whether an error says that ctx has ended, and nothing is on its way
// to the server.
func endedWith(ctx context.Context, err error) bool {
	return !errors.Is(err, ErrUnknownOutcome) && ctx.Err() != nil && errors.Is(err, ctx.Err())
}

// isOneStatement reports whether a write, if it is alone, can do without a
// transaction of several statements.
func (p *postgres) isOneStatement(l *line, c *call) bool {
	return c.patch != nil && !c.patch.dear && l.key.under == "" && !l.rowFirst && !p.options.MergeInGo
}

// A report says that a transaction, or its failure, has decided on writes.
type report struct {
	writes int // 0: it has decided on none, which only observers want to know
	took   time.Duration
	err    error
	stuck  error // why the transaction could not be rolled back, if it had to be
	shared bool  // and on writes of other documents, with which it has been counted
	told   *observedCommit
}

// made adds a report of the commit that has decided on calls. Of none, it is for observers.
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

// report has known what a leader has committed. A panic of foreign code goes on in it, so it
// is not to be in line for others then.
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

// gateOf is the gate of the line of c.
func (p *postgres) gateOf(l *line, c *call) gate {
	if len(c.under.proof) > 0 {
		return p.under(c.under, l.key.id, l.lock)
	}
	g := p.taking(l.key.id, l.lock)
	g.under = c.under
	return g
}

var _ engine = (*postgres)(nil)
