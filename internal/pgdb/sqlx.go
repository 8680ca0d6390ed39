package pgdb

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jmoiron/sqlx"
)

// sqlHandle is what sqlx's databases, connections and transactions share.
type sqlHandle interface {
	sqlx.QueryerContext
	sqlx.ExecerContext
}

type sqlQuerier struct{ h sqlHandle }

func (q sqlQuerier) Exec(ctx context.Context, sql string, args ...any) (int64, error) {
	result, err := q.h.ExecContext(ctx, sql, args...)
	if err != nil {
		return 0, Clean(err)
	}
	return result.RowsAffected()
}

func (q sqlQuerier) QueryRow(ctx context.Context, dest []any, sql string, args ...any) error {
	return Clean(q.h.QueryRowxContext(ctx, sql, args...).Scan(dest...))
}

func (q sqlQuerier) Query(ctx context.Context, each func(Row) error, sql string, args ...any) error {
	rows, err := q.h.QueryxContext(ctx, sql, args...)
	if err != nil {
		return Clean(err)
	}
	defer rows.Close()
	return readRows(rows, each)
}

type sqlDB struct {
	sqlQuerier
	db *sqlx.DB
}

func (db sqlDB) Acquire(ctx context.Context) (Conn, error) {
	c, err := db.db.Connx(ctx)
	if err != nil {
		return nil, Clean(err)
	}
	return sqlConn{sqlQuerier{c}, c}, nil
}

type sqlConn struct {
	sqlQuerier
	conn *sqlx.Conn
}

// Release closes the connection only in database/sql's sense. What Close
// reports is that the connection is gone, which whoever used it last knows.
func (c sqlConn) Release() { _ = c.conn.Close() }

// Begin sends the statement itself, and so do Commit and Rollback: a *sql.Tx has one
// context for all of its life, and none for its end, while here each statement has
// its own. A connection that is left in a transaction is not used again by its
// driver.
func (c sqlConn) Begin(ctx context.Context) (Transaction, error) {
	if _, err := c.Exec(ctx, begin); err != nil {
		return nil, err
	}
	return &sqlTransaction{sqlQuerier: c.sqlQuerier}, nil
}

type sqlTransaction struct {
	sqlQuerier
	failed bool // a statement has: the server would answer a COMMIT by a ROLLBACK, which cannot be seen here
	done   bool
}

func (t *sqlTransaction) Exec(ctx context.Context, sql string, args ...any) (int64, error) {
	n, err := t.sqlQuerier.Exec(ctx, sql, args...)
	return n, t.noted(err)
}

func (t *sqlTransaction) QueryRow(ctx context.Context, dest []any, sql string, args ...any) error {
	return t.noted(t.sqlQuerier.QueryRow(ctx, dest, sql, args...))
}

func (t *sqlTransaction) Query(ctx context.Context, each func(Row) error, sql string, args ...any) error {
	return t.noted(t.sqlQuerier.Query(ctx, each, sql, args...))
}

func (t *sqlTransaction) noted(err error) error {
	t.failed = t.failed || err != nil && err != ErrNoRows
	return err
}

func (t *sqlTransaction) CommitRow(ctx context.Context, dest []any, sql string, args ...any) error {
	scanned := t.QueryRow(ctx, dest, sql, args...)
	if scanned != nil && scanned != ErrNoRows {
		return scanned
	}
	if err := t.Commit(ctx); err != nil {
		return err
	}
	return scanned
}

func (t *sqlTransaction) Commit(ctx context.Context) error {
	if t.failed {
		return cmp.Or(t.Rollback(ctx), pgx.ErrTxCommitRollback)
	}
	_, err := t.sqlQuerier.Exec(ctx, "commit")
	t.done = err == nil
	return err
}

func (t *sqlTransaction) Rollback(ctx context.Context) error {
	if t.done {
		return nil
	}
	t.done = true
	_, err := t.sqlQuerier.Exec(ctx, "rollback")
	if errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) {
		return nil // it went with its connection
	}
	return err
}
