package metadata

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"example.com/lockstore/internal/pgdb"
)

// TableError says that a host's table cannot store documents, and why. It matches [ErrSchema].
type TableError struct {
	Table, Column string // Column is empty if the reason is the table itself
	Reason        string
}

// Error returns the table, the column and the reason.
func (e *TableError) Error() string {
	what := fmt.Sprintf("table %q", e.Table)
	if e.Column != "" {
		what += fmt.Sprintf(", column %q", e.Column)
	}
	return fmt.Sprintf("%s: %s: %s", ErrSchema, what, e.Reason)
}

// Unwrap returns [ErrSchema].
func (e *TableError) Unwrap() error { return ErrSchema }

// fitSQL asks the catalog about a table: whether rules or triggers replace writes of it, or of
// what is below it if it is a view; and the types, below domains, of the columns that identify
// rows (PostgreSQL documentation, chapter 53).
var fitSQL = catalog.Replace(belowSQL("pg_catalog.to_regclass($1::{text})::{oid}") + `, ids AS (
	SELECT a.attname, a.atttypid AS type, a.attcollation FROM pg_catalog.pg_attribute AS a
	WHERE a.attrelid {=} pg_catalog.to_regclass($1::{text})::{oid} AND $2::{text}::{jsonb} {@>} pg_catalog.to_jsonb(a.attname::{text}) AND NOT a.attisdropped
	UNION ALL
	SELECT ids.attname, t.typbasetype, ids.attcollation FROM ids JOIN pg_catalog.pg_type AS t ON t.oid {=} ids.type WHERE t.typtype {=} 'd'
)
SELECT '', 0::bigint, '', EXISTS (SELECT FROM below JOIN pg_catalog.pg_rewrite AS r ON r.ev_class {=} below.oid WHERE r.ev_type {<>} '1')
	OR EXISTS (SELECT FROM below JOIN pg_catalog.pg_trigger AS g ON g.tgrelid {=} below.oid WHERE g.tgtype OPERATOR(pg_catalog.&) 64::smallint {<>} 0::smallint)
FROM below WHERE below.oid {=} pg_catalog.to_regclass($1::{text})::{oid}
UNION ALL
SELECT ids.attname::{text}, ids.type::bigint, pg_catalog.format_type(ids.type, NULL),
	EXISTS (SELECT FROM pg_catalog.pg_collation AS c WHERE c.oid {=} ids.attcollation AND NOT c.collisdeterministic)
FROM ids JOIN pg_catalog.pg_type AS t ON t.oid {=} ids.type WHERE t.typtype {<>} 'd'`)

// belowSQL begins a query with a relation and, if that is a view, all that is below it.
func belowSQL(relation string) string {
	return `
WITH RECURSIVE below AS (
	SELECT ` + relation + ` AS oid
	UNION
	SELECT d.refobjid FROM below
	JOIN pg_catalog.pg_rewrite AS r ON r.ev_class {=} below.oid
	JOIN pg_catalog.pg_depend AS d ON d.objid {=} r.oid AND d.classid {=} 'pg_catalog.pg_rewrite'::pg_catalog.regclass
		AND d.refclassid {=} 'pg_catalog.pg_class'::pg_catalog.regclass
)`
}

// exact are the types whose values are equal only if they are written the same: text, varchar,
// uuid, bigint, smallint, integer. If one of these is not the type in [Table], the server itself
// reports an error.
var exact = []int64{25, 1043, 2950, 20, 21, 23}

// connection takes a connection for a write, after the table was found fit. Nothing was sent
// on it yet, so that the first statement can still be sent on another.
func (p *postgres) connection(ctx context.Context) (pgdb.Conn, error) {
	if err := p.fit(ctx, p.db); err != nil {
		return nil, err
	}
	conn, err := p.db.Acquire(ctx)
	if err == nil {
		p.hints.ask(ctx, conn)
	}
	return conn, err
}

// fit refuses a host's table in which one row could have several ids, and so several locks, or
// whose rows cannot be locked. It asks until a table is found fit, and ignores a missing one. On
// the pool it takes a connection, for which it waits until ctx ends.
func (p *postgres) fit(ctx context.Context, q pgdb.Querier) error {
	if p.fits.Load() {
		return nil
	}
	if q == pgdb.Querier(p.db) {
		conn, err := p.db.Acquire(ctx)
		if err != nil {
			return p.failure(because(ctx, err), false)
		}
		defer conn.Release()
		return p.fit(ctx, conn) // another call may have found it fit meanwhile
	}
	ctx, cancel := p.bounded(ctx)
	defer cancel()
	unfit, found, err := p.unfit(ctx, q)
	switch {
	case err != nil:
		return p.failure(err, false)
	case unfit != nil:
		return unfit[0]
	}
	p.fits.Store(found)
	return nil
}

// unfit returns all reasons why a table cannot store documents, and whether it exists.
func (p *postgres) unfit(ctx context.Context, q pgdb.Querier) (unfit []*TableError, found bool, err error) {
	table := &p.options.Table
	asked, err := json.Marshal(table.identify()) // as other drivers take no []string
	if err != nil {
		return nil, false, err
	}
	err = q.Query(ctx, func(row pgdb.Row) error {
		var column, typeName string
		var oid int64
		var bad bool
		err := row.Scan(&column, &oid, &typeName, &bad)
		found = true
		reason := ""
		switch {
		case column == "" && bad:
			reason = "has rules, or INSTEAD OF triggers, so that its rows cannot be locked"
		case column != "" && !slices.Contains(exact, oid):
			reason = "is of type " + typeName + ", in which values may be equal that are written otherwise"
		case column != "" && bad:
			reason = "has a collation in which values may be equal that are written otherwise"
		}
		if reason != "" {
			unfit = append(unfit, &TableError{Table: table.Name, Column: column, Reason: reason})
		}
		return err
	}, fitSQL, table.qualify(table.Name), string(asked))
	return unfit, found, err
}
