package metadata

import (
	"fmt"
	"strconv"
	"strings"
)

// A statement is a SQL text for one [Table], with places for its arguments:
//
//	$1       the id or ids
//	$2 …     the values of the table's scopes
//	{1} …    the statement's other arguments
//
// In the texts, {table}, {id}, {column} and so on stand for quoted names. {=} and other
// operators, and {text} and other types, stand for PostgreSQL's own, whatever others have put
// into the schemas of the search path (PostgreSQL documentation, section 5.9.6). Functions are
// written qualified. No statement uses an operator without naming it: no IN, IS DISTINCT FROM,
// BETWEEN, NULLIF, nor CASE with an operand. The names of WITH queries begin with an underscore,
// because a query hides a host's table of the same name.
type statement struct {
	text   string
	scopes []any
	keeps  bool // it keeps tokens
}

// args are the arguments in the order of their places.
func (s *statement) args(id any, rest ...any) []any {
	args := make([]any, 0, 1+len(s.scopes)+len(rest))
	args = append(args, id)
	args = append(args, s.scopes...)
	return append(args, rest...)
}

// micros is a time as a number, which is the same under every DateStyle and TimeZone: in
// microseconds since 2000, as the server stores it, so that every time that it can store fits
// a bigint. It is NULL for infinity.
func micros(at string) string {
	return strings.ReplaceAll(`CASE WHEN pg_catalog.isfinite({at}) THEN ((extract(epoch FROM {at}) {-} 946684800::numeric) {*} 1000000::numeric)::bigint END`, "{at}", at)
}

const secondsBefore2000 = 946684800 // since 1970

// catalog replaces what stands for PostgreSQL's own operators and types.
var catalog = strings.NewReplacer(
	"{=}", "OPERATOR(pg_catalog.=)", "{<>}", "OPERATOR(pg_catalog.<>)",
	"{<=}", "OPERATOR(pg_catalog.<=)", "{>=}", "OPERATOR(pg_catalog.>=)", "{>}", "OPERATOR(pg_catalog.>)",
	"{+}", "OPERATOR(pg_catalog.+)", "{-}", "OPERATOR(pg_catalog.-)", "{*}", "OPERATOR(pg_catalog.*)", "{/}", "OPERATOR(pg_catalog./)",
	"{||}", "OPERATOR(pg_catalog.||)", "{@>}", "OPERATOR(pg_catalog.@>)",
	"{text}", "pg_catalog.text", "{jsonb}", "pg_catalog.jsonb", "{timestamptz}", "pg_catalog.timestamptz", "{oid}", "pg_catalog.oid", "{uuid}", "pg_catalog.uuid", "{name}", "pg_catalog.name",
)

// expand makes a table's statements. It is the only place where SQL is put together, and all
// names pass through quoteName.
func (t *Table) expand(text string) statement {
	equals, plus := catalog.Replace("{=}"), catalog.Replace("{+}")
	match := "t." + quoteName(t.ID) + " " + equals + " " + catalog.Replace("$1::{text}::") + t.IDType.sql()
	version, updated, bump, stamp := "0::bigint", "NULL::bigint", "", ""
	at := catalog.Replace("NULL::{timestamptz}")
	var columns, values, firsts, within strings.Builder // of an INSERT, and of a WHERE
	var scopes []any
	for i, s := range t.Scope {
		place := fmt.Sprintf("$%d", i+2) + catalog.Replace("::{text}::") + s.Type.sql()
		fmt.Fprintf(&within, " AND t.%s %s %s", quoteName(s.Column), equals, place)
		fmt.Fprintf(&columns, ", %s", quoteName(s.Column))
		fmt.Fprintf(&values, ", %s", place)
		fmt.Fprintf(&firsts, ", %s", place)
		scopes = append(scopes, s.Value)
	}
	if t.Version != "" {
		name := quoteName(t.Version)
		version = fmt.Sprintf("coalesce(t.%s, 0)::bigint", name)
		bump = fmt.Sprintf(", %s = coalesce(t.%s, 0) %s ", name, name, plus)
		columns.WriteString(", " + name)
		values.WriteString(", _condition.changes")
		firsts.WriteString(", 1")
	}
	if t.UpdatedAt != "" {
		name := quoteName(t.UpdatedAt)
		at = "t." + name + catalog.Replace("::{timestamptz}")
		updated = strings.ReplaceAll(catalog.Replace(micros("{at}")), "{at}", at)
		stamp = fmt.Sprintf(", %s = pg_catalog.clock_timestamp()", name)
		columns.WriteString(", " + name)
		values.WriteString(", pg_catalog.clock_timestamp()")
		firsts.WriteString(", pg_catalog.clock_timestamp()")
	}
	counted := func(by string) string {
		if bump == "" {
			return ""
		}
		return bump + by
	}
	pairs := []string{
		"{table}", t.qualify(t.Name),
		"{tokens}", t.qualify(t.Tokens),
		"{id}", quoteName(t.ID),
		"{idtype}", t.IDType.sql(),
		"{column}", quoteName(t.Column),
		"{merge}", t.qualify(mergeFunction),
		"{match}", match + within.String(),
		"{within}", within.String(),
		"{row}", fmt.Sprintf("coalesce(t.%s, '{}') AS metadata, %s AS version, %s AS updated_at", quoteName(t.Column), version, updated),
		"{bump}", counted("1") + stamp,
		"{bumps}", counted("_condition.changes") + stamp,
		"{columns}", columns.String(),
		"{values}", values.String(), // of a new document
		"{firsts}", firsts.String(), // of one with one patch
		"{restored}", "pg_catalog.set_config('lock_timeout', _wait.host, true) IS NOT NULL",
		"{creates}", strconv.FormatBool(t.Create),
		"{version}", version,
		"{updated}", updated,
		"{at}", at, // as the server's own type
	}
	for i := 1; i <= 10; i++ {
		pairs = append(pairs, fmt.Sprintf("{%d}", i), fmt.Sprintf("$%d", 1+len(t.Scope)+i))
	}
	// In one pass, so that a name that looks like a place is not replaced.
	return statement{text: strings.NewReplacer(pairs...).Replace(catalog.Replace(text)), scopes: scopes}
}
