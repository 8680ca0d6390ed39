package metadata

import (
	"context"
	"errors"
	"time"

	"example.com/lockstore/backoff"
	"example.com/lockstore/internal/pgdb"
)

// write implements [engine].
func (p *postgres) write(ctx context.Context, id string, w *write) (Document, error) {
	key := p.options.key(id)
	held, err := tenureOf(ctx, key)
	if err != nil {
		return Document{}, err
	}
	c := &call{write: w, since: time.Now()}
	l, leads, err := p.queue.join(lineKey{id, held}, key, p.options.Backoff, c)
	if err != nil {
		return Document{}, err
	}
	if leads || p.queue.wait(ctx, l, c) {
		p.lead(ctx, l, c)
	}
	if c.err != nil {
		return Document{}, c.err
	}
	return c.doc, nil
}

// lead has the turn until c, the first in line, is done or gives up.
func (p *postgres) lead(ctx context.Context, l *line, c *call) {
	done := 1
	defer func() {
		reports := l.reports
		l.reports = nil
		p.queue.pass(l, done)
		for _, r := range reports { // host code, which may panic: not before all are answered
			p.report(ctx, l.key.id, r)
		}
	}()
	for {
		n, err := p.commitTurn(ctx, l, c)
		if n > 0 {
			done = n
			l.polls = backoff.Start(p.options.Backoff)
			l.attempts.Store(0)
			return
		}
		if !errors.Is(err, errTaken) && !isTransient(err) {
			c.err = err
			return
		}
		l.attempts.Add(1)
		p.counts.waits.Add(1)
		if c.err = l.pause(ctx, c, err, p.queue.closing); c.err != nil {
			return
		}
	}
}

// pause waits before the next attempt, or returns why there will be none; err
// is what the last one failed of.
func (l *line) pause(ctx context.Context, c *call, err error, closing <-chan struct{}) error {
	wait, ok := l.polls.Next()
	if !ok {
		return l.giveUp(c, err, backoff.ErrExhausted)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return l.giveUp(c, err, causeOf(ctx))
	case <-closing:
		return ErrClosed
	}
}

// giveUp is the error of a call whose last attempt failed of err.
func (l *line) giveUp(c *call, err, cause error) error {
	if errors.Is(err, errTaken) {
		return l.busy(c, cause)
	}
	return errors.Join(err, cause)
}

// isTransient reports whether the same write may succeed at another time:
// the server resolved a conflict with others to its disadvantage.
func isTransient(err error) bool {
	code := pgdb.Code(err)
	return (code == "40001" || code == "40P01") && !errors.Is(err, ErrUnknownOutcome)
}

// commitTurn carries out the writes of the leader, c, and of those behind it, and
// returns how many, from the first on, are done. If none is, the error says
// why, and nothing is on its way to the server.
func (p *postgres) commitTurn(ctx context.Context, l *line, c *call) (n int, err error) {
	conn, done, err := p.connect(ctx, l, c)
	switch {
	case done:
		return 1, nil
	case err == nil:
	case ctx.Err() != nil:
		return 0, l.busy(c, because(ctx, err))
	default:
		return 0, p.failure(err, false)
	}
	defer conn.Release()
	calls, err := p.queue.take(l, p.options.MaxBatch, p.options.MaxBatchBytes)
	if err != nil {
		return 0, err
	}
	defer p.queue.untake(l)
	return p.commit(ctx, conn, l, calls)
}

// commit is commitTurn for calls that have been taken. Where the database
// rejects what several of them make together, it halves them until those that
// are to blame stand alone.
func (p *postgres) commit(ctx context.Context, conn pgdb.Conn, l *line, calls []*call) (done int, err error) {
	start := time.Now()
	if c := calls[0]; len(calls) == 1 && p.isOneStatement(l, c) {
		c.doc, err = p.mergeOne(ctx, conn, l.key.id, l.lock, c.patch)
		if err = p.failure(err, true); !errors.Is(err, ErrNotFound) && !isTransient(err) {
			c.err = err
			l.reports = append(l.reports, report{1, time.Since(start), err, false})
			return 1, nil
		}
		l.rowFirst = true
	}
	done, err = p.transact(ctx, conn, l.key.id, p.gateOf(l), calls)
	var last *unsettled
	err = p.failure(err, errors.As(err, &last))
	switch {
	case err == nil:
		l.reports = append(l.reports, report{done, time.Since(start), nil, false})
		return done, nil
	case errors.Is(err, errTaken), isTransient(err) && !calls[0].once:
		return 0, err
	case errors.Is(err, ErrRejected) && done > 1:
		half, err := p.commit(ctx, conn, l, calls[:done/2])
		if err != nil || half < done/2 {
			return half, err
		}
		rest, err := p.commit(ctx, conn, l, calls[half:done])
		return half + rest, err
	}
	for _, c := range calls[:done] {
		c.err = err
	}
	l.reports = append(l.reports, report{done, time.Since(start), err, false})
	return done, nil
}

// isOneStatement reports whether a write, if it is alone, can do without a
// transaction of several statements.
func (p *postgres) isOneStatement(l *line, c *call) bool {
	return c.patch != nil && l.key.held == nil && !l.rowFirst && !p.options.MergeInGo
}

// A report says that a transaction, or its failure, has decided on writes.
type report struct {
	writes int
	took   time.Duration
	err    error
	shared bool // and on writes of other documents, with which it has been counted
}

func (p *postgres) report(ctx context.Context, id string, r report) {
	if !r.shared {
		p.counts.committed(r.writes)
	}
	if errors.Is(r.err, ErrUnknownOutcome) {
		p.options.Logger.WarnContext(ctx, "metadata: outcome unknown", "id", id, "writes", r.writes, "took", r.took, "error", r.err)
	}
	if p.options.Observer != nil {
		p.options.Observer.Committed(ctx, id, r.writes, r.took, r.err)
	}
}

func (p *postgres) gateOf(l *line) gate {
	if l.key.held == nil {
		return p.taking(l.key.id, l.lock)
	}
	return p.under(l.key.held, l.key.id, l.lock)
}

var _ engine = (*postgres)(nil)
