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

// Who leads after another knows the document already, as the commit before has left it:
// the base. What is decided on that is stored by one statement, in one round trip, where
// to lock the document, read it and store it takes two. The statement stores it only if
// the document says the same still, and is of the same version, so that nothing is lost of
// what others have written meanwhile, whatever way they took. If it is not, and whenever
// the statement fails, all that was decided is decided anew, on the document as it is.
//
// Only what a document says proves that. Which row it is, by ctid and xmin, does not: a
// server that has lost its last commits gives both anew.
//
// A base is only for those who have the same rights as those whose commit has left it, as
// it is shown to whoever decides before the server has been asked.

// misses is how many commits a line makes without a base after one of no use: others
// write the document, too.
const misses = 16

// mostOfBase is how long the text of a base may be: a longer one takes the server its time.
const mostOfBase = 32 << 10

// saveOnSQL is saveSQL for a document that no statement before has locked, where it is of
// this version and its text has this digest. It takes the document's lock, too.
var saveOnSQL = strings.NewReplacer(
	"{held}", atMost("lock_timeout", "'{patience}'")+" AND pg_catalog.pg_try_advisory_xact_lock({3}::bigint)",
	"{still}", " AND {version} {=} {4}::bigint AND CASE WHEN "+strings.ReplaceAll(sizeSQL, "{target}", "t.{column}")+" {<=} 262144 THEN "+digestSQL+" {=} {5}::{text} ELSE false END").Replace(storeSQL)

// digestSQL tells documents apart by what they say. One that large is none that there is a
// base of.
const digestSQL = `pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(coalesce(t.{column}, '{}')::{text}, 'UTF8')), 'hex')`

// A base is a document as a commit has left it.
type base struct {
	doc       Document
	principal string    // whose it is to see
	since     time.Time // when it was known to be stored
}

// baseLife is for how long a base tells what loses to it without asking the server, to which
// others may have written meanwhile. Who stores on it has it looked at, however old it is.
const baseLife = 10 * time.Millisecond

// saveOn is saveOnSQL for what has become of a base.
func (p *postgres) saveOn(l *line, b *base, dr *draft, k kept) query {
	digest := sha256.Sum256(b.doc.Metadata)
	return p.sql.saveOn.query(l.key.id, k, append(dr.stored(), l.lock.Int64(), b.doc.Version, hex.EncodeToString(digest[:]))...)
}

// left has the next leader, if there will be one, know what a commit for c has left.
func (l *line) left(c *call, doc Document) {
	switch {
	case l.key.under != "", len(doc.Metadata) > mostOfBase:
	case l.misses > 0:
		l.misses--
	default:
		doc.Metadata = slices.Clone(doc.Metadata) // which callers have
		l.base = &base{doc, c.principal, time.Now()}
	}
}

// baseFor is the base of a commit for such calls, or nil. It is used once.
func (q *queue) baseFor(l *line, c *call, o *Options) *base {
	q.mu.Lock()
	defer q.mu.Unlock()
	b := l.base
	l.base = nil
	if b == nil || c.alone || c.principal != b.principal || o.MaxBatch == 1 {
		return nil
	}
	return b
}

// recent is what was known to the line that was forgotten last. Over a network the writers
// of a document can all be answered at once: whoever comes back first builds on its base,
// and those behind need not wait until it has asked.
type recent struct {
	*line
	at time.Time
}

// recall has a new line know what the one of the same document knew a moment ago. Its caller
// has queue.mu.
func (q *queue) recall(l *line) {
	r := q.recent
	q.recent = recent{}
	if r.line != nil && r.key == l.key && q.pace.depth() > 0 && time.Since(r.at) <= 2*q.pace.trip {
		l.base, l.misses = r.base, r.misses
	}
}

// keepBase has a base, to which all of a commit have lost, be that of the next one. It
// reports whether it tells so by itself: it was stored, a moment ago. Of one that a chain
// will leave that is not known yet.
func (q *queue) keepBase(l *line, b *base) (tells bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	tells = l.chain == nil && time.Since(b.since) < baseLife
	if tells || l.chain != nil && slices.ContainsFunc(l.chain.flights, func(f *flight) bool { return f.left == b }) {
		l.base = b
	}
	return tells
}

// areConflicts reports whether calls, which were decided on, have all lost to what was
// stored before. Who asks for a newer version than that knows more, and for none at all, that
// the document was removed, perhaps.
func areConflicts(calls []*call) bool {
	return !slices.ContainsFunc(calls, func(c *call) bool {
		return c.lost == nil || c.lost.Want == 0 || c.lost.Want > c.lost.Have
	})
}

// errStale says that a base was of no use.
var errStale = errors.New("the document is not what it was")

// amend carries calls out on a base. If that is of no use, they are to be carried out
// anew: the error is errStale.
func (p *postgres) amend(ctx context.Context, conn pgdb.Conn, l *line, leader *call, b *base, calls []*call) (made []*call, err error) {
	dr := newDraft(b.doc, false, p.options)
	s := session{last: conn.QueryRow, bound: p.bounded, undo: func() {}}
	// What takes more than one statement is carried out anew.
	made, _, dr, err = p.changeAll(s, l, calls, dr, &lookup{tokens: tokens{}, look: func(tokens, []*call) error { return errStale }}, func(*draft, []*call) error { return errStale })
	if err != nil {
		return made, err
	}
	switch {
	case len(made) == 0: // the first decided for too long
		l.base = b
		return nil, nil
	case dr.changes == 0 && areConflicts(made) && p.queue.keepBase(l, b):
		return made, nil
	}
	if dr.changes == 0 || dr.removed { // which this statement does not ask the server about
		return made, errStale
	}
	f := p.fly(l, leader, made, conn, dr)
	if f != nil {
		leader.flight, s.last = f, f.commit
	}
	err = p.finish(ctx, s, p.saveOn(l, b, dr, p.keep(l.key.id, dr, made)), dr, made, made)
	var last *unsettled
	switch {
	case err == nil && leader.flown:
		f.stored = true
		for _, c := range made {
			if c.changes == 0 && !f.previous.IsZero() {
				c.doc.UpdatedAt = f.previous
			}
		}
	case err == nil:
		l.left(made[0], dr.doc)
	case !errors.As(err, &last), !pgdb.Uncertain(err):
		if !leader.flown && l.chain == nil { // what is under way sets it itself
			l.misses = misses
		}
		err = errStale
	}
	return made, err
}
