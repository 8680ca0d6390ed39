package pgdb

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
)

// errUnconfirmed is the end of a commit whose wait for a synchronous standby was cancelled.
// The server takes that for success, and warns (PostgreSQL source, SyncRepWaitForLSN).
var errUnconfirmed = errors.New("the wait for a synchronous standby was cancelled: the commit may not outlive a failover")

// confirmingTime is how long a commit that came with a notice may take to be confirmed.
const confirmingTime = time.Second

// notices notes whether the server sends any. They are seen in the driver's trace, since
// the handler for them is the host's, where it has one; that is called as before.
type notices struct {
	conn *pgx.Conn // is traced, unless nil
	seen bool
}

// watch begins to look for notices, which messages of a commit are to be read from now on.
func (n *notices) watch(conn *pgx.Conn) {
	if n.conn == nil && !conn.IsClosed() {
		n.conn = conn
		conn.PgConn().Frontend().Trace(n, pgproto3.TracerOptions{SuppressTimestamps: true})
	}
}

// stop ends the watch. A connection that broke belongs to the driver, which says goodbye
// on it at the same time: that is left alone.
func (n *notices) stop() {
	if n.conn != nil && !n.conn.IsClosed() {
		n.conn.PgConn().Frontend().Untrace()
	}
}

// Write implements io.Writer, for the trace.
func (n *notices) Write(line []byte) (int, error) {
	n.seen = n.seen || bytes.HasPrefix(line, notice)
	return len(line), nil
}

var notice = []byte("B\tNoticeResponse\t")

// confirm is the error of a commit that may have come with a notice. What that said is not
// known: another commit, behind it, waits for the same standby.
func (n *notices) confirm(ctx context.Context, conn *pgx.Conn) error {
	if !n.seen {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, confirmingTime)
	defer cancel()
	var again notices
	defer again.stop()
	var b pgx.Batch
	b.Queue(quietSQL).Query(func(rows pgx.Rows) error { // whatever else a role has itself told
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

// confirmSQL writes where there is a standby to wait for, a message for nobody, which has
// a commit to be waited for (9.28.6 Replication Management Functions). Until then quietSQL
// has the server send nothing but warnings.
const (
	confirmSQL = `SELECT pg_catalog.pg_logical_emit_message(true, 'lockstore', '')
WHERE pg_catalog.current_setting('synchronous_standby_names') OPERATOR(pg_catalog.<>) ''`
	quietSQL = `SELECT pg_catalog.set_config('client_min_messages', 'warning', true)`
)

// queryRow is QueryRow of a statement that may be a transaction of its own.
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

// write is Write. In a batch the rows of a statement end before its commit is answered.
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
