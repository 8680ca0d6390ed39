package metadata

import (
	_ "embed"
	"strings"
)

// mergeFunction is the SQL function that mergeSQL calls. A release that needs another one gives
// it another name, so that both releases can run at once.
const mergeFunction = "lockstore_merge_patch"

// mergeSignature names the function for to_regprocedure.
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

// DDL returns the SQL that prepares the database for a store on this table (up), and the SQL
// that reverts it (down), for hosts with a migration tool of their own. [Postgres.Migrate] runs
// up. Both are safe to run again. Up contains DO blocks, with semicolons inside: a tool that
// splits files must keep it whole (goose: StatementBegin and StatementEnd).
//
// Up creates what is missing: the merge function in the table's schema; the table of Tokens if
// one is named; for the default table, the table and its schema. A host's own table is created
// by the host.
//
// Down drops the merge function, which other tables in the same schema may use, too; the tokens;
// and the default table with all its documents.
//
// Without a Schema, the search path says where objects are found or made when the SQL runs.
// Unlike Migrate, the SQL does not check who owns the objects that exist already. The error
// matches [ErrInvalidOptions].
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
