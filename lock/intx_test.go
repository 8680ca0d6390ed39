package lock_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/pgtest"
)

// failing is a driver whose queries fail on demand.
type failing struct {
	driver.Connector
	fail func() error
}

func (f failing) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := f.Connector.Connect(ctx)
	return failingConn{hiding{conn}, f.fail}, err
}

type failingConn struct {
	hiding
	fail func() error
}

func (c failingConn) QueryContext(ctx context.Context, sql string, args []driver.NamedValue) (driver.Rows, error) {
	if err := c.fail(); err != nil {
		return nil, err
	}
	return c.hiding.QueryContext(ctx, sql, args)
}

// Drivers end a transaction with the context that it was begun with, also in the middle of a
// statement, and each reports that in its own way. In every case the wait ends with the
// context's error.
func TestInTxWhoseTransactionEndsWithItsContext(t *testing.T) {
	server := pgtest.New(t)
	config, err := pgx.ParseConfig(server.URL())
	require.NoError(t, err)
	held := take(t, newPostgres(t, server.Pool(), nil), lock.Name("k"))
	for name, failure := range map[string]error{
		"database/sql": context.Canceled,
		"its end":      sql.ErrTxDone,
		"bad":          driver.ErrBadConn,
		"cancelled":    &pgconn.PgError{Code: "57014", Severity: "ERROR", SeverityUnlocalized: "ERROR"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			tries := 0
			db := sql.OpenDB(failing{stdlib.GetConnector(*config), func() error {
				if tries++; tries < 2 {
					return nil
				}
				cancel()
				return failure
			}})
			defer db.Close()
			tx, err := db.BeginTx(ctx, nil)
			require.NoError(t, err)
			err = lock.InTx(ctx, tx, lock.Name("k"))
			assert.ErrorIs(t, err, lock.ErrBusy)
			assert.ErrorIs(t, err, context.Canceled)
			_ = tx.Rollback()
		})
	}
	assert.NoError(t, held.Unlock())
}
