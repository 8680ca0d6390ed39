package pgdb

import (
	"context"
	"database/sql"

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

func (c sqlConn) Begin(ctx context.Context) (Transaction, error) {
	tx, err := c.conn.BeginTxx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return nil, Clean(err)
	}
	return &sqlTransaction{sqlQuerier{tx}, tx}, nil
}

type sqlTransaction struct {
	sqlQuerier
	tx *sqlx.Tx
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

func (t *sqlTransaction) Commit(context.Context) error { return Clean(t.tx.Commit()) }

func (t *sqlTransaction) Rollback(context.Context) error {
	if err := t.tx.Rollback(); err != sql.ErrTxDone {
		return Clean(err)
	}
	return nil
}
