package pgdb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// sqlHandle has the methods that connections and transactions of database/sql share.
type sqlHandle interface {
	ExecContext(ctx context.Context, sql string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, sql string, args ...any) (*sql.Rows, error)
}

type sqlQuerier struct{ h sqlHandle }

func (q sqlQuerier) Exec(ctx context.Context, sql string, args ...any) (int64, error) {
	result, err := q.h.ExecContext(ctx, sql, arrays(args)...)
	if err != nil {
		return 0, Clean(err)
	}
	n, err := result.RowsAffected()
	return n, Clean(err)
}

// QueryRow reads all rows: only at the end do they report that the context ended while the
// row was read; Close does not.
func (q sqlQuerier) QueryRow(ctx context.Context, dest []any, sql string, args ...any) error {
	found := false
	err := q.Query(ctx, func(row Row) error {
		if found {
			return nil
		}
		found = true
		return row.Scan(dest...)
	}, sql, args...)
	if err == nil && !found {
		return ErrNoRows
	}
	return err
}

func (q sqlQuerier) Query(ctx context.Context, each func(Row) error, sql string, args ...any) error {
	rows, err := q.h.QueryContext(ctx, sql, arrays(args)...)
	if err != nil {
		return Clean(err)
	}
	defer rows.Close()
	if err := readRows(rows, each); err != nil {
		return err
	}
	return Clean(rows.Close()) // some drivers report an error after the rows only here
}

// arrays replaces slices by the text form of arrays, which every driver sends unchanged
// (PostgreSQL documentation, 8.15.2 Array Value Input).
func arrays(args []any) []any {
	args = slices.Clone(args)
	for i, arg := range args {
		switch a := arg.(type) {
		case []string:
			args[i] = array(a, func(b []byte, s string) []byte {
				b = append(b, '"')
				b = append(b, escapes.Replace(s)...)
				return append(b, '"')
			})
		case []int64:
			args[i] = array(a, func(b []byte, n int64) []byte { return strconv.AppendInt(b, n, 10) })
		case []bool:
			args[i] = array(a, strconv.AppendBool)
		}
	}
	return args
}

var escapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

func array[T any](elements []T, write func([]byte, T) []byte) string {
	b := []byte{'{'}
	for i, e := range elements {
		if i > 0 {
			b = append(b, ',')
		}
		b = write(b, e)
	}
	return string(append(b, '}'))
}

// openSQL returns a DB for a pool of database/sql.
func openSQL(db *sql.DB) DB {
	p := &pool{
		generic: !isPgx(db.Driver()),
		size:    func() int { return db.Stats().OpenConnections },
		full: func() bool {
			s := db.Stats()
			return s.MaxOpenConnections > 0 && s.InUse >= s.MaxOpenConnections
		},
	}
	p.take = func(ctx context.Context) (taken, error) {
		again, failed, most := true, 0, 0
		for {
			c, err := db.Conn(ctx)
			if again && ctx.Err() == nil && Unavailable(err) {
				again = false
				continue // db.Conn may report a connection that could not be opened earlier, for another caller
			}
			if err != nil {
				return nil, p.named(ctx, db, err, false)
			}
			t, err := p.ready(ctx, c)
			if err == nil {
				return t, nil
			}
			if failed == 0 {
				most = max(1+db.Stats().OpenConnections, leastResets) // all idle ones can be stale
			}
			_ = c.Close() // its error says that the connection is gone
			if failed++; failed > most || ctx.Err() != nil || !Unavailable(err) {
				return nil, unsent{p.named(ctx, db, err, true)}
			}
		}
	}
	return p
}

// named adds the driver's name to an error of which nothing else is known.
func (p *pool) named(ctx context.Context, db *sql.DB, err error, connected bool) error {
	clean := Clean(err)
	if !p.generic || ctx.Err() != nil || errors.Is(clean, ErrSession) || Code(clean) != "" || Unavailable(clean) {
		return err
	}
	name := TypeName(db.Driver())
	switch {
	case connected:
		err = fmt.Errorf("database/sql driver %s has no answer that PostgreSQL would give: %w", name, clean)
	case isClosedPool(err), isUntrusted(err):
		err = fmt.Errorf("database/sql driver %s cannot connect: %w", name, clean)
	default:
		err = unconnected{fmt.Errorf("database/sql driver %s cannot connect, and its Ping says why: %w", name, clean)}
	}
	return unsent{err}
}

// leastResets is the minimum number of other connections to take if one cannot be reset, as
// in database/sql.
const leastResets = 2

// ready prepares a connection of database/sql for its caller. If the driver is not pgx, it
// runs a query, because nothing else shows that the server has ended the connection.
func (p *pool) ready(ctx context.Context, c *sql.Conn) (taken, error) {
	native, err := reset(ctx, c)
	if native || err != nil {
		return sqlTaken{c}, err
	}
	g := &genericConn{conn: c}
	err = askSession(ctx, g, false)
	if p.suits == nil && errors.Is(err, ErrSession) {
		err = nil
	}
	if err == nil && p.suits != nil {
		p.seen.Store(true)
	}
	return g, err
}

// reset calls the driver's ResetSession on a connection's first use, as database/sql does
// on every later one. The connection may have been opened for another caller, or for none
// (to replace a closed one). Like database/sql, reset returns only driver.ErrBadConn. It
// reports whether the connection is pgx's. In one of another driver the first use cannot be
// recorded, so that it is reset each time.
func reset(ctx context.Context, c *sql.Conn) (native bool, err error) {
	err = c.Raw(func(c any) error {
		conn := Unwrap(c)
		if native = conn != nil; native {
			data := conn.PgConn().CustomData()
			if data[wasUsed] != nil {
				return nil
			}
			data[wasUsed] = true
		}
		resetter, ok := c.(driver.SessionResetter)
		if ok && errors.Is(resetter.ResetSession(ctx), driver.ErrBadConn) {
			return driver.ErrBadConn
		}
		return nil
	})
	return native, err
}

const wasUsed = "lockstore_used" // in a connection's custom data

// sqlTaken is a connection of database/sql with pgx's driver. Its statements go to the
// driver's connection, like those of [pgxTaken], because database/sql has drawbacks for the
// owner of a connection:
//   - A *sql.Tx has one context for its whole life, and none for its end.
//   - *sql.Rows can lose the error of a statement whose context ends while a row is read.
//   - If a driver panics in a query, Close waits for it forever.
type sqlTaken struct{ conn *sql.Conn }

// on runs f on the driver's connection. If f panics, database/sql closes the connection.
func (t sqlTaken) on(f func(*pgx.Conn) error) error {
	var failed error
	err := t.conn.Raw(func(driver any) error {
		failed = f(Unwrap(driver))
		return nil // the driver reports a broken connection on its next use
	})
	if failed != nil {
		return failed
	}
	return Clean(err)
}

// release returns the connection to database/sql's pool, or discards it if it is closed or
// in a transaction, which a driver around pgx's may not report. Close's error is ignored: it
// says that the connection is gone, which the last statement has reported.
func (t sqlTaken) release() {
	_ = t.conn.Raw(func(c any) error {
		if conn := Unwrap(c).PgConn(); conn.IsClosed() || conn.TxStatus() != 'I' {
			return driver.ErrBadConn
		}
		return nil
	})
	_ = t.conn.Close()
}
