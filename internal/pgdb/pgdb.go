// Package pgdb is the one seam between lockstore and the ways a host reaches
// PostgreSQL: pgx, and database/sql (sqlx) over pgx's stdlib driver or any other that
// speaks to PostgreSQL. What is written against a [Querier] is written once for all.
//
// Statements are sent as they are, so they work with every driver, and in every one of
// pgx's query modes, if each parameter is a string, a number, a boolean, a slice of these
// or nil, and is cast in the SQL from the type that such an argument has by itself:
// $1::text::jsonb. What is read is a string, a number, a boolean or, as bytes, a jsonb.
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

// ErrUnsupported says that a database or transaction handed to [Open] or [Tx]
// cannot be used; the error's text says why.
var ErrUnsupported = errors.New("unsupported database handle")

// ErrNoRows says that QueryRow found no row.
var ErrNoRows = pgx.ErrNoRows

// Row is where a query's result is read from.
type Row interface{ Scan(dest ...any) error }

// Querier runs statements.
type Querier interface {
	// Exec runs a statement and returns how many rows it touched.
	Exec(ctx context.Context, sql string, args ...any) (int64, error)

	// QueryRow reads the first row into dest, or returns [ErrNoRows]. It
	// returns nil only after the server has confirmed the whole statement, its
	// commit included where it is a transaction of its own.
	QueryRow(ctx context.Context, dest []any, sql string, args ...any) error

	// Query reads each row with a call of each, whose error ends it.
	Query(ctx context.Context, each func(Row) error, sql string, args ...any) error
}

// DB is a host's pool. A statement run on it is a transaction of its own.
type DB interface {
	Querier

	// Acquire takes a connection out of the pool. It blocks until there is one
	// or ctx ends, and nothing has been sent to the server when it fails.
	Acquire(ctx context.Context) (Conn, error)

	// Full reports whether all connections that there may be are in use.
	Full() bool

	// PreparesForCaller reports whether the pool is seen to prepare a connection for
	// each caller that takes it, as one does that tells the server who the caller is.
	// What a *sql.DB does (ResetSession, a pool behind it) cannot be seen.
	PreparesForCaller() bool
}

// Conn is one session, for one goroutine.
type Conn interface {
	Querier

	// Write is Query for a statement that writes, in a transaction of its own. Like
	// QueryRow, it returns nil only after the server has confirmed the commit.
	Write(ctx context.Context, each func(Row) error, sql string, args ...any) error

	// Pipeline is a way to send without waiting for answers, or nil. Until the answers to
	// what was sent have been received, the connection is of no other use.
	Pipeline() Pipeline

	// AskAlong has a question sent behind the commit of the next QueryRow, Write or
	// transaction, in the same round trip and in a transaction of its own, and answer called
	// with what its row says before that returns. Where a driver sends one statement at a
	// time, Release asks. A question that the server can read, but that fails, is not
	// answered, and fails nothing else.
	AskAlong(question string, answer func(bool))

	// Begin starts a READ COMMITTED transaction, whatever the host's default.
	// ctx bounds the beginning only, as those of the statements bound these.
	Begin(ctx context.Context) (Transaction, error)

	// Release gives the connection back to the pool, which closes it if it is
	// not in the state it was in.
	Release()
}

// Transaction is a transaction that this package began. It saves round trips
// where the driver can: BEGIN travels with the first statement, COMMIT with
// the last. A text without arguments, after the first, can have several statements.
type Transaction interface {
	Querier

	// CommitRow is QueryRow for the last statement, and then Commit, unless
	// the statement itself fails. [ErrNoRows] does not keep it from committing.
	CommitRow(ctx context.Context, dest []any, sql string, args ...any) error

	Commit(ctx context.Context) error

	// Rollback undoes the transaction, and does nothing after Commit.
	Rollback(ctx context.Context) error
}

// Open makes a DB of a *pgxpool.Pool, a *sql.DB or a *sqlx.DB. It asks the
// server nothing.
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

// TypeName is the name of v's type with the whole path of its package, which tells
// apart what is called alike.
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

// Tx makes a Querier of a host's transaction: a pgx.Tx, a *sql.Tx, or one of a library on
// top of these. Committing it remains the host's business.
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

// A sqlTx is a transaction that sends what it is given, as ent's does.
type sqlTx interface {
	sqlHandle
	Commit() error
	Rollback() error
}

// embeddedTx finds the *sql.Tx that a transaction of another library is or embeds, as
// those of sqlx, bun, ent's driver and gorm's prepared statements do. Their own methods
// may read the SQL in ways of their own: bun's looks for question marks in it.
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
