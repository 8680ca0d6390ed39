package metadata

import "slices"

// tokenColumns are the columns of [Table].Tokens, with their types.
var tokenColumns = []struct {
	name, typeName string
	oid            int64
}{
	{"token", "uuid", uuidType}, {"digest", "uuid", uuidType}, {"version", "bigint", bigintType}, {"at", "timestamptz", timestamptzType},
}

// tokenRightsSQL returns the privileges that the role lacks. They must be on the whole table, as
// Once finds the rows that it removes by ctid.
const tokenRightsSQL = `SELECT pg_catalog.string_agg(may, ', ') FROM pg_catalog.unnest('{SELECT,INSERT,UPDATE,DELETE}'::{text}[]) AS may
WHERE NOT pg_catalog.has_table_privilege($1::bigint::{oid}, may)`

// tokens adds the findings of the table of tokens.
func (c *check) tokens() error {
	const why = "every write of Once fails"
	t := &check{ctx: c.ctx, q: c.q, role: c.role, path: c.path}
	t.table = Table{Schema: c.table.Schema, Name: c.table.Tokens, ID: "token", Owner: c.table.Owner}
	defer func() { c.found = append(c.found, t.found...) }()
	r, err := t.relation()
	if err != nil {
		return err
	}
	if r == nil {
		return t.missingTable(true, why)
	}
	t.home = t.table
	t.home.Schema = r.schema
	columns, err := t.columns(r)
	if err != nil {
		return err
	}
	if !r.usage && r.schema != c.home.Schema {
		t.grantUsage(r.schema, why)
	}
	if !r.writable() || r.kind == "v" {
		t.add(t.named(), "no table", "another Table.Tokens", why)
		return nil
	}
	if r.persistence != "p" {
		t.add(t.named(), "not permanent", t.alter(" SET LOGGED")+", or another Table.Tokens", "what it forgets is made twice")
	}
	var names []string
	for _, want := range tokenColumns {
		names = append(names, want.name)
		switch col := columns[want.name]; {
		case col == nil:
			t.add(t.column(want.name), "missing", t.alter(" ADD COLUMN "+quoteName(want.name)+" "+want.typeName+" NOT NULL")+", or another Table.Tokens", why)
		case col.base != want.oid:
			t.add(t.column(want.name), "of type "+col.typeName, t.alterType(want.name)+want.typeName, why)
		}
	}
	for name, col := range columns {
		if col.required && !slices.Contains(names, name) {
			t.add(t.column(name), "NOT NULL without a default", t.alter(" ALTER COLUMN "+quoteName(name)+" SET DEFAULT …"), why)
		}
	}
	var lacking *string
	if err := t.q.QueryRow(t.ctx, []any{&lacking}, catalog.Replace(tokenRightsSQL), r.oid); err != nil {
		return err
	}
	if lacking != nil {
		t.grant(*lacking, t.named(), t.home.qualify(t.table.Name), why)
	}
	if err := t.uniqueness(r, "what is made once could be made twice, and every write of Once reads the whole table"); err != nil {
		return err
	}
	return t.strangers(r.schema, t.table.Name, nil, false)
}
