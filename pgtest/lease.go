package pgtest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A server runs while there is a lease: a connection to its maintenance database with an
// application_name that begins with leasePrefix. All connections that manage databases are
// leases. A process keeps them open until it ends, in whatever way.

// Leases and the watchdog find each other in pg_stat_activity by application_name.
const (
	leasePrefix  = "pgtest lease "
	watchdogName = "pgtest watchdog"
	closingName  = "pgtest closing"
)

var (
	errClosing = errors.New("pgtest: the server is about to end")
	errClosed  = errors.New("pgtest: closed")
)

// take returns a connection to the maintenance database; put gives it back.
func (s *Server) take(ctx context.Context) (*pgx.Conn, error) {
	for {
		conn, err := s.pop()
		if err != nil {
			return nil, err
		}
		if conn == nil {
			return s.dial(ctx)
		}
		if conn.Ping(ctx) == nil { // the server may have been restarted, or the backend terminated
			return conn, nil
		}
		conn.Close(ctx)
	}
}

func (s *Server) pop() (*pgx.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	n := len(s.idle)
	if n == 0 {
		return nil, nil
	}
	conn := s.idle[n-1]
	s.idle = s.idle[:n-1]
	return conn, nil
}

func (s *Server) put(conn *pgx.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || conn.IsClosed() {
		conn.Close(context.Background())
		return
	}
	s.idle = append(s.idle, conn)
}

// busyWait limits the wait for a server that cannot accept a connection at the moment.
const busyWait = 15 * time.Second

// dial opens a lease and, except on a server of PGTEST_DSN, starts a watchdog if none runs.
func (s *Server) dial(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, busyWait)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, s.admin)
	for busy(err) && pause(ctx, 5*time.Millisecond) == nil {
		conn, err = pgx.ConnectConfig(ctx, s.admin)
	}
	if err != nil {
		return nil, fmt.Errorf("pgtest: connect: %w", err)
	}
	if s.in != nil {
		err = s.watch(ctx, conn)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	return conn, nil
}

// busy reports whether a server may accept a connection later: it is starting or
// recovering (57P03), or has no connection left (53300).
func busy(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && (pgErr.Code == "57P03" || pgErr.Code == "53300")
}

func (s *Server) watch(ctx context.Context, lease *pgx.Conn) error {
	const sql = `SELECT coalesce(bool_or(application_name = $1), false), coalesce(bool_or(application_name = $2), false)
		FROM pg_stat_activity`
	var watched, closing bool
	err := lease.QueryRow(ctx, sql, watchdogName, closingName).Scan(&watched, &closing)
	switch {
	case err != nil:
		return fmt.Errorf("pgtest: look for the watchdog: %w", err)
	case closing:
		return errClosing
	case watched:
		return nil
	}
	return startWatchdog(ctx, s.admin, s.linger)
}

// exec runs a statement in the maintenance database.
func (s *Server) exec(ctx context.Context, sql string, args ...any) error {
	conn, err := s.take(ctx)
	if err != nil {
		return err
	}
	defer s.put(conn)
	_, err = conn.Exec(ctx, sql, args...)
	return err
}

// row reads one row in the maintenance database.
func (s *Server) row(ctx context.Context, sql string, args []any, into ...any) error {
	conn, err := s.take(ctx)
	if err != nil {
		return err
	}
	defer s.put(conn)
	return conn.QueryRow(ctx, sql, args...).Scan(into...)
}

// stays waits for d. It returns an error at once if the connection or the context ends.
func stays(ctx context.Context, conn *pgx.Conn, d time.Duration) error {
	brief, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	for {
		_, err := conn.WaitForNotification(brief) // there are no notifications
		if brief.Err() != nil && ctx.Err() == nil && !conn.IsClosed() {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// keep holds a lease until the context ends, also through crashes and restarts of a
// dedicated server. Every second it starts a watchdog if none runs: the one that dial saw
// may have been about to end, together with the lease before this one. (Leases on the
// shared server are renewed by their next use.)
func (s *Server) keep(ctx context.Context) {
	for ctx.Err() == nil {
		conn, err := s.dial(ctx)
		if err != nil {
			pause(ctx, 20*time.Millisecond)
			continue
		}
		for err == nil {
			if err = stays(ctx, conn, time.Second); err == nil {
				err = s.watch(ctx, conn)
			}
		}
		conn.Close(context.WithoutCancel(ctx))
	}
}
