package metadata

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/internal/simulate"
	"example.com/lockstore/pgtest"
)

// What the server is sent for the default table, and for a host's own.
var sentFor = []Table{{Tokens: DefaultTokens}, {
	Schema: "app", Name: "users", ID: "email", Column: "profile", Version: "revision", UpdatedAt: "changed", Tokens: "tokens",
	Scope: []Scope{{Column: "tenant", Type: UUID, Value: "7f3f9a3e-0000-4000-8000-00000000000a"}},
}}

type namedStatement struct {
	name string
	statement
}

func sentStatements(t *testing.T, table Table) (*Options, []namedStatement) {
	o, err := (&Options{Table: table}).withDefaults()
	require.NoError(t, err)
	sql := newStatements(&o)
	return &o, []namedStatement{
		{"Get", sql.get.plain}, {"GetMany", sql.getMany.plain},
		{"Find, first page", sql.find.first.plain}, {"Find, next page", sql.find.next.plain}, {"Find, all of them", sql.findAll.first.plain},
		{"Get under a hold", sql.get.held}, {"GetMany under holds", sql.getMany.held}, {"Find under holds, next page", sql.find.next.held},
		{"Merge, alone", sql.merge.plain}, {"Merge in a transaction of the host's", sql.mergeHere}, {"MergeMany", sql.mergeMany}, {"MergeMany, what is free", sql.mergeManyFree},
		{"MergeMany of larger documents, and merges that share a connection", sql.mergeFree},
		{"MergeMany, what is free or late", sql.mergeBusy},
		{"MergeMany, what is missing", sql.createMany},
		{"write: lock", sql.taking.open}, {"write: create", sql.taking.insert.plain}, {"write: create, or say what is in the way", sql.taking.collide.plain}, {"write: store", sql.taking.save.plain}, {"write: store if it is the same still", sql.saveOn.plain}, {"Delete", sql.taking.remove.plain},
		{"write under a hold: lock", sql.under.open}, {"write under a hold: create", sql.under.insert.plain},
		{"write under a hold: store", sql.under.save.plain}, {"Delete under a hold", sql.under.remove.plain},
		{"write under several holds, or one of another key: lock", sql.underAll.open}, {"write under several holds: create", sql.underAll.insert.plain},
		{"write under several holds: store", sql.underAll.save.plain}, {"Delete under several holds", sql.underAll.remove.plain},
		{"Watch: read", sql.watch[0].look}, {"Watch: compare", sql.watch[0].differ}, {"Watch a view: compare", sql.watch[2].differ},
		{"Once: look up", sql.used}, {"Once: Merge, alone", sql.mergeOnce}, {"Once: Merge, alone, and old tokens go", sql.merge.once},
		{"Once: create", sql.taking.insert.once}, {"Once: store", sql.taking.save.once}, {"Once: store if it is the same still", sql.saveOn.once},
		{"Once: Delete", sql.taking.remove.once}, {"Once: no change", sql.taking.note.once},
		{"Once under a hold: create", sql.under.insert.once}, {"Once under a hold: store", sql.under.save.once},
		{"Once under a hold: Delete", sql.under.remove.once}, {"Once under a hold: no change", sql.under.note.once},
		{"Once under several holds: create", sql.underAll.insert.once}, {"Once under several holds: store", sql.underAll.save.once},
		{"Once under several holds: Delete", sql.underAll.remove.once}, {"Once under several holds: no change", sql.underAll.note.once},
	}
}

// testdata/statements.sql has them, to be read whole.
func TestStatementsAsTheServerGetsThem(t *testing.T) {
	var got strings.Builder
	for _, table := range sentFor {
		o, statements := sentStatements(t, table)
		for _, s := range statements {
			fmt.Fprintf(&got, "-- %s.%s: %s\n%s\n\n", o.Table.Schema, o.Table.Name, s.name, strings.TrimSpace(s.text))
			assert.NotContains(t, strings.ReplaceAll(s.text, "'{}'", ""), "{", "%s: nothing is left to be filled in", s.name)
		}
	}
	simulate.Golden(t, "testdata/statements.sql", got.String())
}

// No statement reads the whole table, also where its plan is one for all arguments: each
// finds its rows by an index, or only inserts.
func TestStatementsPlanWithoutReadingTheTable(t *testing.T) {
	db := pgtest.New(t)
	store, err := NewPostgres(db.Pool(), &Options{Table: sentFor[0]})
	require.NoError(t, err)
	require.NoError(t, store.Migrate(t.Context()))
	function, _, err := sentFor[1].DDL()
	require.NoError(t, err)
	_, err = db.Pool().Exec(t.Context(), `CREATE SCHEMA app; `+function+`;
		CREATE TABLE app.users (email text PRIMARY KEY, tenant uuid NOT NULL, profile jsonb, revision bigint, changed timestamptz);
		INSERT INTO lockstore_metadata (id, metadata) SELECT 'user-' || n, '{"plan":"pro"}' FROM generate_series(1, 5000) AS n;
		INSERT INTO app.users (email, tenant, profile) SELECT 'user-' || n, '7f3f9a3e-0000-4000-8000-00000000000a', '{"plan":"pro"}' FROM generate_series(1, 5000) AS n;
		INSERT INTO lockstore_once SELECT gen_random_uuid(), gen_random_uuid(), 1, now() FROM generate_series(1, 5000) AS n;
		INSERT INTO app.tokens SELECT gen_random_uuid(), gen_random_uuid(), 1, now() FROM generate_series(1, 5000) AS n;
		ANALYZE lockstore_metadata, app.users, lockstore_once, app.tokens`)
	require.NoError(t, err)
	conn := planning(t, db)
	assert.Contains(t, conn.explain("SELECT FROM app.users WHERE profile @> '{}'"), "Seq Scan on users", "what is looked for in the plans")
	for _, table := range sentFor {
		o, statements := sentStatements(t, table)
		for _, s := range statements {
			name := o.Table.Name + ": " + s.name
			plan := conn.plan(s)
			assert.NotRegexp(t, `Seq Scan on (\w+\.)?(`+o.Table.Name+`|`+o.Table.Tokens+`)`, plan, name)
			if strings.HasPrefix(s.name, "Once") {
				assert.Regexp(t, `Index (Only )?Scan (using|on) `+o.Table.Tokens+`_pkey`, plan, name)
				assert.Regexp(t, `Index Cond: \(token = \((n\.token|\(\$\d+\)\[1\])\)::uuid\)`, plan, name)
			}
			if strings.Contains(s.text, "DELETE FROM "+o.Table.qualify(o.Table.Tokens)) {
				assert.Regexp(t, `Index (Only )?Scan (using|on) `+o.Table.Tokens+`_at_idx`, plan, name)
			}
			if !strings.Contains(s.name, "create") && s.name != "Once: look up" {
				assert.Regexp(t, `Index (Only )?Scan (using|on) `+o.Table.Name+`_pkey`, plan, name)
			}
		}
	}
}

// Nor do plans that were made while there were no tokens yet, which a server keeps.
func TestTokensPlanWithoutReadingAllOfThemFromTheBeginning(t *testing.T) {
	db := pgtest.New(t)
	store, err := NewPostgres(db.Pool(), &Options{Table: sentFor[0]})
	require.NoError(t, err)
	require.NoError(t, store.Migrate(t.Context()))
	conn := planning(t, db)
	_, statements := sentStatements(t, sentFor[0])
	for _, s := range statements {
		if strings.HasPrefix(s.name, "Once") {
			assert.NotContains(t, conn.plan(s), "Seq Scan on "+DefaultTokens, s.name)
		}
	}
}

// A planner is a connection whose plans of prepared statements are for all arguments.
type planner struct {
	*testing.T
	conn *pgxpool.Conn
}

func planning(t *testing.T, db *pgtest.DB) *planner {
	conn, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	t.Cleanup(conn.Release)
	_, err = conn.Exec(t.Context(), "SET plan_cache_mode = force_generic_plan")
	require.NoError(t, err)
	return &planner{t, conn}
}

var place = regexp.MustCompile(`\$(\d+)`)

// plan returns the plan of a statement.
func (p *planner) plan(s namedStatement) string {
	_, err := p.conn.Exec(p.Context(), "DEALLOCATE ALL; PREPARE s AS "+s.text, pgx.QueryExecModeSimpleProtocol)
	require.NoError(p, err, s.name)
	places := 0
	for _, found := range place.FindAllStringSubmatch(s.text, -1) {
		n, _ := strconv.Atoi(found[1])
		places = max(places, n)
	}
	return p.explain("EXECUTE s (" + strings.Repeat("NULL, ", places-1) + "NULL)")
}

func (p *planner) explain(statement string) string {
	rows, err := p.conn.Query(p.Context(), "EXPLAIN "+statement, pgx.QueryExecModeSimpleProtocol)
	require.NoError(p, err)
	plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(p, err)
	return strings.Join(plan, "\n")
}

// A document is found by the index on its id, whatever the protocol.
func TestStatementsUseTheIndex(t *testing.T) {
	db := pgtest.New(t)
	function, _, err := Table{Name: "t"}.DDL()
	require.NoError(t, err)
	for name, c := range map[string]struct {
		sql, id string
		as      Type
	}{
		"text": {"text", "7", Text}, "varchar": {"varchar(80)", "7", Text}, "domain": {"label", "7", Text},
		"uuid": {"uuid", "00000000-0000-4000-8000-000000000007", UUID}, "bigint": {"bigint", "7", BigInt}, "integer": {"integer", "7", BigInt},
	} {
		o, err := (&Options{Table: Table{Name: "t", IDType: c.as}}).withDefaults()
		require.NoError(t, err)
		id := "n"
		if c.as == UUID {
			id = "'00000000-0000-4000-8000-' || lpad(n::text, 12, '0')"
		}
		_, err = db.Pool().Exec(t.Context(), `DROP TABLE IF EXISTS t; DROP DOMAIN IF EXISTS label; CREATE DOMAIN label AS text; CREATE TABLE t (id `+c.sql+` PRIMARY KEY, metadata jsonb);
			INSERT INTO t SELECT (`+id+`)::`+c.sql+`, '{}' FROM generate_series(1, 5000) AS n; ANALYZE t; `+function)
		require.NoError(t, err)
		sql := newStatements(&o)
		for _, s := range []struct {
			name string
			query
		}{
			{"get", query{sql.get.plain, sql.get.plain.args(c.id)}},
			{"get under", query{sql.get.held, sql.get.held.args(c.id, "[]")}},
			{"get many", query{sql.getMany.plain, sql.getMany.plain.args([]string{c.id})}},
			{"get many under", query{sql.getMany.held, sql.getMany.held.args([]string{c.id}, "[]")}},
			{"look", query{sql.watch[0].look, sql.watch[0].look.args([]string{c.id}, int64(1))}},
			{"differ", query{sql.watch[0].differ, sql.watch[0].differ.args([]string{c.id}, []string{"1"})}},
			{"merge", query{sql.merge.plain, sql.merge.plain.args(c.id, "{}", int64(1), true, true, int64(1))}},
			{"open", query{sql.taking.open, sql.taking.open.args(c.id, nil, int64(1))}},
			{"save", query{sql.taking.save.plain, sql.taking.save.plain.args(c.id, int64(1), "{}")}},
			{"save on", query{sql.saveOn.plain, sql.saveOn.plain.args(c.id, int64(1), "{}", int64(1), int64(0), "00")}},
		} {
			for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
				rows, err := db.Pool().Query(t.Context(), "EXPLAIN "+s.text, append([]any{mode}, s.args...)...)
				require.NoError(t, err)
				plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
				require.NoError(t, err, "%s by %s", s.name, name)
				assert.Contains(t, strings.Join(plan, "\n"), "t_pkey", "%s by %s, %s", s.name, name, mode)
			}
		}
	}
}
