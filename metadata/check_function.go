package metadata

import (
	"errors"
	"fmt"
	"strings"

	"example.com/lockstore/internal/pgdb"
)

// functionCheckSQL looks for the merge function as relationSQL does for a table.
const functionCheckSQL = `
SELECT n.nspname::{text}, pg_catalog.has_schema_privilege(n.oid, 'USAGE'), pg_catalog.has_function_privilege(f.oid, 'EXECUTE'),
	f.prokind {=} 'f' AND NOT f.proretset AND f.prorettype {=} 'pg_catalog.jsonb'::pg_catalog.regtype::{oid} AND l.lanname {=} 'plpgsql' AND NOT f.prosecdef,
	pg_catalog.replace(pg_catalog.replace(f.prosrc,
		pg_catalog.format('"%s".%I(', pg_catalog.replace(n.nspname::{text}, '"', '""'), f.proname), '{self}('), pg_catalog.format('%I.%I(', n.nspname, f.proname), '{self}(')
FROM pg_catalog.pg_proc AS f JOIN pg_catalog.pg_namespace AS n ON n.oid {=} f.pronamespace JOIN pg_catalog.pg_language AS l ON l.oid {=} f.prolang
WHERE CASE WHEN $1::{text} {=} '' THEN f.oid {=} pg_catalog.to_regprocedure($3::{text})::{oid}
	ELSE n.nspname {=} $1::{text}::{name} AND f.proname {=} $2::{text}::{name} AND f.proargtypes::{text} {=} '3802 3802' END`

// function adds the findings of the merge function.
func (c *check) function(p *postgres) error {
	var schema, source string
	var usage, execute, shaped bool
	err := c.q.QueryRow(c.ctx, []any{&schema, &usage, &execute, &shaped, &source}, catalog.Replace(functionCheckSQL), c.table.Schema, mergeFunction, new(Table).mergeSignature())
	what := "function " + c.table.qualify(mergeFunction) + "(jsonb, jsonb)"
	const why = "every write fails"
	if errors.Is(err, pgdb.ErrNoRows) {
		c.add(what, c.missing(), "Migrate, or what Table.DDL returns; or MergeInGo", why)
		return nil
	}
	if err != nil {
		return err
	}
	if !shaped || words(source) != words(mergeSource()) {
		c.add(what, "not this release's", "DROP it, and Migrate; or MergeInGo", "what a merge makes of a document is what it says")
	}
	if !usage && schema != c.home.Schema { // which has its finding already
		c.grantUsage(schema, why)
	}
	if !execute {
		c.grant("EXECUTE", what, fmt.Sprintf("FUNCTION %s.%s(pg_catalog.jsonb, pg_catalog.jsonb)", quoteName(schema), quoteName(mergeFunction)), why)
	}
	return c.strangers(schema, nil, mergeFunction, c.table.Schema == "" || p.defaultTable)
}

// mergeSource returns the body of the merge function in functionSQL.
func mergeSource() string {
	return strings.Split(functionSQL, "{code}")[1]
}

// words returns a text with all white space reduced to single spaces.
func words(s string) string { return strings.Join(strings.Fields(s), " ") }
