package lock_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/pgtest"
)

// wrapped is a connector whose driver wraps pgx's, as one for traces does. It gives access to
// pgx's connection if shown is set.
type wrapped struct {
	driver.Connector
	shown bool
}

func (w wrapped) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := w.Connector.Connect(ctx)
	if err == nil && w.shown {
		return showing{hiding{conn}}, nil
	}
	return hiding{conn}, err
}

func (w wrapped) Driver() driver.Driver { return hidingDriver{w.Connector.Driver()} }

type hidingDriver struct{ driver.Driver }

// hiding is a connection of such a driver that hides pgx's.
type hiding struct{ conn driver.Conn }

func (c hiding) Prepare(sql string) (driver.Stmt, error) { return c.conn.Prepare(sql) }
func (c hiding) Close() error                            { return c.conn.Close() }

//lint:ignore SA1019 of the interface
func (c hiding) Begin() (driver.Tx, error) { return c.conn.Begin() }
func (c hiding) ResetSession(ctx context.Context) error {
	return c.conn.(driver.SessionResetter).ResetSession(ctx)
}
func (c hiding) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	return c.conn.(driver.ConnBeginTx).BeginTx(ctx, o)
}
func (c hiding) ExecContext(ctx context.Context, sql string, args []driver.NamedValue) (driver.Result, error) {
	return c.conn.(driver.ExecerContext).ExecContext(ctx, sql, args)
}
func (c hiding) QueryContext(ctx context.Context, sql string, args []driver.NamedValue) (driver.Rows, error) {
	return c.conn.(driver.QueryerContext).QueryContext(ctx, sql, args)
}

type showing struct{ hiding }

func (c showing) Raw() driver.Conn { return c.conn }

// A driver that hides pgx's connection needs Connect, and the error says so.
func TestDriverThatHidesItsConnectionNeedsConnect(t *testing.T) {
	server := pgtest.New(t)
	config, err := pgx.ParseConfig(server.URL())
	require.NoError(t, err)
	db := sql.OpenDB(wrapped{stdlib.GetConnector(*config), false})
	defer db.Close()
	db.SetMaxOpenConns(1)
	_, err = lock.NewPostgres(t.Context(), db, nil)
	require.ErrorIs(t, err, lock.ErrUnsupported)
	assert.ErrorContains(t, err, "example.com/lockstore/lock_test.hidingDriver", "what was given")
	assert.ErrorContains(t, err, "PostgresOptions.Connect", "what to do")

	locker := newPostgres(t, db, &lock.PostgresOptions{Connect: lock.ConnectTo(server.URL() + "&pool_max_conns=3")})
	busy, err := db.Conn(t.Context()) // the one that there may be
	require.NoError(t, err)
	held := take(t, locker, lock.Name("k"))
	terminate(t, server.Pool(), held)
	await(t, held.Context().Done(), "loss")
	held = take(t, locker, lock.Name("k"))
	require.NoError(t, busy.Close())
	status, err := locker.Status(t.Context(), lock.Name("k"))
	require.NoError(t, err)
	require.Len(t, status.Holders, 1)
	assert.True(t, status.Holders[0].InThisLocker)
	assert.NoError(t, held.Unlock())
}
