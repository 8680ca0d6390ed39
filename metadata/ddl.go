package metadata

import (
	_ "embed"
	"strings"
)

// mergeFunction is the SQL function that mergeSQL calls. A release that needs
// another one gives it another name, so that releases can run side by side.
const mergeFunction = "lockstore_merge_patch"

// mergeSignature names it as to_regprocedure takes it.
func (t *Table) mergeSignature() string {
	return t.qualify(mergeFunction) + "(pg_catalog.jsonb,pg_catalog.jsonb)"
}

//go:embed sql/function.sql
var functionSQL string

//go:embed sql/down.sql
var downSQL string

//go:embed sql/table.sql
var tableSQL string

//go:embed sql/tokens.sql
var tokensSQL string

//go:embed sql/schema.sql
var schemaSQL string

// DDL returns the SQL that prepares the database for a store on this table,
// and the SQL that takes it back, for hosts with a migration tool of their
// own. It is what [Postgres.Migrate] runs. Both are safe to run again.
//
// It creates the merge function in the table's schema, and the table of Tokens where
// one is named; and for the default
// table the table, and a schema that is missing. A host's own table is the
// host's to create. Down drops the default table with all its documents, the tokens, and
// the function, also from under other tables in the same schema. Without a
// Schema, all of it is found, or made, as the search path says when it is run. DDL
// does not look whose the objects are that there are already, as Migrate does.
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
	if t.Tokens != "" {
		up += tokensSQL
		down += "DROP TABLE IF EXISTS {tokens};\n"
	}
	mark := "lockstore"
	for strings.Contains(t.Schema+t.Name+t.Tokens, mark) { // what is quoted must not end its quotes
		mark += "_"
	}
	home := "coalesce(pg_catalog.quote_ident(pg_catalog.current_schema()) OPERATOR(pg_catalog.||) '.'::pg_catalog.text, '')"
	if t.Schema != "" {
		home = quoteText(quoteName(t.Schema)+".") + "::pg_catalog.text"
	}
	fill := strings.NewReplacer(
		"{table}", t.qualify(t.Name), "{tokens}", t.qualify(t.Tokens), "{function}", t.qualify(mergeFunction), "{schema}", quoteName(t.Schema),
		"{signature}", quoteText(t.mergeSignature()), "{namespace}", quoteText(quoteName(t.Schema)), "{relation}", quoteText(t.qualify(t.Name)), "{keeps}", quoteText(t.qualify(t.Tokens)),
		"{home}", home, "{name}", mergeFunction,
		"{do}", "$"+mark+"$", "{body}", "$"+mark+"_body$", "{code}", "$"+mark+"_code$",
	)
	return fill.Replace(up), fill.Replace(down), nil
}

// quoteText makes a literal of a name, whatever standard_conforming_strings is
// (PostgreSQL documentation, section 4.1.2.2); a value never becomes one.
func quoteText(s string) string {
	s = "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(s, `\`) {
		s = "E" + strings.ReplaceAll(s, `\`, `\\`)
	}
	return s
}
