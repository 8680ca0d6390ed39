package pgdb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"
)

// A Pipeline sends the same statement repeatedly, each time as its own transaction, without
// waiting for the answers. One goroutine may send while another receives.
type Pipeline interface {
	// Send sends the statement behind all previous ones. After an error, [Uncertain] says
	// whether it may have been executed.
	Send(ctx context.Context, sql string, args ...any) (Receive, error)

	// Confirm returns nil if QueryRow would have returned nil for a commit whose answer
	// was Noticed. Call it after all answers have been received.
	Confirm(ctx context.Context) error
}

// Receive scans the answer to a statement into dest, like QueryRow. Call it once, after the
// Receive of every previous statement.
type Receive func(ctx context.Context, dest []any) (Answer, error)

// An Answer is what Receive reports in addition to the row.
type Answer struct {
	Began   time.Time // when the server's message arrived that it has begun the statement
	Noticed bool      // the server sent a notice with the commit: see Confirm
}

// A pipeline is a [Pipeline] that writes the messages of the extended query protocol itself,
// with a Sync after each statement (PostgreSQL documentation, 55.2.4 Pipelining). It bypasses
// pgx for writing, because only one goroutine at a time may use pgx's connection: the
// receiver.
type pipeline struct {
	conn   *conn
	raw    *pgx.Conn
	tracer pgx.QueryTracer
	stmt   *pgconn.StatementDescription
	buffer []byte

	unread atomic.Int32 // answers that were not received yet
	torn   bool         // an answer was not read completely
}

// Pipeline implements [Conn]. There is no pipeline if pgx is not configured to cache prepared
// statements, as behind a pooler that sends each statement to another session, nor while a
// question is to be sent.
func (c *conn) Pipeline() Pipeline {
	p := &pipeline{conn: c}
	if c.taken == nil || c.question != nil || c.taken.on(func(conn *pgx.Conn) error {
		config := conn.Config()
		p.tracer = config.Tracer
		if config.DefaultQueryExecMode != pgx.QueryExecModeCacheStatement || config.StatementCacheCapacity == 0 {
			return ErrUnsupported
		}
		return nil
	}) != nil {
		return nil
	}
	c.pipeline = p
	return p
}

// Pipeline returns nil: other drivers have none.
func (*genericConn) Pipeline() Pipeline { return nil }

func (p *pipeline) Send(ctx context.Context, sql string, args ...any) (r Receive, err error) {
	if p.stmt != nil {
		return p.send(ctx, sql, args)
	}
	err = p.conn.on(func(conn *pgx.Conn) (err error) {
		p.raw = conn
		if p.stmt, err = conn.Prepare(ctx, sql, sql); err != nil {
			p.stmt = nil
			return Clean(err)
		}
		if r, err = p.send(ctx, sql, args); err != nil {
			abandon(conn)
		}
		return err
	})
	return r, err
}

// send writes a statement. Because of the Flush, the server reports at once that it has
// begun the statement.
func (p *pipeline) send(ctx context.Context, sql string, args []any) (Receive, error) {
	bind := pgproto3.Bind{PreparedStatement: p.stmt.Name, Parameters: make([][]byte, len(args))}
	for i, arg := range arrays(args) {
		bind.Parameters[i] = asText(arg)
	}
	message, err := bind.Encode(p.buffer[:0])
	for _, m := range []pgproto3.FrontendMessage{&pgproto3.Flush{}, &pgproto3.Execute{}, &pgproto3.Sync{}} {
		if err == nil {
			message, err = m.Encode(message)
		}
	}
	if err != nil {
		return nil, unsent{fmt.Errorf("driver cannot encode a statement (%T)", err)}
	}
	if p.buffer = message; len(message) > 64<<10 {
		p.buffer = nil
	}
	if p.tracer != nil {
		ctx = p.tracer.TraceQueryStart(ctx, p.raw, pgx.TraceQueryStartData{SQL: sql, Args: args})
	}
	p.unread.Add(1)
	socket := p.raw.PgConn().Conn()
	deadline, _ := ctx.Deadline()
	_ = socket.SetWriteDeadline(deadline)
	n, err := socket.Write(message)
	_ = socket.SetWriteDeadline(time.Time{})
	if err != nil {
		if n == 0 {
			err = unsent{err}
			p.unread.Add(-1)
		}
		_ = socket.Close() // so that receive fails
		p.trace(ctx, pgconn.CommandTag{}, err)
		return nil, Clean(err)
	}
	traced := ctx
	return func(ctx context.Context, dest []any) (Answer, error) {
		a, tag, err := p.receive(ctx, dest)
		p.trace(traced, tag, err)
		return a, Clean(err)
	}, nil
}

func (p *pipeline) trace(ctx context.Context, tag pgconn.CommandTag, err error) {
	if p.tracer != nil {
		p.tracer.TraceQueryEnd(ctx, p.raw, pgx.TraceQueryEndData{CommandTag: tag, Err: err})
	}
}

// asText returns an argument in the protocol's text format.
func asText(arg any) []byte {
	switch a := arg.(type) {
	case nil:
		return nil
	case string:
		return []byte(a)
	case int64:
		return strconv.AppendInt(nil, a, 10)
	}
	return fmt.Append(nil, arg)
}

// receive reads an answer up to ReadyForQuery.
func (p *pipeline) receive(ctx context.Context, dest []any) (a Answer, tag pgconn.CommandTag, err error) {
	if p.torn {
		return a, tag, io.ErrUnexpectedEOF
	}
	p.torn = true
	conn := p.raw.PgConn()
	deadline, _ := ctx.Deadline()
	_ = conn.Conn().SetReadDeadline(deadline)
	err = pgx.ErrNoRows
	for {
		message, failed := conn.ReceiveMessage(context.Background())
		if failed != nil {
			p.conn.hangUp()
			return a, tag, broken(failed)
		}
		switch m := message.(type) {
		case *pgproto3.BindComplete:
			a.Began = time.Now()
		case *pgproto3.DataRow:
			err = p.scan(m, dest)
		case *pgproto3.CommandComplete:
			tag = pgconn.NewCommandTag(string(m.CommandTag))
		case *pgproto3.NoticeResponse:
			a.Noticed = a.Noticed || err != pgx.ErrNoRows
		case *pgproto3.ErrorResponse:
			err = pgconn.ErrorResponseToPgError(m)
		case *pgproto3.ReadyForQuery:
			_ = conn.Conn().SetReadDeadline(time.Time{})
			p.torn = false
			p.unread.Add(-1)
			return a, tag, err
		}
	}
}

func (p *pipeline) scan(row *pgproto3.DataRow, dest []any) error {
	for i, to := range dest {
		if err := p.raw.TypeMap().Scan(p.stmt.Fields[i].DataTypeOID, pgtype.TextFormatCode, row.Values[i], to); err != nil {
			return err
		}
	}
	return nil
}

// broken returns the error for an answer that cannot be read. pgx's own error would say that
// it is safe to retry, because pgx did not send the statement.
func broken(err error) error {
	var server *pgconn.PgError
	var network net.Error
	switch {
	case errors.As(err, &server):
		return server
	case errors.As(err, &network) && network.Timeout():
		return context.DeadlineExceeded
	}
	return io.ErrUnexpectedEOF
}

func (p *pipeline) Confirm(ctx context.Context) error {
	return (&notices{seen: true}).confirm(ctx, p.raw)
}
