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
	return &sqlConn{sqlQuerier{c}, c, false}, nil
}

type sqlConn struct {
	sqlQuerier
	conn  *sqlx.Conn
	inUse bool // a call has not returned: where the host's driver has panicked, never
}

func (c *sqlConn) Exec(ctx context.Context, sql string, args ...any) (int64, error) {
	c.inUse = true
	n, err := c.sqlQuerier.Exec(ctx, sql, args...)
	c.inUse = false
	return n, err
}

func (c *sqlConn) QueryRow(ctx context.Context, dest []any, sql string, args ...any) error {
	c.inUse = true
	err := c.sqlQuerier.QueryRow(ctx, dest, sql, args...)
	c.inUse = false
	return err
}

func (c *sqlConn) Query(ctx context.Context, each func(Row) error, sql string, args ...any) error {
	c.inUse = true
	err := c.sqlQuerier.Query(ctx, each, sql, args...)
	c.inUse = false
	return err
}

// Release closes the connection only in database/sql's sense. What Close
// reports is that the connection is gone, which whoever used it last knows.
//
// database/sql never gets over a driver that panics in a query: Close would wait for
// that query to end. Such a connection is lost to the pool, but holds up nobody.
func (c *sqlConn) Release() {
	if c.inUse {
		go c.conn.Close()
		return
	}
	_ = c.conn.Close()
}

// Begin sends the statement itself, and so do Commit and Rollback: a *sql.Tx has one
// context for all of its life, and none for its end, while here each statement has
// its own. A connection that is left in a transaction is not used again by its
// driver.
func (c *sqlConn) Begin(ctx context.Context) (Transaction, error) {
	if _, err := c.Exec(ctx, begin); err != nil {
		return nil, err
	}
	return &sqlTransaction{conn: c}, nil
}

type sqlTransaction struct {
	conn   *sqlConn
	failed bool // a statement has: the server would answer a COMMIT by a ROLLBACK, which cannot be seen here
	done   bool
}

func (t *sqlTransaction) Exec(ctx context.Context, sql string, args ...any) (int64, error) {
	n, err := t.conn.Exec(ctx, sql, args...)
	return n, t.noted(err)
}

func (t *sqlTransaction) QueryRow(ctx context.Context, dest []any, sql string, args ...any) error {
	return t.noted(t.conn.QueryRow(ctx, dest, sql, args...))
}

func (t *sqlTransaction) Query(ctx context.Context, each func(Row) error, sql string, args ...any) error {
	return t.noted(t.conn.Query(ctx, each, sql, args...))
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
	_, err := t.conn.Exec(ctx, "commit")
	t.done = err == nil
	return err
}

func (t *sqlTransaction) Rollback(ctx context.Context) error {
	if t.done {
		return nil
	}
	t.done = true
	_, err := t.conn.Exec(ctx, "rollback")
	if errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) {
		return nil // it went with its connection
	}
	return err
}
