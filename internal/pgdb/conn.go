package pgdb

import (
	"context"
	"database/sql"
	"errors"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A pool is a [DB] over pgx or database/sql.
type pool struct {
	take func(context.Context) (taken, error)
	size func() int // the current number of connections
	full func() bool

	prepares bool // see PreparesForCaller
	generic  bool // the driver is not pgx's

	suits func(*pgx.Conn) error // see [UTF8]; nil accepts any connection
	seen  atomic.Bool           // a suitable connection has been seen
}

// taken is a connection out of a pool.
type taken interface {
	on(f func(*pgx.Conn) error) error // runs f on the driver's own connection
	release()
}

func (p *pool) Acquire(ctx context.Context) (Conn, error) {
	c := &conn{pool: p, take: func() (taken, error) { return p.suitable(ctx) }}
	var err error
	if c.taken, err = c.take(); err != nil {
		return nil, unsent{Clean(err)}
	}
	if g, ok := c.taken.(*genericConn); ok {
		return g, nil
	}
	return c, nil
}

func (p *pool) Full() bool { return p.full() }

func (p *pool) PreparesForCaller() bool { return p.prepares }

// suitable takes a connection and checks it.
func (p *pool) suitable(ctx context.Context) (taken, error) {
	t, err := p.take(ctx)
	if _, asked := t.(*genericConn); err != nil || asked || p.suits == nil {
		return t, err
	}
	if err := t.on(p.suits); err != nil {
		t.release()
		return nil, err
	}
	p.seen.Store(true)
	return t, nil
}

func (p *pool) Exec(ctx context.Context, sql string, args ...any) (n int64, err error) {
	err = p.with(ctx, func(c Conn) (err error) { n, err = c.Exec(ctx, sql, args...); return err })
	return n, err
}

func (p *pool) QueryRow(ctx context.Context, dest []any, sql string, args ...any) error {
	return p.with(ctx, func(c Conn) error { return c.QueryRow(ctx, dest, sql, args...) })
}

func (p *pool) Query(ctx context.Context, each func(Row) error, sql string, args ...any) error {
	return p.with(ctx, func(c Conn) error { return c.Query(ctx, each, sql, args...) })
}

func (p *pool) with(ctx context.Context, f func(Conn) error) error {
	c, err := p.Acquire(ctx)
	if err != nil {
		return err
	}
	defer c.Release()
	return f(c)
}

// A conn is a [Conn] out of a pool. An idle connection can be stale: the server has ended
// it, which shows only on use. After a restart, all are stale. If the first statement could
// not be sent for that reason, it is sent on another connection, which is taken like the
// first, with the same context. The same happens to a statement that reached the wrong
// server, which has not executed it (see [wrongServer]). Nothing is executed twice.
type conn struct {
	pool  *pool
	take  func() (taken, error)
	taken taken // nil: no other connection could be taken
	used  bool  // something may have been sent

	pipeline *pipeline // nil: not used
	question *question // nil: none
}

// A question is sent behind a commit: see [Conn].AskAlong.
type question struct {
	sql    string
	answer func(bool)
}

func (c *conn) AskAlong(sql string, answer func(bool)) { c.question = &question{sql, answer} }

// on runs f, which sends something, on the connection, or on another one if nothing could
// be sent on that.
func (c *conn) on(f func(*pgx.Conn) error) error {
	if c.taken == nil {
		return unsent{sql.ErrConnDone}
	}
	defer func() { c.used = true }()
	err := c.attempt(f)
	if c.used || !isUnsent(err) {
		return err
	}
	for range max(c.pool.size(), leastTries) {
		stale := c.taken
		c.taken = nil
		stale.release()
		next, failed := c.take()
		if failed != nil {
			return unsent{Clean(failed)}
		}
		c.taken = next
		if err = c.attempt(f); !isUnsent(err) {
			break
		}
	}
	return err
}

// leastTries is the minimum number of other connections to try. All idle connections of a
// pool can be stale or lead to the wrong server, and behind a load balancer a new one can,
// too. The limit is not the maximum size of the pool: if no server knows a hold any more,
// each connection says so, and more attempts are useless.
const leastTries = 4

// attempt runs f on the connection, unless that is closed.
func (c *conn) attempt(f func(*pgx.Conn) error) error {
	return c.taken.on(func(conn *pgx.Conn) error {
		if !c.used && !conn.IsClosed() && hungUp(conn.PgConn().Conn()) {
			abandon(conn)
		}
		if conn.IsClosed() {
			return unsent{pgconn.ErrConnClosed}
		}
		return closeIfWrong(conn, f(conn))
	})
}

// unsent is the error of a statement that was not sent.
type unsent struct{ error }

func (unsent) SafeToRetry() bool { return true }
func (u unsent) Unwrap() error   { return u.error }

// isUnsent reports whether err says that nothing was sent, or that the wrong server did
// nothing, for a reason other than the end of the context. ErrConnClosed does not count:
// with the simple protocol, pgx also returns it for a connection that broke after something
// was sent.
func isUnsent(err error) bool {
	if errors.As(err, new(unsent)) {
		return true
	}
	return pgconn.SafeToRetry(err) && !errors.Is(err, pgconn.ErrConnClosed) &&
		!errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

func (c *conn) Exec(ctx context.Context, sql string, args ...any) (n int64, err error) {
	err = c.on(func(conn *pgx.Conn) (err error) { n, err = pgxQuerier{conn}.Exec(ctx, sql, args...); return err })
	return n, err
}

func (c *conn) QueryRow(ctx context.Context, dest []any, sql string, args ...any) error {
	if c.question != nil {
		return c.ask(ctx, func(t *transaction) error { return t.CommitRow(ctx, dest, sql, args...) })
	}
	return c.on(func(conn *pgx.Conn) error { return queryRow(ctx, conn, dest, sql, args...) })
}

func (c *conn) Query(ctx context.Context, each func(Row) error, sql string, args ...any) error {
	return c.on(func(conn *pgx.Conn) error { return pgxQuerier{conn}.Query(ctx, each, sql, args...) })
}

func (c *conn) Write(ctx context.Context, each func(Row) error, sql string, args ...any) error {
	if c.question != nil {
		return c.ask(ctx, func(t *transaction) error { return t.commitRows(ctx, each, sql, args...) })
	}
	return c.on(func(conn *pgx.Conn) error { return write(ctx, conn, each, sql, args...) })
}

func (c *conn) Begin(context.Context) (Transaction, error) { return c.begin(), nil }

// ask runs a statement in a transaction, so that the question can be sent behind its COMMIT.
func (c *conn) ask(ctx context.Context, statement func(*transaction) error) error {
	t := c.begin()
	err := statement(t)
	if err != nil {
		_ = t.Rollback(ctx) // fails only if the connection is gone
	}
	return err
}

func (c *conn) begin() *transaction {
	t := &transaction{on: c.on, question: c.question}
	c.question = nil
	return t
}

func (c *conn) Release() {
	if c.taken == nil {
		return
	}
	if c.pipeline != nil && c.pipeline.unread.Load() > 0 {
		c.hangUp()
	}
	c.taken.release()
}

// hangUp closes a connection whose remaining answers will not be read.
func (c *conn) hangUp() {
	_ = c.taken.on(func(conn *pgx.Conn) error { abandon(conn); return nil })
}

// abandon closes a connection without waiting for the server.
func abandon(conn *pgx.Conn) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_ = conn.Close(ended)
}
