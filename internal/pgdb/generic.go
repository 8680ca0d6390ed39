package pgdb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// A genericConn is a connection of a driver in which pgx's cannot be seen. Its statements
// go through database/sql, one to a round trip. database/sql sends none of them a second
// time, as it does those of a *sql.DB whose driver says [driver.ErrBadConn]: drivers say
// that, too, of what the server may have carried out.
type genericConn struct {
	conn  *sql.Conn
	begun bool // a transaction may be open
	stuck bool // the driver is in a statement, or has panicked in one
	wrong bool // the server is: see [misled]

	question *question // nil: there is none
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

// send has statement send something, and notes what that shows of the connection.
func (c *genericConn) send(statement func(sqlQuerier) error) error {
	c.stuck = true
	err := statement(sqlQuerier{c.conn})
	c.stuck, c.wrong = false, c.wrong || isElsewhere(err)
	return err
}

// Write implements [Conn]. The server's notices cannot be seen through database/sql.
func (c *genericConn) Write(ctx context.Context, each func(Row) error, sql string, args ...any) error {
	return c.Query(ctx, each, sql, args...)
}

// on implements [taken].
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

// Release closes a connection that is left in a transaction, which its driver may not
// know of, or that leads to the wrong server. One in which the driver has panicked is
// lost to the pool: database/sql waits for the end of that statement, for ever.
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

// ask asks what nothing was sent along with.
func (c *genericConn) ask() {
	ctx, cancel := context.WithTimeout(context.Background(), confirmingTime)
	defer cancel()
	var yes bool
	if c.QueryRow(ctx, []any{&yes}, c.question.sql) == nil {
		c.question.answer(yes)
	}
}

// A genericTx is a transaction on a [genericConn]. Nothing of it is committed before its
// COMMIT is sent.
type genericTx struct {
	c      *genericConn
	failed bool // and so the server answers COMMIT with a ROLLBACK, which cannot be seen
}

// uncommitted notes that a statement has failed.
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
	if errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) { // the session has ended, and the transaction with it
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
