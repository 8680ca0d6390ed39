package pgtest

import (
	"context"
	"errors"
	"os"
	"sync"

	"github.com/jackc/pgx/v5"
)

// ErrShared is the error of what only a [Dedicated] server can be asked to do.
var ErrShared = errors.New("pgtest: not a Dedicated server")

// ownership is what a dedicated server has over a shared one.
type ownership struct {
	lock        *os.File // keeps the directory from being swept up while the server is stopped
	stopKeeping context.CancelFunc
	keeper      sync.WaitGroup

	mu     sync.Mutex // held for a whole change of state: they come one after the other
	paused *pausing   // nil unless paused
}

// PID is the postmaster's process id, 0 when it does not run or is not ours. Where
// we are root, it is the word of the server's user.
func (s *Server) PID() int {
	if s.in == nil {
		return 0
	}
	return s.in.pid()
}

// Stop ends the server as "pg_ctl stop -m fast" does: transactions are rolled
// back, sessions terminated, and all is written. It returns when no process is
// left. [Server.Restart] starts it again; a server that does not run stays so.
// The error is [ErrShared] unless the server is [Dedicated].
func (s *Server) Stop(ctx context.Context) error {
	return s.control(func() error { return s.stop(ctx, stopFast) })
}

// Restart stops the server where it runs, as [Server.Stop] does, and starts it.
// It returns when connections are accepted, at the same URL. Settings made by
// ALTER SYSTEM take effect. The error is [ErrShared] unless the server is [Dedicated].
func (s *Server) Restart(ctx context.Context) error {
	return s.control(func() error {
		alive, err := s.in.stop(ctx, stopFast)
		if err != nil {
			return err
		}
		return s.in.start(ctx, alive, func() error { return s.exec(ctx, "SELECT") }) // a new lease, and so a watchdog
	})
}

// Kill ends the server as "kill -9" of its postmaster and backends does, and
// returns when no process is left. [Server.Restart] starts it again: it then
// recovers from its log. The error is [ErrShared] unless the server is [Dedicated].
func (s *Server) Kill(ctx context.Context) error {
	return s.control(func() error {
		var backends []int
		if conn, err := s.take(ctx); err == nil {
			backends, _ = listBackends(ctx, conn)
			s.put(conn)
		}
		pids, err := s.in.family(s.in.pid()) // with those that do not show in a list yet
		if err == nil {
			err = s.in.signal(stopHard, append(pids, backends...)...)
		}
		if err != nil {
			return err
		}
		return s.stop(ctx, stopNow)
	})
}

// stop stops a dedicated server, and leaves it so.
func (s *Server) stop(ctx context.Context, how stopMode) error {
	alive, err := s.in.stop(ctx, how)
	if err != nil {
		return err
	}
	return alive.Close()
}

// Pause freezes all the server's processes (SIGSTOP): connections stay open and
// nothing answers. [Server.Resume] ends it, and so does the end of this process.
// Other methods that change the server's state end it first. The error is
// [ErrShared] unless the server is [Dedicated].
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
		// The postmaster stands still, so there will be no more backends than these.
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

// Resume lets a paused server go on; one that is not paused it leaves alone.
// The error is [ErrShared] unless the server is [Dedicated].
func (s *Server) Resume() error {
	return s.control(func() error { return nil })
}

// control changes the state of a dedicated server that is not paused.
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

// listBackends returns the ids of all the server's processes but the postmaster.
func listBackends(ctx context.Context, conn *pgx.Conn) ([]int, error) {
	rows, err := conn.Query(ctx, "SELECT pid FROM pg_stat_activity")
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[int])
}
