package metadata

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"example.com/lockstore/internal/pgdb"
)

// A wire is a connection for hints, on which one goroutine asks while another receives
// what the server says by itself.
type wire struct {
	conn    net.Conn
	front   *pgproto3.Frontend
	pid     uint32
	timeout time.Duration
	answers chan said
	asked   time.Time // whether somebody else watches
	known   time.Time // that somebody does

	// Who asks paces itself.
	paced time.Time        // when the pace began
	told  map[int64]bool   // since then
	rest  <-chan time.Time // until the next; nil: there is nothing more to tell
}

// A said is the last value that a question has brought, or why it failed.
type said struct {
	text string
	err  error
}

// What a hint says is known by all who watch when they look, so that its commit need not
// be flushed.
const wireSQL = `SET search_path = pg_catalog, pg_temp; UNLISTEN *; SELECT set_config('idle_session_timeout', '0', false),
	set_config('statement_timeout', '0', false), set_config('lock_timeout', '5s', false), set_config('synchronous_commit', 'off', false),
	set_config('tcp_user_timeout', '10000', false),
	(SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'transaction_timeout')`

// openWire makes a wire of a connection, and leaves conn behind as a closed one.
func openWire(ctx context.Context, conn *pgx.Conn, timeout time.Duration) (*wire, error) {
	var pid uint32
	if err := conn.QueryRow(ctx, "SELECT pg_catalog.pg_backend_pid()", pgx.QueryExecModeExec).Scan(&pid); err != nil {
		return nil, pgdb.Clean(err)
	}
	if pid != conn.PgConn().PID() {
		return nil, fmt.Errorf("%w: a connection pooler stands before the server and would lose hints; let Options.Connect connect directly", ErrUnsupported)
	}
	if err := cmp.Or(conn.PgConn().Exec(ctx, wireSQL).Close(), conn.PgConn().SyncConn(ctx)); err != nil {
		return nil, pgdb.Clean(err)
	}
	c, err := conn.PgConn().Hijack()
	if err != nil {
		return nil, err
	}
	return &wire{conn: c.Conn, front: pgproto3.NewFrontend(c.Conn, c.Conn), pid: pid, timeout: timeout, told: map[int64]bool{}, answers: make(chan said, 1)}, nil
}

// ask sends a statement, which has nothing of a caller's in it, and returns its answer.
func (w *wire) ask(ctx context.Context, sql string) (string, error) {
	timer := time.NewTimer(w.timeout)
	defer timer.Stop()
	if err := w.conn.SetWriteDeadline(time.Now().Add(w.timeout)); err != nil {
		return "", err
	}
	w.front.Send(&pgproto3.Query{String: sql})
	if err := w.front.Flush(); err != nil {
		return "", err
	}
	select {
	case a, ok := <-w.answers:
		if !ok {
			return "", net.ErrClosed
		}
		return a.text, a.err
	case <-timer.C:
		return "", fmt.Errorf("no answer for %v", w.timeout)
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// receive takes what the server says until the connection ends, and calls heard with what
// others notify.
func (w *wire) receive(heard func(payload string)) error {
	defer close(w.answers)
	var a said
	for {
		msg, err := w.front.Receive()
		if err != nil {
			return cmp.Or(a.err, pgdb.Clean(err))
		}
		switch msg := msg.(type) {
		case *pgproto3.NotificationResponse:
			if msg.PID != w.pid { // who writes here has told already
				heard(msg.Payload)
			}
		case *pgproto3.DataRow:
			a.text = string(msg.Values[0])
		case *pgproto3.ErrorResponse:
			a.err = pgdb.Clean(pgconn.ErrorResponseToPgError(msg))
		case *pgproto3.ReadyForQuery:
			w.answers <- a
			a = said{}
		}
	}
}

// close ends the connection, and the server what is held on it.
func (w *wire) close() {
	w.conn.SetDeadline(time.Now().Add(100 * time.Millisecond))
	w.front.Send(&pgproto3.Terminate{})
	_ = w.front.Flush()
	w.conn.Close()
}
