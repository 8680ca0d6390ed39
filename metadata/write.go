package metadata

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"example.com/lockstore/internal/pgdb"
)

// A commit of its own: this file locks a document and reads it, makes the changes of a batch,
// and stores the result. It has the SQL for that, and for the merge in one statement.

// mergeSQL is a lone merge in one round trip. It takes the document's lock for its own,
// implicit transaction, merges, and commits. No row means that the lock is taken, that the
// document is missing, or that the patch changes nothing; openSQL finds out which.
//
// A concurrent UPDATE of the row makes this one wait, and then evaluate all of it again with
// the row as it is then (PostgreSQL documentation, section 13.2.1). The row must not come from
// a subquery, which is not evaluated again: updates would be lost. Each wait takes {patience}
// at most, so that a row that another transaction keeps costs neither the connection nor the
// outcome; the caller, if it still waits, sends the statement again.
var mergeSQL = `
UPDATE {table} AS t SET {column} = {merged}{bump}
WHERE {match} AND (SELECT ` + atMost("lock_timeout", "'{patience}'") + `)
	AND pg_catalog.pg_try_advisory_xact_lock({2}::bigint) AND {fits} AND {changes}{unused}
RETURNING {row}`

// The result of a patch on a target, whether it differs from the target, and whether it is
// surely no larger than a document may be. All of it takes time in proportion to the target
// and the patch.
//
//   - A flat patch of an object needs no merge function.
//   - A patch that removes nothing changes a target that does not contain it. This is cheaper
//     to find out than the result. It is not done for a patch with an array: containment of
//     arrays takes the product of their lengths, and PostgreSQL cannot be interrupted in it.
//   - The merge function copies each object that it goes into, with all that is in it. A large
//     document that needs the function is left to openSQL.
//   - A document prints to at most 90 times its size as a jsonb, as a number prints to at most
//     1024 digits. It is printed only if that could be too much. Mostly its size alone answers
//     all of this.
//   - Documents that share a statement have up to {most} bytes each, so that a thousand, or 64,
//     have some MB together. Larger ones share it with fewer, or go alone.
const (
	mergedSQL  = `CASE WHEN {flat} AND pg_catalog.jsonb_typeof({target}) {=} 'object' THEN {target} {||} {patch} ELSE {merge}({target}::{jsonb}, {patch}) END`
	changesSQL = `({sets} AND NOT {target} {@>} {patch} OR NOT ` + mergedSQL + ` {=} coalesce({target}, '{}'))`
	fitsSQL    = `({size} {<=} LEAST({most}, 65536, {room} {/} 90) OR {size} {<=} {most} AND ({flat} OR {size} {<=} 65536)
		AND pg_catalog.octet_length({target}::{text}) {<=} {room})`
	sizeSQL = `coalesce(pg_catalog.pg_column_size({target} {||} '{}')::bigint, 0)` // uncompressed
)

// How large a document may be that shares a statement with a thousand others, with a few, or
// with none.
const (
	mostOfMany = "16384"
	mostOfFew  = "131072"
	mostOfOne  = "2147483647"
)

// merging fills in {merged}, {changes} and {fits}.
func merging(text, most, target, patch, flat, sets, room string) string {
	text = strings.NewReplacer("{merged}", mergedSQL, "{changes}", changesSQL, "{fits}", fitsSQL).Replace(text)
	text = strings.NewReplacer("{size}", sizeSQL, "{most}", most).Replace(text)
	return strings.NewReplacer("{target}", target, "{patch}", patch, "{flat}", flat, "{sets}", sets, "{room}", room).Replace(text)
}

// openSQL locks the row first and then tries the document's lock. So writers of one document
// queue for its row in the server, for as long as a commit takes. If the lock is taken
// nevertheless, another session holds it on purpose, perhaps for long, and the server is not
// to wait for that; or the transaction that had the row is about to release the lock. Where
// writes create documents, the lock of a missing document is taken, too.
//
// The lock is tried outside the subquery, because a select list is evaluated before FOR UPDATE
// has locked the row.
//
// The server ends a transaction of our own if its next statement does not come within {1}, or
// within the host's limit if that is less: a process that is stopped or cut off must not keep
// the document for good. Its statements wait for a row or a lock for {patience} at most. In
// the host's own transaction {1} is NULL, and the limit is for this statement alone: after it,
// lock_timeout is what it was (PostgreSQL documentation, 20.11.1 Statement Behavior).
var openSQL = `
WITH ` + waitSQL + `, _doc AS MATERIALIZED (
	SELECT {row} FROM {table} AS t WHERE {match} AND (SELECT limited FROM _wait) FOR NO KEY UPDATE
)
SELECT _doc.metadata, coalesce(_doc.version, 0), _doc.updated_at,
	{held}, _doc.version IS NOT NULL, CASE WHEN {creates} OR _doc.version IS NOT NULL THEN {lock} ELSE false END,
	CASE WHEN {1}::{text} IS NULL THEN {restored} ELSE ` + atMost("idle_in_transaction_session_timeout", "{1}") + ` END
FROM _wait LEFT JOIN _doc ON true`

// mergeHereSQL is openSQL and saveSQL in one, for a merge in the host's own transaction, which
// makes other writers of the document wait from here on. A transaction that finds the row
// locked waits for an advisory lock first, {6}, which orders the row's waiters: of the waiters
// for an advisory lock the server wakes one, once the lock is its own; of those for a row it
// wakes all, also at each savepoint that is released. A transaction that has locked the row
// already waits for nothing. No document means that the patch changes nothing, or that only
// openSQL can tell what is wrong.
//
// The UPDATE looks for the row as it was when the statement began, and is evaluated again with
// the row as it is (PostgreSQL documentation, section 13.2.1). It can wait for the advisory
// lock, for the row behind other waiters, and for the row itself, for {patience} each, in
// vain; triggers that run before it have that limit, too.
var mergeHereSQL = `
WITH ` + waitSQL + `, _ours AS MATERIALIZED (
	SELECT FROM {table} AS t WHERE {match} AND (SELECT limited FROM _wait) FOR NO KEY UPDATE SKIP LOCKED
), _row_order AS MATERIALIZED (
	SELECT pg_catalog.pg_advisory_xact_lock({6}::bigint) FROM _wait WHERE NOT EXISTS (SELECT FROM _ours) AND EXISTS (SELECT FROM {table} AS t WHERE {match})
), _doc AS MATERIALIZED (
	SELECT FROM {table} AS t WHERE {match} AND EXISTS (SELECT FROM _row_order) FOR NO KEY UPDATE
), _doc_lock AS MATERIALIZED (SELECT ` + tryLockSQL + ` AS free FROM (SELECT FROM _ours UNION ALL SELECT FROM _doc) AS locked),
_stored AS (
	UPDATE {table} AS t SET {column} = {merged}{bump} FROM _doc_lock
	WHERE {match} AND _doc_lock.free AND {fits} AND {changes}
	RETURNING {row}
)
SELECT _stored.metadata, coalesce(_stored.version, 0), _stored.updated_at, coalesce(_doc_lock.free, true),
	(extract(epoch FROM pg_catalog.clock_timestamp() {-} pg_catalog.statement_timestamp()) {*} 1000000::numeric)::bigint, {restored}
FROM _wait LEFT JOIN _doc_lock ON true LEFT JOIN _stored ON true`

// waitSQL limits how long a statement waits for others. {restored}, in the select list of the
// same statement, sets the limit back.
var waitSQL = `_wait AS MATERIALIZED (
	SELECT old AS host, ` + atMost("lock_timeout", "'{patience}'") + ` AS limited FROM pg_catalog.current_setting('lock_timeout') AS old
)`

// atMost is SQL that lowers one of the server's timeouts to value until the transaction ends,
// unless it is lower; 0 is no timeout. lock_timeout is also lowered to a quarter of what a
// statement or, from PostgreSQL 17 on, a transaction may take, so that a few waits, one after
// the other, end before the host's limit for all of it.
func atMost(timeout, value string) string {
	limits := value + "::interval" + mostSQL(timeout, "")
	if timeout == "lock_timeout" {
		limits += mostSQL("statement_timeout", " {/} 4::double precision") + mostSQL("transaction_timeout", " {/} 4::double precision")
	}
	return "pg_catalog.set_config('" + timeout + "', (extract(epoch FROM GREATEST(LEAST(" + limits + "), interval '1ms')) {*} 1000::numeric)::int::{text}, true) IS NOT NULL"
}

// mostSQL is a part of one of the server's timeouts, or NULL where that is none.
func mostSQL(timeout, part string) string {
	setting := "pg_catalog.current_setting('" + timeout + "', true)"
	return ",\n\tCASE WHEN " + setting + " {<>} '0' THEN " + setting + "::interval" + part + " END"
}

// insertSQL stores a document that openSQL, having its lock, has not found. It returns what
// saveSQL does. Nothing is stored where another row is in the way; it waits for that row's
// transaction no longer than openSQL does.
var insertSQL = `
WITH ` + waitSQL + `, _condition AS MATERIALIZED (SELECT {held}{unused} AS met, {1}::bigint AS changes FROM _wait WHERE limited),
_new AS MATERIALIZED (SELECT {2}::{text}::{jsonb} AS doc),
_stored AS (
	INSERT INTO {table} AS t ({id}, {column}{columns})
	SELECT $1::{text}::{idtype}, _new.doc{values} FROM _condition, _new WHERE _condition.met
	ON CONFLICT DO NOTHING
	RETURNING t.{id}::{text} {=} $1::{text}{within} AS done, {version} AS version, {updated} AS updated_at,
		CASE WHEN t.{column} {=} (SELECT doc FROM _new) THEN NULL ELSE coalesce(t.{column}, '{}') END AS altered
){kept}
SELECT _condition.met AND {restored}, coalesce(_stored.done, false), coalesce(_stored.version, 0), _stored.updated_at, _stored.altered
FROM _wait CROSS JOIN _condition LEFT JOIN _stored ON true`

// collideSQL is insertSQL for a document that insertSQL has not stored although its row is not
// there. If another row is in its way, the server's error names the unique index.
var collideSQL = strings.Replace(insertSQL, "\tON CONFLICT DO NOTHING\n", "", 1)

// saveSQL stores a document whose row openSQL has locked. It returns the document only if a
// trigger has changed it.
var saveSQL = strings.Replace(storeSQL, "{still}", "", 1)

const storeSQL = `
WITH _condition AS MATERIALIZED (SELECT {held}{unused} AS met, {1}::bigint AS changes),
_stored AS (
	UPDATE {table} AS t SET {column} = new.doc{bumps}
	FROM _condition, (SELECT {2}::{text}::{jsonb} AS doc OFFSET 0) AS new
	WHERE {match} AND _condition.met{still}
	RETURNING {version} AS version, {updated} AS updated_at,
		CASE WHEN t.{column} {=} new.doc THEN NULL ELSE coalesce(t.{column}, '{}') END AS altered
){kept}
SELECT _condition.met, _stored.version IS NOT NULL, coalesce(_stored.version, 0), _stored.updated_at, _stored.altered
FROM _condition LEFT JOIN _stored ON true`

const removeSQL = `
WITH _condition AS MATERIALIZED (SELECT {held}{unused} AS met),
_removed AS (DELETE FROM {table} AS t USING _condition WHERE {match} AND _condition.met RETURNING 1){kept}
SELECT _condition.met, EXISTS (SELECT FROM _removed), 0::bigint, NULL::bigint, NULL::{jsonb}
FROM _condition`

// errTaken says that another session holds the document's lock.
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
	doc, err := p.read(ctx, conn, q.statement, q.args, wq.key.id)
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

// patience is how long a statement may wait for each of so many things, one after the other,
// as text for the server. Together they are less than a statement may take, so that the server
// gives up first, and says so.
func (o *Options) patience(waits int) string {
	return milliseconds(min(max(o.Timeout/time.Duration(waits), time.Millisecond), math.MaxInt32*time.Millisecond))
}

// milliseconds is a duration as text for the server.
func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) + "ms" }

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
	q := g.open(s.idle)
	row.doc, err = p.read(ctx, s.q, q.statement, q.args, id, pgdb.Here{}, &row.found, &row.free, &set)
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
	case !open && q.keeps: // if none was, the next attempt finds the hold lost
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
