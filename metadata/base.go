package metadata

import (
	"context"
	"errors"
	"slices"
	"strings"

	"example.com/lockstore/internal/pgdb"
)

// Who leads after another knows the document already, as the commit before has left it:
// the base. What is decided on that is stored by one statement, in one round trip, where
// to lock the document, read it and store it takes two. The statement stores it only if
// the document says the same still, and is of the same version and time, so that nothing is
// lost of what others have written meanwhile, whatever way they took. If it is not, and
// whenever the statement fails, all that was decided is decided anew, on the document as
// it is.
//
// Only what a document says proves that. Which row it is, by ctid and xmin, does not: a
// server that has lost its last commits gives both anew.
//
// A base is only for those who have the same rights as those whose commit has left it, as
// it is shown to whoever decides before the server has been asked.

// misses is how many commits a line makes without a base after one of no use: others
// write the document, too.
const misses = 16

// sealSQL tells documents apart by a hash of what they say, their version and time. Of
// those that are large, whose text takes its time, there is none.
const sealSQL = `pg_catalog.hashtextextended(t.{column}::{text} COLLATE pg_catalog."C", 0::bigint)::{text} {||} ' ' {||} {version}::{text} {||} ' ' {||} coalesce(({updated})::{text}, '')`

// sealIf is sealSQL for documents that are small enough, and of which condition is true.
func sealIf(condition string) string {
	small := strings.ReplaceAll(sizeSQL, "{target}", "t.{column}") + " {<=} 32768"
	return "CASE WHEN " + small + " THEN CASE WHEN " + condition + " THEN " + sealSQL + " END END"
}

// saveOnSQL is saveSQL for a document whose row openSQL has locked, or, where the fourth
// argument is not empty, that has that seal still; then it takes the document's lock, too.
// It returns the seal of what it has stored, if that is what it was given, to the byte.
var saveOnSQL = strings.NewReplacer(
	"{held}", atMost("lock_timeout", "'{patience}'")+" AND pg_catalog.pg_try_advisory_xact_lock({3}::bigint)",
	"{still}", " AND ({4}::{text} {=} '' OR {4}::{text} {=} "+sealIf("true")+")",
	"{seal}", ", "+sealIf("t.{column}::{text} {=} new.doc::{text}")+" AS seal",
	"{sealed}", ", coalesce(stored.seal, '')").Replace(storeSQL)

// A base is a document as a commit has left it.
type base struct {
	doc       Document
	seal      string // by which the server knows it: sealSQL
	principal string // whose it is to see
}

// left has the next leader, if there will be one, know what a commit for c has left.
func (l *line) left(c *call, doc Document, seal string) {
	switch {
	case seal == "":
	case l.misses > 0:
		l.misses--
	default:
		doc.Metadata = slices.Clone(doc.Metadata) // which callers have
		l.base = &base{doc, seal, c.principal}
	}
}

// baseFor is the base of a commit for such calls, or nil. It is used once.
func (l *line) baseFor(c *call, o *Options) *base {
	b := l.base
	l.base = nil
	if b == nil || c.alone || c.principal != b.principal || o.MaxBatch == 1 {
		return nil
	}
	return b
}

// errStale says that a base was of no use.
var errStale = errors.New("the document is not what it was")

// amend carries calls out on a base. If that is of no use, they are to be carried out
// anew: the error is errStale.
func (p *postgres) amend(ctx context.Context, conn pgdb.Conn, l *line, b *base, calls []*call) (made []*call, err error) {
	dr := newDraft(b.doc, false, p.options)
	dr.seal = b.seal
	s := session{last: conn.QueryRow, bound: p.bounded, undo: func() {}}
	// What takes more than one statement is carried out anew.
	made, _, dr, err = p.changeAll(s, l, calls, dr, func(*draft, []*call) error { return errStale })
	if err != nil {
		return made, err
	}
	if len(made) == 0 { // the first decided for too long
		l.base = b
		return nil, nil
	}
	if dr.changes == 0 || dr.removed { // which this statement does not ask the server about
		return made, errStale
	}
	err = p.finish(ctx, s, p.taking(l.key.id, l.lock).saveOn(dr), dr, made, made, &dr.seal)
	var last *unsettled
	switch {
	case err == nil:
		l.left(calls[0], dr.doc, dr.seal)
	case !errors.As(err, &last), !pgdb.Uncertain(err):
		l.misses = misses
		err = errStale
	}
	return made, err
}
