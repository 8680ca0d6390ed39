package pgdb

import (
	"context"
	"database/sql/driver"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
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
	rows, err := q.h.QueryxContext(ctx, sql, args...)
	if err != nil {
		return Clean(err)
	}
	defer rows.Close()
	return readRows(rows, each)
}

// openSQL makes a DB of database/sql's pool.
func openSQL(db *sqlx.DB) DB {
	return &pool{
		take: func(ctx context.Context) (taken, error) {
			again, failed, most := true, 0, 0
			for {
				c, err := db.Connx(ctx)
				if again && ctx.Err() == nil && Unavailable(Clean(err)) {
					again = false
					continue // it was another's connection, perhaps, that could not be opened a while ago
				}
				if err != nil {
					return nil, err
				}
				if err = reset(ctx, c); err == nil {
					return sqlTaken{c}, nil
				}
				if failed == 0 {
					most = max(db.Stats().OpenConnections, leastResets) // all that are idle can be stale
				}
				_ = c.Close() // which is gone
				if failed++; failed > most {
					return nil, unsent{err}
				}
			}
		},
		size: func() int { return db.Stats().OpenConnections },
		full: func() bool {
			s := db.Stats()
			return s.MaxOpenConnections > 0 && s.InUse >= s.MaxOpenConnections
		},
	}
}

// leastResets is how often, at least, another connection is taken for one that cannot be
// reset, as database/sql has it.
const leastResets = 2

// reset has the driver's ResetSession tell a connection who its caller is, which
// database/sql omits when a connection is used for the first time: that can have been
// opened for somebody else, or in the place of one that was closed, for nobody. It heeds
// the error that database/sql heeds.
func reset(ctx context.Context, c *sqlx.Conn) error {
	return c.Raw(func(c any) error {
		conn := c.(*stdlib.Conn)
		data := conn.Conn().PgConn().CustomData()
		if data[wasUsed] != nil {
			return nil
		}
		data[wasUsed] = true
		if err := conn.ResetSession(ctx); errors.Is(err, driver.ErrBadConn) {
			return driver.ErrBadConn
		}
		return nil
	})
}

const wasUsed = "lockstore_used" // in a connection's custom data

// sqlTaken is a connection of database/sql's, whose statements go to the driver's own
// connection as those of [pgxTaken] do. What database/sql puts between them is no help
// to who has a connection to itself: a *sql.Tx has one context for all of its life,
// and none for its end; *sql.Rows can lose the error of a statement whose context ends
// while a row is read; and a driver that panics in a query is waited for, for ever.
type sqlTaken struct{ conn *sqlx.Conn }

// on runs f on the driver's connection. Should f panic, database/sql closes that.
func (t sqlTaken) on(f func(*pgx.Conn) error) error {
	var failed error
	err := t.conn.Raw(func(driver any) error {
		failed = f(driver.(*stdlib.Conn).Conn())
		return nil // what it means for the connection, the driver says when it is used next
	})
	if failed != nil {
		return failed
	}
	return Clean(err)
}

// release closes the connection only in database/sql's sense. What Close
// reports is that the connection is gone, which whoever used it last knows. One that
// is left in a transaction is not used again by its driver.
func (t sqlTaken) release() { _ = t.conn.Close() }
