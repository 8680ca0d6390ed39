package metadata

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"example.com/lockstore/internal/pgdb"
)

// A hintConn is the hint connection: one goroutine asks on it, while another receives what the
// server sends by itself.
type hintConn struct {
	conn    net.Conn
	front   *pgproto3.Frontend
	pid     uint32
	timeout time.Duration
	answers chan hintAnswer // closed when receive returns
	ended   error           // why receive has returned

	// For the goroutine that asks.
	asked time.Time        // when it last asked whether others watch
	known time.Time        // when others were last known to
	paced time.Time        // when the pace began
	told  map[int64]bool   // documents whose hints were sent since then
	rest  <-chan time.Time // until the next pace; nil: nothing is pending
}

// A hintAnswer is the last value of an answer, or why there is none.
type hintAnswer struct {
	text string
	err  error
}

// hintConnSQL prepares the connection. Those who get a hint read the documents themselves, so a
// hint's own commit need not be flushed.
const hintConnSQL = `SET search_path = pg_catalog, pg_temp; UNLISTEN *; SELECT set_config('idle_session_timeout', '0', false),
	set_config('statement_timeout', '0', false), set_config('lock_timeout', '5s', false), set_config('synchronous_commit', 'off', false),
	set_config('tcp_user_timeout', '10000', false),
	(SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'transaction_timeout')`

// openHintConn makes a hint connection of conn, which is closed as far as pgx knows.
func openHintConn(ctx context.Context, conn *pgx.Conn, timeout time.Duration) (*hintConn, error) {
	var pid uint32
	if err := conn.QueryRow(ctx, "SELECT pg_catalog.pg_backend_pid()", pgx.QueryExecModeExec).Scan(&pid); err != nil {
		return nil, pgdb.Clean(err)
	}
	if pid != conn.PgConn().PID() {
		return nil, fmt.Errorf("%w: a connection pooler stands before the server and would lose hints; let Options.Connect connect directly", ErrUnsupported)
	}
	if err := cmp.Or(conn.PgConn().Exec(ctx, hintConnSQL).Close(), conn.PgConn().SyncConn(ctx)); err != nil {
		return nil, pgdb.Clean(err)
	}
	c, err := conn.PgConn().Hijack()
	if err != nil {
		return nil, err
	}
	return &hintConn{conn: c.Conn, front: pgproto3.NewFrontend(c.Conn, c.Conn), pid: pid, timeout: timeout, told: map[int64]bool{}, answers: make(chan hintAnswer, 1)}, nil
}

// ask sends a statement, which contains nothing from callers, and returns its answer.
func (w *hintConn) ask(ctx context.Context, sql string) (string, error) {
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
			return "", w.ended
		}
		return a.text, a.err
	case <-timer.C:
		return "", fmt.Errorf("no answer for %v", w.timeout)
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// receive takes what the server sends until the connection ends, and calls received with the
// notifications of others.
func (w *hintConn) receive(received func(payload string)) {
	defer close(w.answers)
	var a hintAnswer
	for {
		msg, err := w.front.Receive()
		if err != nil {
			w.ended = cmp.Or(a.err, pgdb.Clean(err))
			return
		}
		switch msg := msg.(type) {
		case *pgproto3.NotificationResponse:
			if msg.PID != w.pid { // writers here have told watchers already
				received(msg.Payload)
			}
		case *pgproto3.DataRow:
			a.text = string(msg.Values[0])
		case *pgproto3.ErrorResponse:
			failure := pgdb.ServerError(msg)
			if a.err = failure; failure.Fatal {
				w.ended = failure
				return
			}
		case *pgproto3.ReadyForQuery:
			w.answers <- a
			a = hintAnswer{}
		}
	}
}

// close closes the connection; the server releases the locks of its session.
func (w *hintConn) close() {
	w.conn.SetDeadline(time.Now().Add(100 * time.Millisecond))
	w.front.Send(&pgproto3.Terminate{})
	_ = w.front.Flush()
	w.conn.Close()
}
