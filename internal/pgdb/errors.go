package pgdb

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Error is what the server reported, without what may quote the data.
//
// Of the server's fields DETAIL, HINT, CONTEXT and the internal query are never
// kept. The message is kept where PostgreSQL itself wrote it about something
// other than data: see [keepsMessage].
type Error struct {
	Code       string // SQLSTATE: PostgreSQL documentation, Appendix A
	Message    string // empty where it could quote the data
	Schema     string // this and the next three name what was violated, if anything
	Table      string
	Column     string
	Constraint string
	Fatal      bool // the session has ended
}

// Error implements error.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("SQLSTATE " + e.Code)
	for _, part := range []struct{ label, text string }{
		{": ", e.Message}, {", schema ", e.Schema}, {", table ", e.Table},
		{", column ", e.Column}, {", constraint ", e.Constraint},
	} {
		if part.text != "" {
			b.WriteString(part.label + part.text)
		}
	}
	return b.String()
}

// SQLState is Code, by the name that pgx and others give it.
func (e *Error) SQLState() string { return e.Code }

// LockNotAvailable is the SQLSTATE of a wait that lock_timeout ended
// (PostgreSQL documentation, Appendix A).
const LockNotAvailable = "55P03"

// OutOfMemory is the SQLSTATE of a statement that found the server's lock table, or its
// memory, full.
const OutOfMemory = "53200"

// Code is the SQLSTATE in err's tree, or empty.
func Code(err error) string {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// Class is the first two characters of the SQLSTATE in err's tree, or empty.
func Class(err error) string {
	code := Code(err)
	return code[:min(2, len(code))]
}

// idleInTransaction is the SQLSTATE of a session that the server ended while it
// waited for a transaction's next statement (PostgreSQL documentation,
// Appendix A).
const idleInTransaction = "25P03"

// Uncertain reports whether a statement that failed with err, and that could
// have committed, may have done so all the same: the server was sent it and
// did not say no.
func Uncertain(err error) bool {
	var e *Error
	switch {
	case err == nil, errors.As(err, new(unsent)):
		return false
	case errors.As(err, &e):
		return e.Fatal && e.Code != idleInTransaction && !isStatements(e.Code) // it may have ended the session after the commit
	case errors.Is(err, ErrNoRows), errors.Is(err, pgx.ErrTxCommitRollback):
		return false
	case errors.Is(err, pgconn.ErrConnClosed), errors.Is(err, driver.ErrBadConn):
		return true // drivers say these, too, of what they have sent: see isUnsent
	case errors.Is(err, sql.ErrTxDone), errors.Is(err, sql.ErrConnDone):
		return false // database/sql says these of what it did not send
	}
	return !pgconn.SafeToRetry(err)
}

// isStatements reports whether an error is of a class that only fails a statement or a
// commit, also where it ends the session, as the host has set exit_on_error: of data,
// constraints, conflicts, names and rights, or what is in use.
func isStatements(code string) bool {
	switch code[:min(2, len(code))] {
	case "22", "23", "40", "42", "44", "55", "P0":
		return true
	}
	return false
}

// Clean makes an error fit to be returned and logged: what the server said
// becomes an [*Error], and whatever else could quote a value loses its text.
// An error that is clean passes unchanged.
func Clean(err error) error {
	if err == nil {
		return nil
	}
	var server *pgconn.PgError
	var cleaned *Error
	var refused *pgconn.ConnectError
	var network net.Error
	switch {
	case errors.As(err, &cleaned), errors.Is(err, ErrSession), err == errUnconfirmed:
		return err
	case errors.Is(err, ErrElsewhere): // perhaps within what a driver says of the column
		if errors.As(err, new(misled)) {
			return err
		}
		return ErrElsewhere
	case errors.As(err, &server):
		e := fromServer(server)
		e.Fatal = e.Fatal && !errors.As(err, &refused) // else there was no session yet
		return e
	case asServer(err, &server):
		return fromServer(server)
	case errors.Is(err, ErrNoRows), errors.Is(err, sql.ErrNoRows):
		return ErrNoRows
	case isEncoding(err):
		return fmt.Errorf("driver cannot convert a value (%T)", err)
	case errors.As(err, &refused), errors.As(err, &network), pgconn.SafeToRetry(err),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, driver.ErrBadConn), errors.Is(err, sql.ErrConnDone), errors.Is(err, sql.ErrTxDone),
		errors.Is(err, pgx.ErrTxClosed), errors.Is(err, pgx.ErrTxCommitRollback), errors.Is(err, pgconn.ErrConnClosed), isClosedPool(err):
		return err
	}
	return fmt.Errorf("%w (%T)", ErrDriver, err)
}

// ErrDriver is an error of a driver or of a host's hook of which nothing is known.
var ErrDriver = errors.New("driver error")

// asServer finds what the server said in an error of another driver's: by the protocol's
// names of its fields, as lib/pq's and bun's have them, or else its SQLSTATE alone (PostgreSQL
// documentation, section 55.8 Error and Notice Message Fields).
func asServer(err error, server **pgconn.PgError) bool {
	var pq interface{ Get(field byte) string }
	var bun interface{ Field(field byte) string }
	var state interface{ SQLState() string }
	switch {
	case errors.As(err, &pq):
		*server = fromFields(pq.Get)
	case errors.As(err, &bun):
		*server = fromFields(bun.Field)
	case errors.As(err, &state):
		code := state.SQLState()
		*server = &pgconn.PgError{Code: code, Where: "unknown"}
		if code == queryCanceled || code == OutOfMemory {
			(*server).SeverityUnlocalized = "ERROR"
		}
	default:
		return false
	}
	return len((*server).Code) == 5
}

// queryCanceled is the SQLSTATE of a statement that was cancelled, which ends no session.
const queryCanceled = "57014"

func fromFields(field func(byte) string) *pgconn.PgError {
	return &pgconn.PgError{
		SeverityUnlocalized: cmp.Or(field('V'), field('S')), // who has the localized one only may take an error for a fatal one
		Code:                field('C'), Message: field('M'), Where: field('W'), InternalQuery: field('q'),
		SchemaName: field('s'), TableName: field('t'), ColumnName: field('c'), ConstraintName: field('n'),
	}
}

func fromServer(e *pgconn.PgError) *Error {
	c := &Error{
		Code: e.Code, Schema: e.SchemaName, Table: e.TableName, Column: e.ColumnName, Constraint: e.ConstraintName,
		Fatal: e.SeverityUnlocalized != "ERROR",
	}
	if keepsMessage(e) {
		c.Message = e.Message
	}
	return c
}

// keepsMessage reports whether a message cannot quote the data. Those of the
// classes below name objects, settings and states. Anything said from within a
// function (it has a context) may be a RAISE or a statement made of data, and
// is not trusted whatever its class.
func keepsMessage(e *pgconn.PgError) bool {
	if e.Where != "" || e.InternalQuery != "" || len(e.Code) != 5 {
		return false
	}
	switch e.Code[:2] {
	case "08", "25", "28", "3D", "3F", "40", "42", "53", "54", "55", "57", "58":
		return true
	}
	return false
}

// isEncoding reports whether a driver quotes the value that it could not
// convert. Both drivers tell so by text only.
func isEncoding(err error) bool {
	var scan pgx.ScanArgError
	text := err.Error()
	return errors.As(err, &scan) ||
		strings.Contains(text, "Scan error") || strings.Contains(text, "failed to encode") || strings.Contains(text, "converting ")
}

// isClosedPool knows the errors of closed pools, which have no exported value.
func isClosedPool(err error) bool {
	switch err.Error() {
	case "closed pool", "sql: database is closed":
		return true
	}
	return false
}

// cleanRow cleans the errors of Scan.
type cleanRow struct{ row Row }

func (r cleanRow) Scan(dest ...any) error { return Clean(r.row.Scan(dest...)) }

// readRows is [Querier].Query once the rows are there.
func readRows(rows interface {
	Row
	Next() bool
	Err() error
}, each func(Row) error) error {
	for rows.Next() {
		if err := each(cleanRow{rows}); err != nil {
			return err
		}
	}
	return Clean(rows.Err())
}
