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
	"github.com/jackc/pgx/v5/pgproto3"
)

// Error is an error from the server, without the parts that may quote the data.
//
// DETAIL, HINT, CONTEXT and the internal query are never kept. The message is kept if
// PostgreSQL itself wrote it about something other than data: see [keepsMessage].
type Error struct {
	Code       string // SQLSTATE: PostgreSQL documentation, Appendix A
	Message    string // empty if it could quote the data
	Schema     string // this and the next three name what was violated, if anything
	Table      string
	Column     string
	Constraint string
	Fatal      bool // the server has ended the session, or may have: the severity is not ERROR
	Positioned bool // the error is at a place in the statement's text
	Inside     bool // it was raised in a function, such as that of a trigger
}

// Error returns the fields that are not empty, in one line.
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

// SQLState returns Code; pgx and other libraries look for this method.
func (e *Error) SQLState() string { return e.Code }

// SQLSTATEs (PostgreSQL documentation, Appendix A).
const (
	LockNotAvailable = "55P03" // lock_timeout ended a wait
	OutOfMemory      = "53200" // the server's lock table or memory is full
	ReadOnly         = "25006" // a write on a standby, or in a read-only transaction

	idleInTransaction     = "25P03" // the server ended a session that left it waiting for a transaction's next statement
	insufficientPrivilege = "42501" // a role may not do this; the message names an object
	queryCanceled         = "57014" // a statement was canceled; the session goes on
)

// Code returns the SQLSTATE in err's tree, or "".
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

// Class returns the first two characters of the SQLSTATE in err's tree, or "".
func Class(err error) string { return classOf(Code(err)) }

// classOf returns the class of a SQLSTATE, which can have any length if the server is broken.
func classOf(code string) string { return code[:min(2, len(code))] }

// Uncertain reports whether a statement that failed with err may have committed: it was sent,
// and the server did not report that it failed.
func Uncertain(err error) bool {
	var e *Error
	switch {
	case err == nil, errors.As(err, new(unsent)):
		return false
	case errors.As(err, &e):
		return e.Fatal && e.Code != idleInTransaction && !isStatements(e.Code) // the session may have ended after the commit
	case errors.Is(err, ErrNoRows), errors.Is(err, pgx.ErrTxCommitRollback):
		return false
	case errors.Is(err, pgconn.ErrConnClosed), errors.Is(err, driver.ErrBadConn):
		return true // drivers also return these for statements that were sent: see isUnsent
	case errors.Is(err, sql.ErrTxDone), errors.Is(err, sql.ErrConnDone):
		return false // database/sql returns these for statements that it did not send
	}
	return !pgconn.SafeToRetry(err)
}

// isStatements reports whether an error is of a class that makes a statement or a commit
// fail: data, constraints, conflicts, names, rights, objects in use. That holds even if it
// ends the session, because exit_on_error is set.
func isStatements(code string) bool {
	switch classOf(code) {
	case "22", "23", "40", "42", "44", "55", "P0":
		return true
	}
	return false
}

// Clean makes an error safe to return and log: an error from the server becomes an
// [*Error], and any other that could quote a value loses its text. Clean errors are returned
// unchanged.
func Clean(err error) error {
	if err == nil {
		return nil
	}
	var server *pgconn.PgError
	var cleaned *Error
	var refused *pgconn.ConnectError
	var network net.Error
	switch {
	case errors.As(err, &cleaned), errors.Is(err, ErrSession), errors.Is(err, ErrDriver), errors.Is(err, errConversion), err == errUnconfirmed:
		return err
	case errors.Is(err, ErrElsewhere): // a driver's error about the column may wrap it
		if errors.As(err, new(wrongServer)) {
			return err
		}
		return ErrElsewhere
	case errors.As(err, &server):
		e := fromServer(server)
		e.Fatal = e.Fatal && !errors.As(err, &refused) // if the server refused to connect, there was no session
		return e
	case asServer(err, &server):
		return fromServer(server)
	case errors.Is(err, ErrNoRows), errors.Is(err, sql.ErrNoRows):
		return ErrNoRows
	case isEncoding(err):
		return fmt.Errorf("%w (%T)", errConversion, err)
	case errors.As(err, &refused), errors.As(err, &network), pgconn.SafeToRetry(err),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, driver.ErrBadConn), errors.Is(err, sql.ErrConnDone), errors.Is(err, sql.ErrTxDone),
		errors.Is(err, pgx.ErrTxClosed), errors.Is(err, pgx.ErrTxCommitRollback), errors.Is(err, pgconn.ErrConnClosed), isClosedPool(err):
		return err
	}
	return fmt.Errorf("%w (%T)", ErrDriver, err)
}

// ErrDriver is an unknown error of a driver or of a host's hook.
var ErrDriver = errors.New("driver error")

var errConversion = errors.New("driver cannot convert a value")

// asServer converts a server's error from another driver. lib/pq's and bun's have the fields
// under their names in the protocol (PostgreSQL documentation, section 55.8 Error and Notice
// Message Fields); others have the SQLSTATE alone.
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
		*server = &pgconn.PgError{Code: code, Position: 1} // as if in the statement's text
		if code == queryCanceled || code == OutOfMemory {
			(*server).SeverityUnlocalized = "ERROR"
		}
	default:
		return false
	}
	return len((*server).Code) == 5
}

func fromFields(field func(byte) string) *pgconn.PgError {
	return &pgconn.PgError{
		Severity: field('S'), SeverityUnlocalized: field('V'),
		Code: field('C'), Message: field('M'), Where: field('W'), InternalQuery: field('q'),
		SchemaName: field('s'), TableName: field('t'), ColumnName: field('c'), ConstraintName: field('n'), Position: int32(len(field('P'))),
	}
}

// ServerError returns the error that a message of the server reports.
func ServerError(m *pgproto3.ErrorResponse) *Error {
	return fromServer(pgconn.ErrorResponseToPgError(m))
}

func fromServer(e *pgconn.PgError) *Error {
	severity := cmp.Or(e.SeverityUnlocalized, e.Severity) // a pooler or driver may have only the one that servers translate
	c := &Error{
		Code: e.Code, Schema: e.SchemaName, Table: e.TableName, Column: e.ColumnName, Constraint: e.ConstraintName,
		Fatal: severity != "ERROR", Positioned: e.Position > 0, Inside: e.Where != "" || e.InternalQuery != "",
	}
	if keepsMessage(e) {
		c.Message = e.Message
	}
	return c
}

// keepsMessage reports whether a message cannot quote the data. Messages of the classes below
// name objects, settings and states. But a message of class 42 names an object of the statement
// only if it has a position there; otherwise it may be about a name or a query in the data, as
// in a generated column. A message from within a function (it has a context) is never kept: it
// may come from RAISE, or from a statement that was built from data.
func keepsMessage(e *pgconn.PgError) bool {
	if e.Where != "" || e.InternalQuery != "" || len(e.Code) != 5 {
		return false
	}
	switch e.Code[:2] {
	case "08", "25", "28", "3D", "3F", "40", "53", "55", "57", "58":
		return true
	case "42":
		return e.Position > 0 || e.Code == insufficientPrivilege
	}
	return false
}

// isEncoding reports whether a driver's error quotes a value that it could not convert. Both
// drivers show that only in the text.
func isEncoding(err error) bool {
	var scan pgx.ScanArgError
	text := err.Error()
	return errors.As(err, &scan) ||
		strings.Contains(text, "Scan error") || strings.Contains(text, "failed to encode") || strings.Contains(text, "converting ")
}

// isClosedPool reports whether err is that of a closed pool, which no package exports.
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

// readRows calls each for each row.
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
