package pgtest

import (
	"context"
	"errors"
	"os"
	"sync"

	"github.com/jackc/pgx/v5"
)

// ErrShared is returned by methods that need a [Dedicated] server.
var ErrShared = errors.New("pgtest: not a Dedicated server")

// ownership is what only a dedicated server has.
type ownership struct {
	lock        *os.File // keeps the directory from being swept while the server is stopped
	stopKeeping context.CancelFunc
	keeper      sync.WaitGroup

	mu     sync.Mutex // held during a whole change of state
	paused *pausing   // nil unless paused
}

// PID returns the postmaster's process id. It is 0 if the server does not run or is that of
// PGTEST_DSN. For root it comes from a file of the server's user, who is not trusted.
func (s *Server) PID() int {
	if s.in == nil {
		return 0
	}
	return s.in.pid()
}

// Stop stops the server like "pg_ctl stop -m fast": it rolls back transactions, terminates
// sessions, and writes everything to disk. It returns when no process is left. A server that
// does not run stays stopped. [Server.Restart] starts it again. The error is [ErrShared]
// unless the server is [Dedicated].
func (s *Server) Stop(ctx context.Context) error {
	return s.control(func() error { return s.stop(ctx, stopFast) })
}

// Restart stops the server like [Server.Stop], if it runs, and starts it. It returns when
// the server accepts connections, at the same URL. Changes by ALTER SYSTEM take effect. The
// error is [ErrShared] unless the server is [Dedicated].
func (s *Server) Restart(ctx context.Context) error {
	return s.control(func() error {
		alive, err := s.in.stop(ctx, stopFast)
		if err != nil {
			return err
		}
		return s.in.start(ctx, alive, func() error { return s.exec(ctx, "SELECT") }) // opens a lease, which starts a watchdog
	})
}

// Kill ends the server like "kill -9" of its postmaster and backends. It returns when no
// process is left. [Server.Restart] starts it again, with recovery from the WAL. The error
// is [ErrShared] unless the server is [Dedicated].
func (s *Server) Kill(ctx context.Context) error {
	return s.control(func() error {
		var backends []int
		if conn, err := s.take(ctx); err == nil {
			backends, _ = listBackends(ctx, conn)
			s.put(conn)
		}
		pids, err := s.in.processes(s.in.pid()) // includes those that pg_stat_activity does not show yet
		if err == nil {
			err = s.in.signal(stopHard, append(pids, backends...)...)
		}
		if err != nil {
			return err
		}
		return s.stop(ctx, stopNow)
	})
}

// stop stops a dedicated server and keeps its directory.
func (s *Server) stop(ctx context.Context, how stopMode) error {
	alive, err := s.in.stop(ctx, how)
	if err != nil {
		return err
	}
	return alive.Close()
}

// Pause freezes all the server's processes (SIGSTOP): connections stay open, and nothing
// answers. [Server.Resume] resumes them, and so do the other methods that change the
// server's state, and the end of this process. The error is [ErrShared] unless the server
// is [Dedicated].
func (s *Server) Pause(ctx context.Context) error {
	return s.control(func() error {
		conn, err := s.take(ctx)
		if err != nil {
			return err
		}
		defer s.put(conn)
		p, err := s.in.startPausing(s.in.pid())
		if err != nil {
			return err
		}
		// The postmaster is stopped, so there will be no more backends than these.
		pids, err := listBackends(ctx, conn)
		if err == nil {
			err = p.add(pids)
		}
		if err != nil {
			return errors.Join(err, p.end())
		}
		s.own.paused = p
		return nil
	})
}

// Resume resumes a paused server. If the server is not paused, it does nothing. The error is
// [ErrShared] unless the server is [Dedicated].
func (s *Server) Resume() error {
	return s.control(func() error { return nil })
}

// control resumes a dedicated server if it is paused, and then changes its state.
func (s *Server) control(change func() error) error {
	if s.own == nil {
		return ErrShared
	}
	s.own.mu.Lock()
	defer s.own.mu.Unlock()
	if p := s.own.paused; p != nil {
		s.own.paused = nil
		if err := p.end(); err != nil {
			return err
		}
	}
	return change()
}

// listBackends returns the process ids of the server without the postmaster.
func listBackends(ctx context.Context, conn *pgx.Conn) ([]int, error) {
	rows, err := conn.Query(ctx, "SELECT pid FROM pg_stat_activity")
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[int])
}
