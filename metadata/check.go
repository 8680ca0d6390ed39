package metadata

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"example.com/lockstore/internal/pgdb"
	"example.com/lockstore/internal/printable"
	"example.com/lockstore/lock"
)

// Check compares the database with the store's [Options], for the role of the pool's
// connections: the table, its columns and their types, its unique index, the same for
// Table.Tokens, the merge function, the owners, and the privileges. Each finding says what to
// do, in SQL if possible. No findings means that nothing was found wrong. Check reads the
// catalog only, and changes nothing.
//
// A finding is not an error: the host may intend it, as one that grants no DELETE does. For a
// view, Check sees less: whether what is below it has a unique index at all, and not what its
// owner may do there. An error means that the server could not be asked. Check blocks until
// the server has answered, or ctx ends.
func (p *Postgres) Check(ctx context.Context) ([]lock.Finding, error) {
	if p.pg.queues.isClosed() {
		return nil, ErrClosed
	}
	c := &check{ctx: ctx, q: p.pg.db, table: p.options.Table}
	err := c.run(p.pg)
	return c.found, p.pg.failure(because(ctx, err), false)
}

// A check collects the findings of a table.
type check struct {
	ctx   context.Context
	q     pgdb.Querier
	table Table
	found []lock.Finding

	role, path string
	home       Table // the same with the schema that it was found in, for SQL in findings
}

// add adds a finding, unless it was found before.
func (c *check) add(setting, value, want, why string) {
	f := lock.Finding{Setting: setting, Value: value, Want: want, Why: why}
	if !slices.Contains(c.found, f) {
		c.found = append(c.found, f)
	}
}

const checkRoleSQL = `SELECT CURRENT_USER::{text}, pg_catalog.array_to_string(pg_catalog.current_schemas(false), ', '), pg_catalog.current_setting('transaction_read_only')`

func (c *check) run(p *postgres) error {
	var readOnly string
	if err := c.q.QueryRow(c.ctx, []any{&c.role, &c.path, &readOnly}, catalog.Replace(checkRoleSQL)); err != nil {
		return err
	}
	if readOnly == "on" {
		c.add("transaction_read_only", "on", "off, or a pool that leads to the primary server", "nothing can be written: the server is a standby, or the role or the database is set so")
	}
	r, err := c.relation()
	if err != nil {
		return err
	}
	if c.home = c.table; r != nil {
		c.home.Schema = r.schema
		err = c.tableFindings(p, r)
	} else {
		err = c.missingTable(p.defaultTable, "every operation fails")
	}
	if err == nil && !p.options.MergeInGo {
		err = c.function(p)
	}
	if err == nil && r != nil && p.defaultTable {
		err = c.strangers(r.schema, DefaultTable, nil, true)
	}
	if err == nil && c.table.Tokens != "" {
		err = c.tokens()
	}
	return err
}

// tableFindings adds the findings of a table that exists.
func (c *check) tableFindings(p *postgres, r *relation) error {
	columns, err := c.columns(r)
	if err != nil {
		return err
	}
	if !r.usage { // without it the table cannot be looked up by its name
		c.grantUsage(r.schema, "every operation fails")
	} else {
		unfit, _, err := p.unfit(c.ctx, c.q)
		if err != nil {
			return err
		}
		for _, e := range unfit {
			what := c.named()
			if e.Column != "" {
				what = c.column(e.Column)
			}
			value := strings.TrimPrefix(e.Reason, "is ")
			if rest, ok := strings.CutPrefix(value, "has "); ok {
				value = "with " + rest
			}
			c.add(what, value, "another: see Table", "every operation is refused, as merges could be lost")
		}
	}
	c.kind(r)
	c.types(columns)
	if r.writable() {
		c.inserts(r, columns)
		c.privileges(r, columns)
	}
	return c.uniqueness(r, "two rows could have the same id, and every operation reads the whole table")
}

// A relation is a table in the catalog.
type relation struct {
	oid               int64
	schema            string
	kind, persistence string
	usage, delete     bool
	updatable         int64 // bits 1<<2: UPDATE, 1<<3: INSERT, 1<<4: DELETE
	fills             bool  // a trigger may set columns of new rows
	hidden            bool  // row-level security shows the role no rows
}

func (r *relation) writable() bool { return slices.Contains([]string{"r", "p", "v", "f"}, r.kind) }

// relationSQL looks for a table by its schema and name, or by the search path. to_regclass with
// a schema fails if the role may not use the schema.
const relationSQL = `
SELECT c.oid::bigint, n.nspname::{text}, c.relkind::{text}, c.relpersistence::{text}, pg_catalog.has_schema_privilege(n.oid, 'USAGE'),
	pg_catalog.has_table_privilege(c.oid, 'DELETE'), pg_catalog.pg_relation_is_updatable(c.oid::pg_catalog.regclass, false)::bigint,
	EXISTS (SELECT FROM pg_catalog.pg_trigger AS g WHERE g.tgrelid {=} c.oid AND g.tgenabled {<>} 'D' AND g.tgtype OPERATOR(pg_catalog.&) 7::smallint {=} 7::smallint),
	pg_catalog.row_security_active(c.oid) AND NOT EXISTS (SELECT FROM pg_catalog.pg_policy AS y WHERE y.polrelid {=} c.oid)
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid {=} c.relnamespace
WHERE CASE WHEN $1::{text} {=} '' THEN c.oid {=} pg_catalog.to_regclass(pg_catalog.quote_ident($2::{text}))::{oid}
	ELSE n.nspname {=} $1::{text}::{name} AND c.relname {=} $2::{text}::{name} END`

// relation returns the table, or nil if there is none.
func (c *check) relation() (*relation, error) {
	r := &relation{}
	err := c.q.QueryRow(c.ctx, []any{&r.oid, &r.schema, &r.kind, &r.persistence, &r.usage, &r.delete, &r.updatable, &r.fills, &r.hidden},
		catalog.Replace(relationSQL), c.table.Schema, c.table.Name)
	if errors.Is(err, pgdb.ErrNoRows) {
		return nil, nil
	}
	return r, err
}

const elsewhereSQL = `
SELECT n.nspname::{text} FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid {=} c.relnamespace
WHERE c.relname {=} $1::{text}::{name} AND c.relpersistence {<>} 't' ORDER BY 1`

func (c *check) missingTable(isMigrated bool, why string) error {
	want := "CREATE TABLE, or another Table.Name"
	if isMigrated {
		want = "Migrate, or what Table.DDL returns"
	}
	var others []string
	err := c.q.Query(c.ctx, func(row pgdb.Row) error {
		var schema string
		err := row.Scan(&schema)
		others = append(others, printable.Text(schema))
		return err
	}, catalog.Replace(elsewhereSQL), c.table.Name)
	if len(others) > 0 {
		want += "; or the Table.Schema that is meant, of " + strings.Join(others, ", ")
	}
	c.add(c.named(), c.missing(), want, why)
	return err
}

// missing says that there is no table or function, and where it was looked for.
func (c *check) missing() string {
	if c.table.Schema != "" {
		return "missing"
	}
	return "missing from the search path (" + printable.Text(c.path) + ")"
}

// named is the table's name, for findings and for SQL.
func (c *check) named() string             { return "table " + c.table.qualify(c.table.Name) }
func (c *check) column(name string) string { return "column " + quoteName(name) + " of " + c.named() }
func (c *check) alter(column string) string {
	return "ALTER TABLE " + c.home.qualify(c.table.Name) + column
}
func (c *check) alterType(column string) string {
	return c.alter(" ALTER COLUMN " + quoteName(column) + " TYPE ")
}

func (c *check) grantUsage(schema, why string) {
	schema = "schema " + quoteName(schema)
	c.grant("USAGE", schema, schema, why)
}

// grant adds the finding that a privilege is missing. object is what it is on, in SQL.
func (c *check) grant(privilege, of, object, why string) {
	c.add(privilege+" on "+of, "not granted", fmt.Sprintf("GRANT %s ON %s TO %s", privilege, object, quoteName(c.role)), why)
}

// kind adds the findings of the table as a whole.
func (c *check) kind(r *relation) {
	switch {
	case !r.writable():
		c.add(c.named(), "no table or view", "another Table.Name", "nothing can be written to it")
	case r.kind == "v" && r.updatable&(1<<2) == 0:
		c.add(c.named(), "a view that the server does not update by itself", "one of a single table, without DISTINCT, GROUP BY, LIMIT and their kin", "every write fails")
	case r.kind == "v" && c.table.Create && r.updatable&(1<<3|1<<4) != 1<<3|1<<4:
		c.add(c.named(), "a view that takes no new rows", "another, or no Table.Create", "writes of documents that are missing fail, and Delete does")
	case r.persistence == "t":
		c.add(c.named(), "temporary", "one that lasts", "it is gone with the session that has made it, and others do not see it")
	case r.persistence == "u":
		c.add(c.named(), "unlogged", c.alter(" SET LOGGED"), "a crash of the server, or a failover, leaves it empty")
	}
	if r.hidden {
		c.add(c.named(), "under row-level security without a policy", c.alter(" DISABLE ROW LEVEL SECURITY")+", or policies", "to this role all documents are missing")
	}
}

var uniqueSQL = belowSQL("$1::bigint::{oid}") + `
SELECT x.relname::{text}, i.indimmediate, coalesce((SELECT pg_catalog.jsonb_agg(a.attname) FROM pg_catalog.pg_attribute AS a
	WHERE a.attrelid {=} i.indrelid AND a.attnum {=} ANY (i.indkey[0:i.indnkeyatts {-} 1])), '[]')::{text}
FROM below JOIN pg_catalog.pg_index AS i ON i.indrelid {=} below.oid JOIN pg_catalog.pg_class AS x ON x.oid {=} i.indexrelid
WHERE i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL`

// uniqueness looks for the index that keeps two rows from having the same id.
func (c *check) uniqueness(r *relation, why string) error {
	if r.kind == "f" { // a foreign table has no indexes here
		return nil
	}
	identify := c.table.identify()
	unique := false
	err := c.q.Query(c.ctx, func(row pgdb.Row) error {
		var name, text string
		var immediate bool
		var key []string
		if err := row.Scan(&name, &immediate, &text); err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(text), &key); err != nil {
			return err
		}
		if !immediate {
			if c.table.Create {
				c.add("index "+quoteName(name)+" of "+c.named(), "deferrable", "NOT DEFERRABLE", "writes of documents that are missing fail: ON CONFLICT does not do with it")
			}
			return nil
		}
		others := slices.ContainsFunc(key, func(column string) bool { return !slices.Contains(identify, column) })
		unique = unique || r.kind == "v" || !others
		return nil
	}, catalog.Replace(uniqueSQL), r.oid)
	if err == nil && r.writable() && !unique {
		want := "CREATE UNIQUE INDEX ON " + c.home.qualify(c.table.Name) + " (" + names(identify) + ")"
		if r.kind == "v" {
			want = "one of the table that it shows"
		}
		c.add(c.named(), "without a unique index of "+names(identify), want,
			why)
	}
	return err
}

// names returns a list of quoted names.
func names(columns []string) string {
	quoted := make([]string, len(columns))
	for i, column := range columns {
		quoted[i] = quoteName(column)
	}
	return strings.Join(quoted, ", ")
}

// strangers adds a finding for each owner that Migrate would refuse.
func (c *check) strangers(schema string, table, function any, itself bool) error {
	return c.q.Query(c.ctx, func(row pgdb.Row) error {
		var what, owner string
		err := row.Scan(&what, &owner)
		if what != "schema" {
			what = strings.TrimSuffix(what, " in schema") + " of schema"
		}
		c.add(what+" "+quoteName(schema), "owned by "+printable.Text(owner), "Table.Owner, if that role is to be trusted; otherwise another schema",
			"its owner can have SQL of its own run by whoever uses the store")
		return err
	}, catalog.Replace(strangersSQL), schema, table, function, c.table.Owner, itself)
}
