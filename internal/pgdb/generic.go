package pgdb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// A genericConn is a connection of a driver that does not expose a connection of pgx. Its
// statements go through database/sql, each in its own round trip. It uses a *sql.Conn,
// because a *sql.DB repeats statements after [driver.ErrBadConn], which drivers also return
// for statements that the server may have executed.
type genericConn struct {
	conn  *sql.Conn
	begun bool // a transaction may be open
	stuck bool // the driver is in a statement, or has panicked in one
	wrong bool // it leads to the wrong server: see [wrongServer]

	question *question // nil: none
}

func (c *genericConn) Exec(ctx context.Context, sql string, args ...any) (n int64, err error) {
	err = c.send(func(q sqlQuerier) (err error) { n, err = q.Exec(ctx, sql, args...); return err })
	return n, err
}

func (c *genericConn) QueryRow(ctx context.Context, dest []any, sql string, args ...any) error {
	return c.send(func(q sqlQuerier) error { return q.QueryRow(ctx, dest, sql, args...) })
}

func (c *genericConn) Query(ctx context.Context, each func(Row) error, sql string, args ...any) error {
	return c.send(func(q sqlQuerier) error { return q.Query(ctx, each, sql, args...) })
}

// send runs a statement and records what that shows about the connection.
func (c *genericConn) send(statement func(sqlQuerier) error) error {
	c.stuck = true
	err := statement(sqlQuerier{c.conn})
	c.stuck, c.wrong = false, c.wrong || isElsewhere(err)
	return err
}

// Write is Query: database/sql does not show the server's notices.
func (c *genericConn) Write(ctx context.Context, each func(Row) error, sql string, args ...any) error {
	return c.Query(ctx, each, sql, args...)
}

// on fails: there is no connection of pgx.
func (c *genericConn) on(func(*pgx.Conn) error) error {
	return fmt.Errorf("%w: only some of its connections are pgx's", ErrUnsupported)
}

func (c *genericConn) release() { c.Release() }

func (c *genericConn) Begin(ctx context.Context) (Transaction, error) {
	c.begun = true
	if _, err := c.Exec(ctx, begin); err != nil {
		return nil, err
	}
	return &genericTx{c: c}, nil
}

// Release returns the connection to the pool. It closes a connection in a transaction, which
// the driver may not know of, and one that leads to the wrong server. A connection whose
// driver panicked is lost to the pool: database/sql would wait for that statement forever.
func (c *genericConn) Release() {
	if c.question != nil && !c.stuck && !c.begun && !c.wrong {
		c.ask()
	}
	if c.stuck {
		return
	}
	if c.begun || c.wrong {
		_ = c.conn.Raw(func(any) error { return driver.ErrBadConn })
	}
	_ = c.conn.Close()
}

func (c *genericConn) AskAlong(sql string, answer func(bool)) { c.question = &question{sql, answer} }

// ask sends the question by itself.
func (c *genericConn) ask() {
	ctx, cancel := context.WithTimeout(context.Background(), confirmingTime)
	defer cancel()
	var yes bool
	if c.QueryRow(ctx, []any{&yes}, c.question.sql) == nil {
		c.question.answer(yes)
	}
}

// A genericTx is a transaction on a [genericConn].
type genericTx struct {
	c      *genericConn
	failed bool // the server would answer COMMIT with ROLLBACK, which database/sql does not show
}

// uncommitted records that a statement failed. Its error is never [Uncertain], because
// COMMIT has not been sent.
func (t *genericTx) uncommitted(err error) error {
	t.failed = t.failed || err != nil && err != ErrNoRows
	if Uncertain(err) {
		return unsent{err}
	}
	return err
}

func (t *genericTx) Exec(ctx context.Context, sql string, args ...any) (int64, error) {
	n, err := t.c.Exec(ctx, sql, args...)
	return n, t.uncommitted(err)
}

func (t *genericTx) QueryRow(ctx context.Context, dest []any, sql string, args ...any) error {
	return t.uncommitted(t.c.QueryRow(ctx, dest, sql, args...))
}

func (t *genericTx) Query(ctx context.Context, each func(Row) error, sql string, args ...any) error {
	return t.uncommitted(t.c.Query(ctx, each, sql, args...))
}

func (t *genericTx) CommitRow(ctx context.Context, dest []any, sql string, args ...any) error {
	found := t.QueryRow(ctx, dest, sql, args...)
	if found != nil && found != ErrNoRows {
		return found
	}
	if err := t.Commit(ctx); err != nil {
		return err
	}
	return found
}

func (t *genericTx) Commit(ctx context.Context) error {
	if t.failed {
		return errors.Join(pgx.ErrTxCommitRollback, t.Rollback(ctx))
	}
	return t.end(ctx, "commit")
}

func (t *genericTx) Rollback(ctx context.Context) error {
	err := t.end(ctx, "rollback")
	if errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) { // the transaction has ended with the session
		return nil
	}
	return err
}

func (t *genericTx) end(ctx context.Context, how string) error {
	if !t.c.begun {
		return nil
	}
	_, err := t.c.Exec(ctx, how)
	t.c.begun = err != nil
	return err
}
