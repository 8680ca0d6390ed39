package pgdb

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
)

// errUnconfirmed is the error of a commit whose wait for a synchronous standby was canceled.
// The server reports success and a warning (PostgreSQL source, SyncRepWaitForLSN).
var errUnconfirmed = errors.New("the wait for a synchronous standby was canceled: the commit may not outlive a failover")

// confirmingTime limits the confirmation of a commit that came with a notice.
const confirmingTime = time.Second

// notices records whether the server sends notices. It reads the driver's trace, because
// the handler for notices may be the host's, which is still called.
type notices struct {
	conn *pgx.Conn // the traced connection, nil before watch
	seen bool
}

// watch starts recording. Call it when only the answer to a commit is outstanding.
func (n *notices) watch(conn *pgx.Conn) {
	if n.conn == nil && !conn.IsClosed() {
		n.conn = conn
		conn.PgConn().Frontend().Trace(n, pgproto3.TracerOptions{SuppressTimestamps: true})
	}
}

// stop stops recording. It does not touch a broken connection, which the driver is closing
// concurrently.
func (n *notices) stop() {
	if n.conn != nil && !n.conn.IsClosed() {
		n.conn.PgConn().Frontend().Untrace()
	}
}

// Write reads a line of the trace.
func (n *notices) Write(line []byte) (int, error) {
	n.seen = n.seen || bytes.HasPrefix(line, notice)
	return len(line), nil
}

var notice = []byte("B\tNoticeResponse\t")

// confirm returns an error if a commit is not confirmed. If a notice came with it, whose
// text is unknown, confirm sends another commit, which waits for the same standby.
func (n *notices) confirm(ctx context.Context, conn *pgx.Conn) error {
	if !n.seen {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, confirmingTime)
	defer cancel()
	var again notices
	defer again.stop()
	var b pgx.Batch
	b.Queue(quietSQL).Query(func(rows pgx.Rows) error { // the role may have asked for other notices
		for rows.Next() {
			again.watch(conn)
		}
		return rows.Err()
	})
	b.Queue(confirmSQL)
	if err := conn.SendBatch(ctx, &b).Close(); err != nil || again.seen {
		return errUnconfirmed
	}
	return nil
}

// confirmSQL writes to the WAL, so that its commit waits, but only if a synchronous standby
// is configured (9.28.6 Replication Management Functions). quietSQL suppresses all notices
// but warnings before that.
const (
	confirmSQL = `SELECT pg_catalog.pg_logical_emit_message(true, 'lockstore', '')
WHERE pg_catalog.current_setting('synchronous_standby_names') OPERATOR(pg_catalog.<>) ''`
	quietSQL = `SELECT pg_catalog.set_config('client_min_messages', 'warning', true)`
)

// queryRow is QueryRow for a statement that may be its own transaction.
func queryRow(ctx context.Context, conn *pgx.Conn, dest []any, sql string, args ...any) error {
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return Clean(err)
	}
	defer rows.Close()
	found := rows.Next()
	var n notices
	defer n.stop()
	if found {
		n.watch(conn)
		err = rows.Scan(dest...)
	}
	rows.Close()
	switch {
	case rows.Err() != nil:
		return Clean(rows.Err())
	case err != nil:
		return Clean(err)
	case !found:
		return ErrNoRows
	}
	n.stop()
	return n.confirm(ctx, conn)
}

// write is Write. It uses a batch, in which the rows of a statement end before the answer to
// its commit.
func write(ctx context.Context, conn *pgx.Conn, each func(Row) error, sql string, args ...any) error {
	var refused error
	var n notices
	defer n.stop()
	var b pgx.Batch
	queueQuery(&b, each, &refused, func() { n.watch(conn) }, sql, args...)
	switch err := conn.SendBatch(ctx, &b).Close(); {
	case refused != nil:
		return refused
	case err != nil:
		return Clean(err)
	}
	n.stop()
	return n.confirm(ctx, conn)
}
