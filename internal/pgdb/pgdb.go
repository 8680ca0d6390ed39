// Package pgdb adapts the database handles of applications ("hosts") to one interface:
// pgx, and database/sql (sqlx) over pgx's stdlib driver or another PostgreSQL driver. Code
// that uses a [Querier] works with all of them.
//
// Statements are sent unchanged. They work with every driver, and in each of pgx's query
// modes, under these conditions:
//   - Each parameter is a string, a number, a boolean, a slice of these, or nil. The SQL
//     casts it from the type that such an argument has by itself: $1::text::jsonb.
//   - Each result is a string, a number, a boolean or, as bytes, a jsonb.
//
// Every error has passed [Clean]: none can quote the data.
package pgdb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
)

// ErrUnsupported is the error of a database or transaction that [Open] or [Tx] cannot use;
// the error's text says why.
var ErrUnsupported = errors.New("unsupported database handle")

// ErrNoRows is returned by QueryRow if there is no row.
var ErrNoRows = pgx.ErrNoRows

// Row is a row of a result.
type Row interface{ Scan(dest ...any) error }

// Querier runs statements.
type Querier interface {
	// Exec runs a statement and returns the number of affected rows.
	Exec(ctx context.Context, sql string, args ...any) (int64, error)

	// QueryRow scans the first row into dest, or returns [ErrNoRows]. It returns nil
	// only after the server has confirmed the whole statement, including the commit if
	// the statement is its own transaction.
	QueryRow(ctx context.Context, dest []any, sql string, args ...any) error

	// Query calls each for each row. An error of each ends it.
	Query(ctx context.Context, each func(Row) error, sql string, args ...any) error
}

// DB is a host's pool. Each statement that is run on it is its own transaction.
type DB interface {
	Querier

	// Acquire takes a connection out of the pool. It blocks until there is one or ctx
	// ends. If it fails, nothing of the caller's has been sent: the error is not [Uncertain].
	Acquire(ctx context.Context) (Conn, error)

	// Full reports whether as many connections as the pool may have are in use.
	Full() bool

	// PreparesForCaller reports whether the pool has a hook that prepares a connection
	// for each caller, such as one that tells the server who the caller is. It cannot see
	// what a *sql.DB does (ResetSession, a pool behind it).
	PreparesForCaller() bool
}

// Conn is one session, for one goroutine.
type Conn interface {
	Querier

	// Write is Query for a statement that writes, as its own transaction. Like QueryRow,
	// it returns nil only after the server has confirmed the commit.
	Write(ctx context.Context, each func(Row) error, sql string, args ...any) error

	// Pipeline returns a way to send statements without waiting for the answers, or nil if
	// there is none. The connection cannot be used otherwise until all answers have been
	// received.
	Pipeline() Pipeline

	// AskAlong sends a question, a query of one boolean, behind the commit of the next
	// QueryRow, Write or transaction: in the same round trip, as its own transaction. It
	// calls answer before that call returns. If the driver sends one statement at a time,
	// Release asks the question instead. If a question is valid SQL but fails, answer is
	// not called, and nothing else fails.
	AskAlong(question string, answer func(bool))

	// Begin starts a READ COMMITTED transaction, whatever the host's default is. ctx
	// applies only to Begin; each statement has its own.
	Begin(ctx context.Context) (Transaction, error)

	// Release returns the connection to the pool. It closes the connection if that is not
	// in its original state.
	Release()
}

// Transaction is a transaction that this package began. With pgx it saves round trips:
// BEGIN is sent with the first statement, COMMIT with the last. After the first statement,
// a text without arguments can contain several statements.
type Transaction interface {
	Querier

	// CommitRow runs the last statement like QueryRow and then commits, unless the
	// statement fails. It commits also if there is no row ([ErrNoRows]).
	CommitRow(ctx context.Context, dest []any, sql string, args ...any) error

	// Commit commits the transaction.
	Commit(ctx context.Context) error

	// Rollback undoes the transaction; after Commit it does nothing.
	Rollback(ctx context.Context) error
}

// Open returns a DB for a *pgxpool.Pool, a *sql.DB or a *sqlx.DB. It sends nothing to the
// server.
func Open(db any) (DB, error) {
	switch db := db.(type) {
	case *pgxpool.Pool:
		if db != nil {
			return openPgx(db), nil
		}
	case *sql.DB:
		if db != nil {
			return openSQL(db), nil
		}
	case *sqlx.DB:
		if db != nil && db.DB != nil {
			return openSQL(db.DB), nil
		}
	default:
		return nil, fmt.Errorf("%w: %s; want *pgxpool.Pool, *sql.DB or *sqlx.DB", ErrUnsupported, TypeName(db))
	}
	return nil, fmt.Errorf("%w: nil %T", ErrUnsupported, db)
}

func isPgx(d driver.Driver) bool {
	_, ok := d.(*stdlib.Driver)
	return ok
}

// TypeName returns the name of v's type with the full path of its package.
func TypeName(v any) string {
	t, star := reflect.TypeOf(v), ""
	if t != nil && t.Kind() == reflect.Pointer {
		t, star = t.Elem(), "*"
	}
	if t == nil || t.PkgPath() == "" {
		return fmt.Sprintf("%T", v)
	}
	return star + t.PkgPath() + "." + t.Name()
}

// Tx returns a Querier for a host's transaction: a pgx.Tx, a *sql.Tx, or that of a library
// on top of these. The host commits it.
func Tx(tx any) (Querier, error) {
	if tx, ok := tx.(pgx.Tx); ok && !isNil(tx) {
		return pgxQuerier{tx}, nil
	}
	inner, embeds := embeddedTx(reflect.ValueOf(tx), mostWrappers)
	if inner != nil {
		return sqlQuerier{inner}, nil
	}
	if isNil(tx) || embeds {
		return nil, fmt.Errorf("%w: nil %T", ErrUnsupported, tx)
	}
	if tx, ok := tx.(sqlTx); ok {
		return sqlQuerier{tx}, nil
	}
	return nil, fmt.Errorf("%w: %s; want a pgx.Tx (github.com/jackc/pgx/v5), a *sql.Tx (database/sql), or what embeds one or has its methods ExecContext, QueryContext, Commit and Rollback (gorm's is tx.Statement.ConnPool)", ErrUnsupported, TypeName(tx))
}

// A sqlTx is a transaction with the methods of a *sql.Tx, such as ent's.
type sqlTx interface {
	sqlHandle
	Commit() error
	Rollback() error
}

// embeddedTx finds the *sql.Tx that v is or embeds, as the transactions of sqlx, bun, ent's
// driver and gorm's prepared statements do. Their own methods may change the SQL: bun's
// replace question marks.
func embeddedTx(v reflect.Value, depth int) (tx *sql.Tx, found bool) {
	if v.IsValid() && v.CanInterface() {
		if tx, ok := v.Interface().(*sql.Tx); ok {
			return tx, true
		}
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if depth > 0 {
			return embeddedTx(v.Elem(), depth-1)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if field := v.Type().Field(i); field.Anonymous && field.IsExported() {
				if tx, found := embeddedTx(v.Field(i), depth-1); found {
					return tx, true
				}
			}
		}
	}
	return nil, false
}
