package pgdb

import (
	"cmp"
	"context"
	"errors"
	"reflect"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// pgxHandle has the methods that pools, connections and transactions of pgx share.
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

// openPgx returns a DB for a pool of pgx.
func openPgx(p *pgxpool.Pool) DB {
	config, leaving := p.Config(), make(chan struct{}, 1)
	return &pool{
		prepares: config.PrepareConn != nil || config.BeforeAcquire != nil, //lint:ignore SA1019 hosts have it
		take: func(ctx context.Context) (taken, error) {
			c, err := p.Acquire(ctx)
			if err != nil {
				return nil, err
			}
			return pgxTaken{c, config.BeforeClose, leaving}, nil
		},
		size: func() int { return int(p.Stat().TotalConns()) },
		full: func() bool {
			s := p.Stat()
			return s.AcquiredConns()+s.ConstructingConns() >= s.MaxConns()
		},
	}
}

type pgxTaken struct {
	conn        *pgxpool.Conn
	beforeClose func(*pgx.Conn) // the host's, or nil
	leaving     chan struct{}   // holds a token while a connection is cleaned up outside the pool
}

func (t pgxTaken) on(f func(*pgx.Conn) error) error { return f(t.conn.Conn()) }

// release returns the connection to the pool, at once unless pgx still has to clean it up.
func (t pgxTaken) release() {
	conn := t.conn.Conn()
	select {
	case <-conn.PgConn().CleanupDone():
	default:
		if conn.IsClosed() {
			go t.leave(conn)
			return
		}
	}
	t.conn.Release()
}

// leave releases a broken connection. It would keep its place in the pool until pgx has asked
// the server to cancel the statement, which takes 15 seconds if the server is silent; a pool
// full of such connections could not connect to another server. So a connection leaves the
// pool after closeTimeout, but never more than one at a time for each [DB]: the server may
// only be slow, and must not have many more connections than the host allows.
func (t pgxTaken) leave(conn *pgx.Conn) {
	cleaned := conn.PgConn().CleanupDone()
	select {
	case <-cleaned:
		t.conn.Release()
		return
	case <-time.After(closeTimeout):
	}
	select {
	case <-cleaned:
		t.conn.Release()
	case t.leaving <- struct{}{}:
		if t.beforeClose != nil {
			t.beforeClose(conn)
		}
		t.conn.Hijack()
		<-cleaned
		<-t.leaving
	}
}

// A transaction sends BEGIN and COMMIT together with its statements.
type transaction struct {
	on       func(func(*pgx.Conn) error) error // runs a function on the connection
	begun    bool
	done     bool
	question *question // to send behind the commit; nil: none
}

const begin = "begin isolation level read committed"

// send sends the statements that fill queues in one round trip. BEGIN comes first if it has
// not been sent.
func (t *transaction) send(ctx context.Context, fill func(*pgx.Batch)) error {
	defer func() { t.begun = true }()
	return t.on(func(conn *pgx.Conn) error {
		var b pgx.Batch
		if !t.begun {
			b.Queue(begin)
		}
		fill(&b)
		return Clean(conn.SendBatch(ctx, &b).Close())
	})
}

func (t *transaction) Exec(ctx context.Context, sql string, args ...any) (n int64, err error) {
	if t.begun {
		err = t.on(func(conn *pgx.Conn) (err error) { n, err = pgxQuerier{conn}.Exec(ctx, sql, args...); return err })
		return n, err
	}
	err = t.send(ctx, func(b *pgx.Batch) {
		b.Queue(sql, args...).Exec(func(tag pgconn.CommandTag) error {
			n = tag.RowsAffected()
			return nil
		})
	})
	return n, err
}

func (t *transaction) QueryRow(ctx context.Context, dest []any, sql string, args ...any) error {
	return t.send(ctx, func(b *pgx.Batch) {
		b.Queue(sql, args...).QueryRow(func(row pgx.Row) error { return row.Scan(dest...) })
	})
}

func (t *transaction) Query(ctx context.Context, each func(Row) error, sql string, args ...any) error {
	var refused error
	err := t.send(ctx, func(b *pgx.Batch) { queueQuery(b, each, &refused, func() {}, sql, args...) })
	return cmp.Or(refused, err)
}

// queueQuery queues a query. It calls each for the rows, until each returns an error, which
// it stores in refused; then it calls ended.
func queueQuery(b *pgx.Batch, each func(Row) error, refused *error, ended func(), sql string, args ...any) {
	b.Queue(sql, args...).Query(func(rows pgx.Rows) error {
		for rows.Next() && *refused == nil {
			*refused = each(cleanRow{rows})
		}
		rows.Close()
		ended()
		return rows.Err()
	})
}

func (t *transaction) CommitRow(ctx context.Context, dest []any, sql string, args ...any) error {
	var scanned error
	err := t.commit(ctx, func(b *pgx.Batch, watch func()) {
		b.Queue(sql, args...).QueryRow(func(row pgx.Row) error {
			scanned = row.Scan(dest...)
			watch()
			if scanned == pgx.ErrNoRows {
				return nil
			}
			return scanned
		})
	})
	if err != nil {
		return err
	}
	return Clean(scanned)
}

// commitRows is CommitRow for several rows; [Conn].Write uses it.
func (t *transaction) commitRows(ctx context.Context, each func(Row) error, sql string, args ...any) error {
	var refused error
	err := t.commit(ctx, func(b *pgx.Batch, watch func()) { queueQuery(b, each, &refused, watch, sql, args...) })
	return cmp.Or(refused, err)
}

func (t *transaction) Commit(ctx context.Context) error {
	return t.commit(ctx, func(_ *pgx.Batch, watch func()) { watch() })
}

// commit sends COMMIT behind the statements that fill queues. fill calls watch when only the
// answer to COMMIT is outstanding, so that a notice belongs to it. If that answer is
// ROLLBACK, because a statement had failed before, nothing was committed.
func (t *transaction) commit(ctx context.Context, fill func(b *pgx.Batch, watch func())) error {
	defer func() { t.begun = true }()
	return t.on(func(conn *pgx.Conn) error {
		var n notices
		defer n.stop()
		var b pgx.Batch
		if !t.begun {
			b.Queue(begin)
		}
		fill(&b, func() { n.watch(conn) })
		b.Queue("commit").Exec(func(tag pgconn.CommandTag) error {
			if tag.String() != "COMMIT" {
				return pgx.ErrTxCommitRollback
			}
			t.done = true
			return nil
		})
		var answer *bool
		if t.question != nil {
			b.Queue(t.question.sql).QueryRow(func(row pgx.Row) error { return row.Scan(&answer) })
		}
		if err := conn.SendBatch(ctx, &b).Close(); err != nil && !t.done {
			return Clean(err)
		}
		n.stop()
		if answer != nil {
			t.question.answer(*answer)
		}
		return n.confirm(ctx, conn)
	})
}

func (t *transaction) Rollback(ctx context.Context) error {
	if t.done || !t.begun {
		return nil
	}
	t.done = true
	err := t.on(func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "rollback")
		return Clean(err)
	})
	if errors.As(err, new(unsent)) { // without a connection there is nothing to undo
		return nil
	}
	return err
}

// isNil reports whether an interface holds a nil pointer.
func isNil(v any) bool {
	r := reflect.ValueOf(v)
	return r.Kind() == reflect.Pointer && r.IsNil()
}
