// Package pgdb is the one seam between lockstore and the two ways a host
// reaches PostgreSQL: pgx, and database/sql (sqlx) over pgx's stdlib driver.
// What is written against a [Querier] is written once for both.
//
// Statements are sent as they are, so they work in every one of pgx's query
// modes if each parameter is a string, a []string or a number, and is cast in
// the SQL from the type that such an argument has by itself: $1::text::jsonb.
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

	// Begin starts a READ COMMITTED transaction, whatever the host's default.
	// ctx bounds the beginning only, as those of the statements bound these.
	Begin(ctx context.Context) (Transaction, error)

	// Release gives the connection back to the pool, which closes it if it is
	// not in the state it was in.
	Release()
}

// Transaction is a transaction that this package began. It saves round trips
// where the driver can: BEGIN travels with the first statement, COMMIT with
// the last.
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
			return checked(sqlx.NewDb(db, "pgx"))
		}
	case *sqlx.DB:
		if db != nil && db.DB != nil {
			return checked(db)
		}
	default:
		return nil, fmt.Errorf("%w: %s; want *pgxpool.Pool, *sql.DB or *sqlx.DB", ErrUnsupported, typeName(db))
	}
	return nil, fmt.Errorf("%w: nil %T", ErrUnsupported, db)
}

// checked refuses drivers other than pgx's, as they bind and report otherwise.
func checked(db *sqlx.DB) (DB, error) {
	if d := db.Driver(); !isPgx(d) {
		return nil, fmt.Errorf("%w: database/sql driver %s; open it with pgx's: sql.Open(\"pgx\", …), or stdlib.OpenDBFromPool, of github.com/jackc/pgx/v5/stdlib", ErrUnsupported, typeName(d))
	}
	return openSQL(db), nil
}

func isPgx(d driver.Driver) bool {
	_, ok := d.(*stdlib.Driver)
	return ok
}

// typeName is the name of v's type with the whole path of its package, which tells
// apart what is called alike.
func typeName(v any) string {
	t, star := reflect.TypeOf(v), ""
	if t != nil && t.Kind() == reflect.Pointer {
		t, star = t.Elem(), "*"
	}
	if t == nil || t.PkgPath() == "" {
		return fmt.Sprintf("%T", v)
	}
	return star + t.PkgPath() + "." + t.Name()
}

// Tx makes a Querier of a host's transaction: a pgx.Tx, a *sql.Tx or a
// *sqlx.Tx. Committing it remains the host's business.
func Tx(tx any) (Querier, error) {
	switch tx := tx.(type) {
	case *sql.Tx:
		if tx != nil {
			return sqlQuerier{&sqlx.Tx{Tx: tx}}, nil
		}
	case *sqlx.Tx:
		if tx != nil && tx.Tx != nil {
			return sqlQuerier{tx}, nil
		}
	case pgx.Tx:
		if !isNil(tx) {
			return pgxQuerier{tx}, nil
		}
	default:
		return nil, fmt.Errorf("%w: %s; want a pgx.Tx (github.com/jackc/pgx/v5), a *sql.Tx (database/sql) or a *sqlx.Tx (github.com/jmoiron/sqlx)", ErrUnsupported, typeName(tx))
	}
	return nil, fmt.Errorf("%w: nil %T", ErrUnsupported, tx)
}
