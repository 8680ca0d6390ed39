package metadata

import (
	"context"
	_ "embed"
	"fmt"
	"strings"
)

// mergeFunction is the SQL function that mergeSQL calls. A release that needs
// another one gives it another name, so that releases can run side by side.
const mergeFunction = "lockstore_merge_patch"

//go:embed sql/function.sql
var functionSQL string

//go:embed sql/down.sql
var downSQL string

//go:embed sql/table.sql
var tableSQL string

//go:embed sql/schema.sql
var schemaSQL string

// DDL returns the SQL that prepares the database for a store on this table,
// and the SQL that takes it back, for hosts with a migration tool of their
// own. It is what [Postgres.Migrate] runs. Both are safe to run again.
//
// It creates the merge function in the table's schema; and for the default
// table the table, and a schema that is missing. A host's own table is the
// host's to create. Down drops the default table with all its documents, and
// the function, also from under other tables in the same schema.
func (t Table) DDL() (up, down string, err error) {
	own := t.Name == ""
	t, err = t.withDefaults()
	if err != nil {
		return "", "", err
	}
	up, down = functionSQL, downSQL
	if own {
		up = tableSQL + up
		down += "DROP TABLE IF EXISTS {table};\n"
		if t.Schema != "" {
			up = schemaSQL + up
		}
	}
	mark := "lockstore"
	for strings.Contains(t.Schema+t.Name, mark) { // what is quoted must not end its quotes
		mark += "_"
	}
	fill := strings.NewReplacer(
		"{table}", t.qualify(t.Name), "{function}", t.qualify(mergeFunction), "{schema}", quoteName(t.Schema),
		"'{function}'", quoteText(t.qualify(mergeFunction)+"(jsonb,jsonb)"), "'{schema}'", quoteText(quoteName(t.Schema)),
		"{do}", "$"+mark+"$", "{body}", "$"+mark+"_body$",
	)
	return fill.Replace(up), fill.Replace(down), nil
}

// quoteText makes a literal of a name; a value never becomes one.
func quoteText(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// Migrate runs the table's DDL ([Table.DDL]) in one transaction. It changes
// nothing that exists already, needs no more than the right to create objects
// in the schema, and may run in many processes at once. It blocks until ctx
// ends.
func (p *Postgres) Migrate(ctx context.Context) error {
	table := p.options.Table
	if p.pg.defaultTable {
		table = Table{Schema: table.Schema}
	}
	up, _, err := table.DDL()
	if err != nil {
		return err
	}
	// Objects that two transactions create at once are an error for one of
	// them, IF NOT EXISTS or not. One text is one transaction.
	guard := fmt.Sprintf("SELECT pg_advisory_xact_lock(%d);\n", p.options.Namespace.Name("metadata", "migrate").Int64())
	_, err = p.pg.db.Exec(ctx, guard+up)
	return p.pg.failure(err, true)
}
