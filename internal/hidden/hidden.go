// Package hidden is a database/sql driver for tests that wraps pgx's without exposing it, like
// an unknown driver.
package hidden

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"testing"

	"github.com/jackc/pgx/v5/stdlib"

	"example.com/lockstore/pgtest"
)

// Open opens a test's database with the hidden driver and closes it when the test ends.
func Open(t testing.TB, db *pgtest.DB) *sql.DB {
	t.Helper()
	opened := sql.OpenDB(hiding{stdlib.GetConnector(*db.Pool().Config().ConnConfig)})
	t.Cleanup(func() { opened.Close() })
	return opened
}

type hiding struct{ driver.Connector }

func (h hiding) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := h.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return struct{ *stdlib.Conn }{c.(*stdlib.Conn)}, nil
}

func (hiding) Driver() driver.Driver { return struct{ driver.Driver }{} }
