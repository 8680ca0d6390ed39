package pgdb_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/internal/pgdb"
	"example.com/lockstore/pgtest"
)

const canary = "canary-8fd1"

func TestErrorsDoNotQuoteTheData(t *testing.T) {
	both(t, func(t *testing.T, db pgdb.DB) {
		ctx := t.Context()
		_, err := db.Exec(ctx, `
			drop table if exists guarded;
			create table guarded (note text unique check (length(note) < 20));
			insert into guarded values ('`+canary+`')`)
		require.NoError(t, err)
		var n int
		for name, err := range map[string]error{
			"check":          db.QueryRow(ctx, []any{&n}, "insert into guarded values ($1::text || ' and more') returning 1", canary),
			"unique":         db.QueryRow(ctx, []any{&n}, "insert into guarded values ($1::text) returning 1", canary),
			"input syntax":   db.QueryRow(ctx, []any{&n}, "select $1::text::int", canary),
			"json":           db.QueryRow(ctx, []any{&n}, "select 1 where $1::text::jsonb is null", canary),
			"raise":          db.QueryRow(ctx, []any{&n}, "select 1 from guarded where xmlparse(document note) is not null"),
			"driver's scan":  db.QueryRow(ctx, []any{&n}, "select note from guarded"),
			"row's scan":     db.Query(ctx, func(r pgdb.Row) error { return r.Scan(&n) }, "select note from guarded"),
			"driver's value": db.QueryRow(ctx, []any{&n}, "select $1::int", canary),
		} {
			require.Error(t, err, name)
			assert.NotContains(t, err.Error(), canary, name)
			assert.NotContains(t, fmt.Sprintf("%+v %#v", err, err), canary, name)
			assert.NotErrorAs(t, err, new(*pgconn.PgError), name)
			assert.False(t, pgdb.Uncertain(err) && pgdb.Code(err) != "", name)
			assert.Equal(t, err, pgdb.Clean(err), "%s: a clean error is returned unchanged", name)
		}
	})
}

func TestErrorNamesWhatWasViolated(t *testing.T) {
	both(t, func(t *testing.T, db pgdb.DB) {
		ctx := t.Context()
		_, err := db.Exec(ctx, "drop table if exists small; create table small (n int constraint positive check (n > 0))")
		require.NoError(t, err)
		_, err = db.Exec(ctx, "insert into small values (-1)")
		var e *pgdb.Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, pgdb.Error{Code: "23514", Schema: "public", Table: "small", Constraint: "positive"}, *e)
		assert.Equal(t, "23", pgdb.Class(err))
		assert.Equal(t, "23514", e.SQLState())
	})
}

func TestMessagesOfTheServerItselfAreKept(t *testing.T) {
	both(t, func(t *testing.T, db pgdb.DB) {
		_, err := db.Exec(t.Context(), "select * from nowhere")
		assert.ErrorContains(t, err, `relation "nowhere" does not exist`)
		_, err = db.Exec(t.Context(), `do $$ begin raise exception '`+canary+`' using errcode = '42P01'; end $$`)
		assert.EqualError(t, err, "SQLSTATE 42P01")
	})
}

func TestUncertainTellsWhatMayHaveRun(t *testing.T) {
	both(t, func(t *testing.T, db pgdb.DB) {
		ctx := t.Context()
		ended, cancel := context.WithCancel(ctx)
		cancel()
		_, err := db.Exec(ended, "select 1")
		require.ErrorIs(t, err, context.Canceled)
		assert.False(t, pgdb.Uncertain(err), "there was no connection to send it on")

		_, err = db.Exec(ctx, "select pg_terminate_backend(pg_backend_pid())")
		assert.True(t, pgdb.Uncertain(err), "%v", err)
		_, err = db.Exec(ctx, "select 1/0")
		assert.False(t, pgdb.Uncertain(err), "%v", err)
	})
	assert.False(t, pgdb.Uncertain(&pgdb.Error{Code: "25P03", Fatal: true}), "the server was waiting for a statement")
	assert.False(t, pgdb.Uncertain(&pgdb.Error{Code: "55P03", Fatal: true}), "the host has set exit_on_error")
	assert.True(t, pgdb.Uncertain(&pgdb.Error{Code: "57P01", Fatal: true}))
	assert.False(t, pgdb.Uncertain(nil))
	assert.True(t, pgdb.Uncertain(errors.New("unknown")))
}

// The message may be a server's, which has both fields, or a pooler's, which may have only the
// one that servers translate.
func TestSeverityTellsWhetherTheSessionHasEnded(t *testing.T) {
	for severity, want := range map[[2]string]bool{
		{"ERROR", "ERROR"}: false, {"FEHLER", "ERROR"}: false, {"ERROR", ""}: false,
		{"FATAL", "FATAL"}: true, {"致命错误", "FATAL"}: true, {"PANIC", "PANIC"}: true, {"FATAL", ""}: true, {"致命错误", ""}: true, {}: true,
	} {
		message := &pgproto3.ErrorResponse{Severity: severity[0], SeverityUnlocalized: severity[1], Code: "XX000"}
		assert.Equal(t, want, pgdb.ServerError(message).Fatal, "%q", severity)
		assert.Equal(t, want, pgdb.Uncertain(pgdb.Clean(pgconn.ErrorResponseToPgError(message))), "%q", severity)
	}
}

func TestConnectErrorsAreClean(t *testing.T) {
	db := pgtest.New(t)
	config := db.Pool().Config()
	config.ConnConfig.Database = "nowhere"
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	defer pool.Close()
	opened, err := pgdb.Open(pool)
	require.NoError(t, err)
	_, err = opened.Acquire(t.Context())
	assert.Equal(t, "3D000", pgdb.Code(err))
	assert.NotErrorAs(t, err, new(*pgconn.PgError))
	assert.False(t, pgdb.Uncertain(err))
}

// Errors of the server in the forms of other drivers.
type (
	stateError  struct{ code string }   // its SQLSTATE alone
	getterError struct{ fields fields } // lib/pq
	fieldsError struct{ fields fields } // bun's, which cannot be compared
	fields      map[byte]string
	notServers  struct{ error }
)

func (stateError) Error() string          { return "violates " + canary }
func (e stateError) SQLState() string     { return e.code }
func (*getterError) Error() string        { return "violates " + canary }
func (e *getterError) Get(f byte) string  { return e.fields[f] }
func (fieldsError) Error() string         { return "violates " + canary }
func (e fieldsError) Field(f byte) string { return e.fields[f] }
func (notServers) Get(byte) string        { return canary }

func TestErrorsOfOtherDrivers(t *testing.T) {
	violation := fields{'S': "ERROR", 'C': "23514", 'M': canary, 'D': canary, 's': "public", 't': "small", 'c': "n", 'n': "positive"}
	missing := fields{'V': "ERROR", 'S': "FEHLER", 'C': "42P01", 'M': `relation "nowhere" does not exist`, 'P': "15"}
	ofData := fields{'S': "ERROR", 'C': "42P01", 'M': canary}
	raised := fields{'S': "ERROR", 'C': "42P01", 'M': canary, 'W': "PL/pgSQL function " + canary}
	for name, c := range map[string]struct {
		err       error
		want      pgdb.Error
		uncertain bool
	}{
		"SQLSTATE alone":         {stateError{"23514"}, pgdb.Error{Code: "23514", Fatal: true, Positioned: true}, false},
		"SQLSTATE of a shutdown": {stateError{"57P01"}, pgdb.Error{Code: "57P01", Fatal: true, Positioned: true}, true},
		"SQLSTATE of a timeout":  {stateError{"57014"}, pgdb.Error{Code: "57014", Positioned: true}, false},
		"lib/pq":                 {&getterError{violation}, pgdb.Error{Code: "23514", Schema: "public", Table: "small", Column: "n", Constraint: "positive"}, false},
		"lib/pq, of a session":   {&getterError{fields{'S': "FATAL", 'C': "57P01"}}, pgdb.Error{Code: "57P01", Fatal: true}, true},
		"lib/pq, in Chinese":     {&getterError{fields{'S': "致命错误", 'C': "XX000"}}, pgdb.Error{Code: "XX000", Fatal: true}, true},
		"bun":                    {fieldsError{violation}, pgdb.Error{Code: "23514", Schema: "public", Table: "small", Column: "n", Constraint: "positive"}, false},
		"bun, of the server's":   {fieldsError{missing}, pgdb.Error{Code: "42P01", Message: `relation "nowhere" does not exist`, Positioned: true}, false},
		"bun, of the data":       {fieldsError{ofData}, pgdb.Error{Code: "42P01"}, false},
		"bun, within a function": {fieldsError{raised}, pgdb.Error{Code: "42P01", Inside: true}, false},
	} {
		err := pgdb.Clean(fmt.Errorf("traced: %w", c.err))
		var got *pgdb.Error
		require.ErrorAs(t, err, &got, name)
		assert.Equal(t, c.want, *got, name)
		assert.Equal(t, c.uncertain, pgdb.Uncertain(err), name)
	}
	for _, err := range []error{stateError{""}, stateError{canary}, &getterError{}, notServers{errors.New(canary)}} {
		err = pgdb.Clean(err)
		assert.Equal(t, err, pgdb.Clean(err), "a clean error is returned unchanged")
		assert.Empty(t, pgdb.Code(err))
		assert.True(t, pgdb.Uncertain(err))
		assert.NotContains(t, err.Error(), canary)
	}
	assert.True(t, pgdb.Uncertain(driver.ErrBadConn), "which lib/pq returns where the answer is lost")
}
