package pgdb

import (
	"context"
	"reflect"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// pgxHandle is what pgx's pools, connections and transactions share.
type pgxHandle interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

type pgxQuerier struct{ h pgxHandle }

func (q pgxQuerier) Exec(ctx context.Context, sql string, args ...any) (int64, error) {
	tag, err := q.h.Exec(ctx, sql, args...)
	return tag.RowsAffected(), Clean(err)
}

func (q pgxQuerier) QueryRow(ctx context.Context, dest []any, sql string, args ...any) error {
	return Clean(q.h.QueryRow(ctx, sql, args...).Scan(dest...))
}

func (q pgxQuerier) Query(ctx context.Context, each func(Row) error, sql string, args ...any) error {
	rows, err := q.h.Query(ctx, sql, args...)
	if err != nil {
		return Clean(err)
	}
	defer rows.Close()
	return readRows(rows, each)
}

type pgxDB struct {
	pgxQuerier
	pool     *pgxpool.Pool
	prepares bool
}

func (db pgxDB) Full() bool {
	s := db.pool.Stat()
	return s.AcquiredConns()+s.ConstructingConns() >= s.MaxConns()
}

func (db pgxDB) PreparesForCaller() bool { return db.prepares }

func (db pgxDB) Acquire(ctx context.Context) (Conn, error) {
	c, err := db.pool.Acquire(ctx)
	if err != nil {
		return nil, Clean(err)
	}
	return pgxConn{pgxQuerier{c}, c}, nil
}

type pgxConn struct {
	pgxQuerier
	conn *pgxpool.Conn
}

func (c pgxConn) Release() { c.conn.Release() }

func (c pgxConn) Begin(context.Context) (Transaction, error) {
	return &pgxTransaction{on: func(f func(*pgx.Conn) error) error { return f(c.conn.Conn()) }}, nil
}

// pgxTransaction pipelines: its state on the server is that of the
// connection's last reply.
type pgxTransaction struct {
	on    func(func(*pgx.Conn) error) error // runs something on the connection
	begun bool
	done  bool
}

const begin = "begin isolation level read committed"

// send runs fn's statements as one pipeline, after BEGIN if it is the first.
func (t *pgxTransaction) send(ctx context.Context, fill func(*pgx.Batch)) error {
	var b pgx.Batch
	if !t.begun {
		b.Queue(begin)
		t.begun = true
	}
	fill(&b)
	return t.on(func(conn *pgx.Conn) error { return Clean(conn.SendBatch(ctx, &b).Close()) })
}

func (t *pgxTransaction) Exec(ctx context.Context, sql string, args ...any) (n int64, err error) {
	err = t.send(ctx, func(b *pgx.Batch) {
		b.Queue(sql, args...).Exec(func(tag pgconn.CommandTag) error {
			n = tag.RowsAffected()
			return nil
		})
	})
	return n, err
}

func (t *pgxTransaction) QueryRow(ctx context.Context, dest []any, sql string, args ...any) error {
	return t.send(ctx, func(b *pgx.Batch) {
		b.Queue(sql, args...).QueryRow(func(row pgx.Row) error { return row.Scan(dest...) })
	})
}

func (t *pgxTransaction) Query(ctx context.Context, each func(Row) error, sql string, args ...any) error {
	var refused error
	err := t.send(ctx, func(b *pgx.Batch) {
		b.Queue(sql, args...).Query(func(rows pgx.Rows) error {
			for rows.Next() && refused == nil {
				refused = each(cleanRow{rows})
			}
			return rows.Err()
		})
	})
	if refused != nil {
		return refused
	}
	return err
}

func (t *pgxTransaction) CommitRow(ctx context.Context, dest []any, sql string, args ...any) error {
	var scanned error
	err := t.send(ctx, func(b *pgx.Batch) {
		b.Queue(sql, args...).QueryRow(func(row pgx.Row) error {
			if scanned = row.Scan(dest...); scanned == pgx.ErrNoRows {
				return nil
			}
			return scanned
		})
		queueCommit(b)
	})
	if err != nil {
		return err
	}
	t.done = true
	return Clean(scanned)
}

func (t *pgxTransaction) Commit(ctx context.Context) error {
	err := t.send(ctx, queueCommit)
	t.done = err == nil
	return err
}

// queueCommit adds a COMMIT that does not take the server's ROLLBACK, its
// answer where a statement had failed before, for success.
func queueCommit(b *pgx.Batch) {
	b.Queue("commit").Exec(func(tag pgconn.CommandTag) error {
		if tag.String() != "COMMIT" {
			return pgx.ErrTxCommitRollback
		}
		return nil
	})
}

func (t *pgxTransaction) Rollback(ctx context.Context) error {
	if t.done || !t.begun {
		return nil
	}
	t.done = true
	return t.on(func(conn *pgx.Conn) error {
		if conn.IsClosed() {
			return nil
		}
		_, err := conn.Exec(ctx, "rollback")
		return Clean(err)
	})
}

// isNil reports whether an interface holds a nil pointer.
func isNil(v any) bool {
	r := reflect.ValueOf(v)
	return r.Kind() == reflect.Pointer && r.IsNil()
}
