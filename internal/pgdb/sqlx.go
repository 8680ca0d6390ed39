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

// sqlHandle is what database/sql's connections and transactions share.
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

// QueryRow reads to the end, where the rows say whether the statement's context ended
// while the row was read; closing them does not.
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
	return Clean(rows.Close()) // of a driver that says nothing of an error after the rows before
}

// arrays has slices sent as the server writes arrays, in text, which each driver sends as
// it is (PostgreSQL documentation, 8.15.2 Array Value Input).
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

// openSQL makes a DB of database/sql's pool.
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
			if again && ctx.Err() == nil && Unavailable(Clean(err)) {
				again = false
				continue // it was another's connection, perhaps, that could not be opened a while ago
			}
			if err != nil {
				return nil, p.named(ctx, db, err, false)
			}
			t, err := p.ready(ctx, c)
			if err == nil {
				return t, nil
			}
			if failed == 0 {
				most = max(1+db.Stats().OpenConnections, leastResets) // all that are idle can be stale
			}
			_ = c.Close() // which is gone
			if failed++; failed > most || ctx.Err() != nil || !Unavailable(err) {
				return nil, unsent{p.named(ctx, db, err, true)}
			}
		}
	}
	return p
}

// named says of which driver an error is that nothing else is known of.
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

// leastResets is how often, at least, another connection is taken for one that cannot be
// reset, as database/sql has it.
const leastResets = 2

// ready makes a connection of database/sql's ready for its caller. One that is not pgx's
// is asked a question, as nothing else shows that the server has ended it.
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

// reset has the driver's ResetSession tell a connection who its caller is, which
// database/sql omits when a connection is used for the first time: that can have been
// opened for somebody else, or in the place of one that was closed, for nobody. It heeds
// the error that database/sql heeds. It reports whether pgx's connection can be seen; in
// one of another driver it cannot be noted that it was used, so that it is reset each time.
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

// sqlTaken is a connection of database/sql's, whose statements go to the driver's own
// connection as those of [pgxTaken] do. What database/sql puts between them is no help
// to who has a connection to itself: a *sql.Tx has one context for all of its life,
// and none for its end; *sql.Rows can lose the error of a statement whose context ends
// while a row is read; and a driver that panics in a query is waited for, for ever.
type sqlTaken struct{ conn *sql.Conn }

// on runs f on the driver's connection. Should f panic, database/sql closes that.
func (t sqlTaken) on(f func(*pgx.Conn) error) error {
	var failed error
	err := t.conn.Raw(func(driver any) error {
		failed = f(Unwrap(driver))
		return nil // what it means for the connection, the driver says when it is used next
	})
	if failed != nil {
		return failed
	}
	return Clean(err)
}

// release closes the connection only in database/sql's sense, unless it is closed or left
// in a transaction, of which a driver around pgx's may not tell. What Close reports is that
// the connection is gone, which whoever used it last knows.
func (t sqlTaken) release() {
	_ = t.conn.Raw(func(c any) error {
		if conn := Unwrap(c).PgConn(); conn.IsClosed() || conn.TxStatus() != 'I' {
			return driver.ErrBadConn
		}
		return nil
	})
	_ = t.conn.Close()
}
