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
// the row is the very one that was stored then, so that nothing is lost of what others
// have written meanwhile, whatever way they took: then, and whenever it fails, all that was
// decided is decided anew, on the document as it is.
//
// A base is only for those who have the same rights as those whose commit has left it, as
// it is shown to whoever decides before the server has been asked.

// misses is how many commits a line makes without a base after one of no use: others
// write the document, too.
const misses = 16

// toldSQL is which row it is: each that is stored, at each time, is another (PostgreSQL
// documentation, section 5.5 System Columns).
const toldSQL = `(t.tableoid::{text} {||} t.ctid::{text} {||} t.xmin::{text})`

// tellsSQL is whether the role may ask for that. A view's rows have none of it.
var tellsSQL = func() string {
	var all []string
	for _, column := range []string{"-1", "-2", "-6"} { // ctid, xmin, tableoid
		all = append(all, "coalesce(pg_catalog.has_column_privilege({relation}, ("+column+")::smallint, 'SELECT'), false)")
	}
	return strings.Join(all, " AND ")
}()

// saveOnSQL is saveSQL for a document whose row openSQL has locked, or, where the fourth
// argument is not empty, that is still in that row; then it takes the document's lock, too.
var saveOnSQL = strings.NewReplacer(
	"{held}", atMost("lock_timeout", "'{patience}'")+" AND pg_catalog.pg_try_advisory_xact_lock({3}::bigint)",
	"{still}", " AND ({4}::{text} {=} '' OR {4}::{text} {=} "+toldSQL+")",
	"{told}", ", "+toldSQL+" AS told", "{tell}", ", coalesce(stored.told, '')").Replace(storeSQL)

// A base is a document as a commit has left it.
type base struct {
	doc       Document
	row       string // where it is: toldSQL
	principal string // whose it is to see
}

// left has the next leader, if there will be one, know what a commit for c has left.
func (l *line) left(c *call, doc Document, row string) {
	switch {
	case row == "":
	case l.misses > 0:
		l.misses--
	default:
		doc.Metadata = slices.Clone(doc.Metadata) // which callers have
		l.base = &base{doc, row, c.principal}
	}
}

// tells reports whether c may ask for rows, as far as is known.
func (p *postgres) tells(c *call) bool {
	known := p.told.Load()
	return known != nil && *known == c.principal && !c.alone && p.options.MaxBatch > 1
}

// learn notes whether c may ask for rows.
func (p *postgres) learn(c *call, tells bool) {
	switch principal := c.principal; {
	case tells && !p.tells(c):
		p.told.Store(&principal)
	case !tells && p.tells(c):
		p.told.Store(nil)
	}
}

// mayNot reports whether an error is, or could be, that a role may not ask for rows.
func mayNot(err error) bool {
	code := pgdb.Code(err)
	return code == "42501" || code == "42703" || code == "0A000"
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
	dr.row = b.row
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
	err = p.finish(ctx, s, p.taking(l.key.id, l.lock).saveOn(dr), dr, made, made, &dr.row)
	var last *unsettled
	switch {
	case err == nil:
		l.left(calls[0], dr.doc, dr.row)
	case !errors.As(err, &last), !pgdb.Uncertain(err):
		l.misses = misses
		err = errStale
	}
	return made, err
}
