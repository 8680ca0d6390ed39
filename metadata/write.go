package metadata

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"example.com/lockstore/internal/pgdb"
)

// A commit of its own: this file locks a document and reads it, makes the changes of a batch,
// and stores the result; or it sends a lone merge as one statement. write_sql.go has the SQL.

// errTaken says that another session has the document's lock, or its row.
var errTaken = errors.New("lock is taken")

// Why a write is not stored though the server has reported no error.
var (
	errSuppressed  = errors.New("a trigger or policy suppressed the write")
	errNotInserted = errors.New("a trigger suppressed the new row or changed its id, or a row that is not this document is in its way")
)

// A session sends the statements of one transaction.
type session struct {
	q     pgdb.Querier
	last  func(ctx context.Context, dest []any, sql string, args ...any) error // the statement to commit with
	bound func(context.Context) (context.Context, context.CancelFunc)          // limits the time of one statement
	idle  any                                                                  // the most time between two, as text; nil: as the host has it

	commit func(context.Context) error // for a new row, once that was checked; nil: the host commits
	undo   func()                      // ends the transaction before its time
}

// mergeOne sends a merge as one statement. ErrNotFound means that it has done nothing, and that
// carryOut is to find out why.
func (p *postgres) mergeOne(ctx context.Context, conn pgdb.Conn, wq *waitQueue, c *call) (Document, error) {
	ctx, cancel := p.bounded(ctx)
	defer cancel()
	k := p.keep(wq.key.id, &workingCopy{}, []*call{{write: c.write}})
	q := p.sql.merge.query(wq.key.id, k, string(c.patch.text), wq.lock.Int64(), c.patch.Flat, c.patch.Sets, c.patch.room)
	if last := len(q.args) - 1; k != nil && q.args[last] == int64(0) { // no old tokens go
		q = query{p.sql.mergeOnce, q.args[:last]}
	}
	doc, err := p.read(ctx, conn, q, wq.key.id)
	if err == nil && p.counts.largest.Load() > 1 { // another write is likely to build on it
		wq.setBase(c, doc)
	}
	return doc, err
}

// transact carries calls out in a transaction of their own, and keeps what that has left as
// the queue's base. stuck is why the rollback failed, if there was one.
func (p *postgres) transact(ctx context.Context, conn pgdb.Conn, wq *waitQueue, calls []*call) (made []*call, stuck, err error) {
	begin, cancel := p.bounded(ctx)
	defer cancel()
	tx, err := conn.Begin(begin)
	if err != nil {
		return calls, nil, err
	}
	undo := func() {
		ctx, cancel := p.bounded(ctx)
		defer cancel()
		stuck = tx.Rollback(ctx)
	}
	defer undo()
	made, wc, err := p.carryOut(ctx, session{tx, tx.CommitRow, p.bounded, p.idle(), tx.Commit, undo}, wq, p.preconditionOf(wq, calls[0].under), calls)
	if err == nil && !wc.removed && !wc.fresh {
		wq.setBase(calls[0], wc.doc)
	}
	return made, stuck, err
}

// bounded is the context of one statement: no caller's cancellation ends it.
func (p *postgres) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), p.options.Timeout)
}

// idle is how long a transaction may wait for its next statement. It is less than a statement
// may take, so that a statement in the server that waits for that transaction outlasts it.
func (p *postgres) idle() string { return p.options.patience(2) }

// carryOut locks and reads the document, makes the changes of calls, stores the result, and
// returns it. If the error is nil, each call that was made has its own document or error.
func (p *postgres) carryOut(ctx context.Context, s session, wq *waitQueue, g precondition, calls []*call) (made []*call, wc *workingCopy, err error) {
	row, err := p.open(ctx, s, wq.key.id, g)
	if err != nil && err != ErrNotFound {
		return calls, nil, err
	}
	used := lookup{tokens{}, 0, func(t tokens, calls []*call) error { return p.used(ctx, s, wq.key.id, calls, t) }}
	failed := used.upTo(calls)
	switch {
	case failed != nil:
		return calls, nil, failed
	case err == ErrNotFound && len(used.tokens) > 0:
		return calls, used.missing(wq.key.id, calls), nil
	case err != nil:
		return calls, nil, err
	}
	store := func(s session, wc *workingCopy, calls, all []*call) error {
		k := p.keep(wq.key.id, wc, calls)
		switch {
		case wc.removed:
			return p.finish(ctx, s, g.store(g.sql.remove, k), wc, calls, all)
		case wc.changes == 0 && k == nil:
			return nil
		case wc.changes == 0:
			return p.finish(ctx, s, g.store(g.sql.note, k), wc, calls, all)
		case wc.made:
			return p.create(ctx, s, wq.key.id, g, wc, k, calls, all)
		}
		return p.finish(ctx, s, g.store(g.sql.save, k, wc.stored()...), wc, calls, all)
	}
	made, last, wc, err := p.changeAll(s, wq, calls, newWorkingCopy(row.doc, !row.found, p.options), &used, func(wc *workingCopy, calls []*call) error {
		return store(s.within(), wc, calls, nil)
	})
	if err == nil {
		err = g.under.check()
	}
	if err != nil {
		return made, nil, err
	}
	if len(last) < len(made) { // which are stored already
		s.last = s.checked
	}
	return made, wc, store(s, wc, last, made)
}

// changeAll makes the changes of calls on a working copy, in order, and then those of calls
// that have joined the queue behind the last of the batch meanwhile. It makes as many as fit
// into one answer. The working copy that it returns has the changes of the last of them; where a
// write replaces what was changed before it, stage stores that first. A call whose token is
// among the used is a repetition. If a call fails, its token is looked up before it returns; if
// it does not, the statement that stores it finds out whether the token is used. The error is
// errSlowDecision, or, of all calls, that of looking up or of stage.
func (p *postgres) changeAll(s session, wq *waitQueue, calls []*call, wc *workingCopy, used *lookup, stage func(*workingCopy, []*call) error) (made, last []*call, _ *workingCopy, err error) {
	n, from, until := 0, 0, time.Time{}
	for size := 0; n == 0 || size < p.options.MaxBatchBytes; n++ {
		if n == len(calls) && n == wq.taken {
			calls, _ = p.queues.takeBatch(wq, p.options)
		}
		if n == len(calls) {
			break
		}
		c := calls[n]
		c.begun, c.first, c.lost = true, nil, nil
		if used.answer(c, wc) {
			size += len(wc.doc.Metadata)
			continue
		}
		next := wc.next(c.write)
		in, err := p.change(s, wq, c, next, until)
		if err == errSlowDecision {
			return nil, nil, nil, err
		}
		if !in {
			break
		}
		if until.IsZero() {
			until = time.Now().Add(p.budget())
		}
		if err != nil && c.token != nil && n >= used.calls {
			if err := used.upTo(calls); err != nil {
				return calls, nil, nil, err
			}
			if used.answer(c, wc) {
				size += len(wc.doc.Metadata)
				continue
			}
		}
		if c.err = err; err == nil {
			c.doc, c.changes = next.document(), next.changes
			used.add(c)
		} else if c.lost = c.conflict(err, wc); c.lost != nil {
			c.doc, c.changes = wc.present(), wc.changes
		}
		size += len(next.doc.Metadata) // a refused write takes its time, too
		if next != wc && next.changes > 0 {
			if err := stage(wc, calls[from:n]); err != nil {
				return calls, nil, nil, err
			}
			wc, from = next, n
		}
	}
	return calls[:n], calls[from:n], wc, nil
}

// A locked is what openSQL returns.
type locked struct {
	doc   Document
	found bool
	free  bool // its lock is ours now
}

// open locks the document and reads it. A missing one that writes create is looked for again
// once its lock is ours: another writer may have created it before.
func (p *postgres) open(ctx context.Context, s session, id string, g precondition) (row locked, err error) {
	create := p.options.Table.Create
	row, err = p.lockRow(ctx, s, id, g)
	if err == nil && create && !row.found && row.free {
		row, err = p.lockRow(ctx, s, id, g)
	}
	switch {
	case err != nil:
	case !row.found && !create:
		err = ErrNotFound
	case !row.free:
		err = errTaken
	case !row.found:
		row.doc = Document{ID: id, Metadata: json.RawMessage(`{}`)}
	}
	return row, err
}

// lockRow runs openSQL.
func (p *postgres) lockRow(ctx context.Context, s session, id string, g precondition) (row locked, err error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	var set bool
	row.doc, err = p.read(ctx, s.q, g.open(s.idle), id, pgdb.Here{}, &row.found, &row.free, &set)
	if errors.Is(err, pgdb.ErrElsewhere) {
		if over := g.under.check(); over != nil {
			err = over
		}
	}
	return row, err
}

// create stores a new document. If a row is in the way, another session has inserted it
// without the lock, and the write can be made again. If that comes to nothing, it was our own
// transaction that has inserted it, by a trigger that has put the row elsewhere.
func (p *postgres) create(ctx context.Context, s session, id string, g precondition, wc *workingCopy, k kept, calls, all []*call) error {
	s.last = s.checked
	err := p.finish(ctx, s, g.store(g.sql.insert, k, wc.stored()...), wc, calls, all)
	if !errors.Is(err, errSuppressed) {
		return err
	}
	switch row, err := p.lockRow(ctx, s, id, g); {
	case err != nil:
		return err
	case row.found && calls[0].displaced < mostDisplaced:
		calls[0].displaced++
		return &unsettled{fmt.Errorf("somebody else has inserted it: %w", errTaken)}
	case !row.found:
		if err := p.finish(ctx, s, g.store(g.sql.collide, k, wc.stored()...), wc, calls, all); !errors.Is(err, errSuppressed) {
			return err
		}
	}
	return &RejectedError{Table: p.options.Table.Name, Cause: errNotInserted}
}

// mostDisplaced is how often a call finds that another session has inserted its document.
const mostDisplaced = 5

// within is the session for statements that are not the transaction's last.
func (s session) within() session {
	s.last, s.commit = s.q.QueryRow, nil
	return s
}

// checked commits only if the statement has stored the document.
func (s session) checked(ctx context.Context, dest []any, sql string, args ...any) error {
	err := s.q.QueryRow(ctx, dest, sql, args...)
	if stored := *dest[0].(*bool) && *dest[1].(*bool); err == nil && stored && s.commit != nil {
		err = s.commit(ctx)
	}
	return err
}

// finish sends the statement that stores what calls have made of a working copy. If that
// statement commits, it commits the changes of all.
func (p *postgres) finish(ctx context.Context, s session, q query, wc *workingCopy, calls, all []*call) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	var open, done bool
	var version int64
	var updated nullTime
	var altered []byte
	became(all, sent)
	err := s.last(ctx, []any{&open, &done, &version, &updated.at, &altered}, q.text, q.args...)
	if !pgdb.Uncertain(err) {
		became(all, undecided)
	}
	switch {
	case err != nil && all == nil:
		return err
	case err != nil:
		return &unsettled{err}
	case !open && q.keeps: // a token was used; if none was, the next attempt finds that the hold has ended
		return errUsed
	case !open:
		return errLost
	case !done:
		return &RejectedError{Table: p.options.Table.Name, Cause: errSuppressed}
	}
	for _, c := range calls {
		if altered != nil && c.changes == wc.changes {
			c.doc.Metadata = slices.Clone(altered)
		}
		if c.changes > 0 {
			c.doc.UpdatedAt = updated.time()
		}
		if c.doc.Metadata != nil && c.changes > 0 {
			c.doc.Version += version - wc.doc.Version
			if version < wc.doc.Version { // a trigger counts the commit, not the changes
				c.doc.Version = version
			}
		}
		if c.lost != nil {
			c.lost.Have = c.doc.Version
		}
		if c.first != nil {
			c.doc.Made = c.first.doc.Version
		}
	}
	if wc.changes > 0 {
		wc.doc.Version, wc.doc.UpdatedAt = version, updated.time()
	}
	if altered != nil {
		wc.doc.Metadata = altered
	}
	became(all, decided)
	return nil
}

// An unsettled is an error of the statement that commits.
type unsettled struct{ error }

func (u *unsettled) Unwrap() error { return u.error }

// A nullTime reads {updated}.
type nullTime struct{ at *int64 }

func (n nullTime) time() time.Time {
	if n.at == nil {
		return time.Time{}
	}
	return time.Unix(*n.at/1e6+secondsBefore2000, *n.at%1e6*1e3)
}
