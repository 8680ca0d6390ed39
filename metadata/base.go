package metadata

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"

	"example.com/lockstore/internal/pgdb"
)

// A base is the document as the last commit has left it. The next leader makes its batch's
// changes on the base and stores the result by one statement, in one round trip; to lock the
// document, read it and store it takes two. The statement stores only if the document still
// has the same text and version, so no write of others is lost, whichever way it was made. If
// the document differs, and whenever the statement fails, all changes are made again, on the
// document as it is.
//
// Only the document's text proves that it is the same. Its row, by ctid and xmin, does not: a
// server that has lost its last commits assigns both again.
//
// A base is used only by callers with the rights of those whose commit has left it, since
// their decide functions see it before the server is asked.

// After a base was of no use, the next misses commits of the queue leave none: others write the
// document, too.
const misses = 16

// mostOfBase is how long the text of a base may be; the server needs time for a longer one.
const mostOfBase = 32 << 10

// saveOnSQL is saveSQL for a document that no statement before has locked. It takes the
// document's lock, and stores only if the document has this version and its text this digest.
// Of a document larger than any base no digest is computed.
var saveOnSQL = strings.NewReplacer(
	"{held}", atMost("lock_timeout", "'{patience}'")+" AND pg_catalog.pg_try_advisory_xact_lock({3}::bigint)",
	"{still}", " AND {version} {=} {4}::bigint AND CASE WHEN "+strings.ReplaceAll(sizeSQL, "{target}", "t.{column}")+" {<=} 262144 THEN "+digestSQL+" {=} {5}::{text} ELSE false END").Replace(storeSQL)

// digestSQL is the digest of a document's text.
const digestSQL = `pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(coalesce(t.{column}, '{}')::{text}, 'UTF8')), 'hex')`

// A base is a document as a commit has left it.
type base struct {
	doc       Document
	principal string    // that may see it
	since     time.Time // when it was known to be stored; zero: not yet
}

// A conflict with a base younger than baseLife is reported without asking the server, where
// others may have written since. A commit on a base has the server check it, however old it is.
const baseLife = 10 * time.Millisecond

// saveOn is saveOnSQL for what a working copy has made of a base.
func (p *postgres) saveOn(wq *waitQueue, b *base, wc *workingCopy, k kept) query {
	digest := sha256.Sum256(b.doc.Metadata)
	return p.sql.saveOn.query(wq.key.id, k, append(wc.stored(), wq.lock.Int64(), b.doc.Version, hex.EncodeToString(digest[:]))...)
}

// setBase keeps the document that a commit for c has left as the base of the next one.
func (wq *waitQueue) setBase(c *call, doc Document) {
	switch {
	case wq.key.under != "", len(doc.Metadata) > mostOfBase:
	case wq.misses > 0:
		wq.misses--
	default:
		doc.Metadata = slices.Clone(doc.Metadata) // callers have the other
		wq.base = &base{doc, c.principal, time.Now()}
	}
}

// baseFor returns the base for a commit that c leads, or nil. A base is used once.
//
// With a base, commit (lead.go) stores the batch without locking and reading the document first.
// If the document has another version or digest by then, or its lock is taken, saveOnSQL stores
// nothing. commitOnBase then returns errStale, as for each error with which surely nothing was
// stored.
func (q *queues) baseFor(wq *waitQueue, c *call, o *Options) *base {
	q.mu.Lock()
	defer q.mu.Unlock()
	b := wq.base
	wq.base = nil
	if b == nil || c.alone || c.principal != b.principal || o.MaxBatch == 1 {
		return nil
	}
	return b
}

// recent is the queue that was removed last. Over a network all writers of a document can be
// answered at once. Then the first that comes back builds on that queue's base, and those
// behind it need not wait until it has asked the server.
type recent struct {
	*waitQueue
	at time.Time
}

// recall gives a new queue what the recent one knew, if that was a moment ago and of the same
// document. Its caller has queues.mu.
func (q *queues) recall(wq *waitQueue) {
	r := q.recent
	q.recent = recent{}
	if r.waitQueue != nil && r.key == wq.key && q.pace.depth() > 0 && time.Since(r.at) <= 2*q.pace.trip {
		wq.base, wq.misses = r.base, r.misses
	}
}

// keepBase keeps a base for the next commit if all calls of this one ended in conflicts on it.
// It reports whether the base is proof enough of the conflicts, because it was stored a moment
// ago. A base that a commit of the chain will leave proves nothing yet.
func (q *queues) keepBase(wq *waitQueue, b *base) (tells bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	tells = wq.chain == nil && time.Since(b.since) < baseLife
	if tells || wq.chain != nil && slices.ContainsFunc(wq.chain.commits, func(f *pipelinedCommit) bool { return f.leaves == b }) {
		wq.base = b
	}
	return tells
}

// areConflicts reports whether all calls have lost to a version that was stored before. Not so
// a call that wants a newer version than the base's: its caller knows more than the base. Nor a
// call that wants no document: its caller may know that it was removed.
func areConflicts(calls []*call) bool {
	return !slices.ContainsFunc(calls, func(c *call) bool {
		return c.lost == nil || c.lost.Want == 0 || c.lost.Want > c.lost.Have
	})
}

// errStale says that a base was of no use.
var errStale = errors.New("the document is not what it was")

// commitOnBase makes the changes of calls on a base and stores the result. If the base is of
// no use, the error is errStale, and the changes are to be made again in another way.
func (p *postgres) commitOnBase(ctx context.Context, conn pgdb.Conn, wq *waitQueue, leader *call, b *base, calls []*call) (made []*call, err error) {
	wc := newWorkingCopy(b.doc, false, p.options)
	s := session{last: conn.QueryRow, bound: p.bounded, undo: func() {}}
	// What needs more than one statement is errStale.
	made, _, wc, err = p.changeAll(s, wq, calls, wc, &lookup{tokens: tokens{}, look: func(tokens, []*call) error { return errStale }}, func(*workingCopy, []*call) error { return errStale })
	if err != nil {
		return made, err
	}
	switch {
	case len(made) == 0: // the first took too long to decide
		wq.base = b
		return nil, nil
	case wc.changes == 0 && areConflicts(made) && p.queues.keepBase(wq, b):
		return made, nil
	}
	if wc.changes == 0 || wc.removed { // this statement cannot ask the server about these
		return made, errStale
	}
	f := p.pipeline(wq, leader, made, conn, wc)
	if f != nil {
		leader.pipelined, s.last = f, f.commit
	}
	err = p.finish(ctx, s, p.saveOn(wq, b, wc, p.keep(wq.key.id, wc, made)), wc, made, made)
	var last *unsettled
	switch {
	case err == nil && leader.launched:
		f.stored = true
		for _, c := range made {
			if c.changes == 0 && !f.previous.IsZero() {
				c.doc.UpdatedAt = f.previous
			}
		}
	case err == nil:
		wq.setBase(made[0], wc.doc)
	case !errors.As(err, &last), !pgdb.Uncertain(err):
		if !leader.launched && wq.chain == nil { // else conclude sets it
			wq.misses = misses
		}
		err = errStale
	}
	return made, err
}
