package pgtest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// For each server, one goroutine creates the next databases ahead and drops the used ones,
// so that tests do not wait for either. It ends when there is nothing to do.

// stock is a process's supply of databases from one template.
type stock struct {
	template template
	asked    int      // how many databases tests have asked for
	ahead    []string // created, and not yet used
	broken   bool     // creating one ahead failed; the next test gets the error
}

// maxAhead limits the databases that are created ahead: as many as have been asked for,
// up to this. A package with one test needs no second one.
const maxAhead = 3

func (s *Server) fromStock(t template) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stocks[t.database()]
	if s.closing || st == nil || len(st.ahead) == 0 {
		return "", false
	}
	name := st.ahead[0]
	st.ahead = st.ahead[1:]
	st.asked++
	s.kick()
	return name, true
}

// restock counts a database that did not come from the stock.
func (s *Server) restock(t template) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stocks[t.database()]
	if st == nil {
		st = &stock{template: t}
		s.stocks[t.database()] = st
	}
	st.asked++
	s.kick()
}

// dropLater drops a database in the background.
func (s *Server) dropLater(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drops = append(s.drops, name)
	s.kick()
}

// kick starts the goroutine unless it runs. The caller holds mu.
func (s *Server) kick() {
	if s.working {
		return
	}
	s.working = true
	s.work.Go(func() {
		for job := s.next(); job != nil; job = s.next() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			job(ctx)
			cancel()
		}
	})
}

// next returns the most urgent job, nil if there is none.
func (s *Server) next() func(context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	dsn := s.in == nil // if this process is killed, no other one drops what it created ahead there
	for _, st := range s.stocks {
		if !dsn && !s.closing && !st.broken && len(st.ahead) < min(st.asked, maxAhead) {
			return func(ctx context.Context) { s.makeAhead(ctx, st) }
		}
	}
	if s.own != nil && s.closing {
		s.drops = nil // the server is removed as a whole
	}
	if len(s.drops) > 0 {
		name := s.drops[0]
		s.drops = s.drops[1:]
		return func(ctx context.Context) { s.drop(ctx, name) } // if this fails, another process's dropOrphans does
	}
	if !s.swept && s.own == nil {
		s.swept = true
		return s.dropOrphans
	}
	s.working = false
	return nil
}

func (s *Server) makeAhead(ctx context.Context, st *stock) {
	name, err := s.copyOf(ctx, st.template)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		st.broken = true
		return
	}
	st.ahead = append(st.ahead, name)
}

func (s *Server) drop(ctx context.Context, name string) error {
	conn, err := s.take(ctx)
	if err != nil {
		return err
	}
	defer s.put(conn)
	// The backends of closed connections take a moment to end, and DROP DATABASE waits for
	// them in steps of 100 ms. FORCE ends those that stay longer.
	if err = awaitUnused(ctx, conn, name); err == nil || errors.Is(err, errInUse) {
		_, err = conn.Exec(ctx, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
	}
	if err != nil {
		return fmt.Errorf("pgtest: drop database %s: %w", name, err)
	}
	return nil
}

var errInUse = errors.New("connections are still open")

// awaitUnused waits, for a second at most, until no backend is in the database.
func awaitUnused(ctx context.Context, conn *pgx.Conn, name string) error {
	const used = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = $1)"
	for deadline := time.Now().Add(time.Second); ; {
		var still bool
		err := conn.QueryRow(ctx, used, name).Scan(&still)
		switch {
		case err != nil || !still:
			return err
		case time.Now().After(deadline):
			return errInUse
		}
		if err := pause(ctx, 2*time.Millisecond); err != nil {
			return err
		}
	}
}

// dropOrphans drops the databases of processes that have ended, and those of failed tests whose
// time is over. A database that is in use stays.
func (s *Server) dropOrphans(ctx context.Context) {
	const orphans = `SELECT d.datname FROM pg_database d
		WHERE (d.datname ~ '^pgtest_[a-z0-9]{12}_[0-9]+$'
		       AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.application_name = $1 || split_part(d.datname, '_', 2))
		       OR to_timestamp(substring(d.datname FROM '^kept_.*_([0-9]+)_[a-z0-9]{12}_[0-9]+$')::bigint) < now() - $2::interval)
		  AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.datname = d.datname)`
	keep, err := keepTime()
	if err != nil {
		return
	}
	conn, err := s.take(ctx)
	if err != nil {
		return
	}
	defer s.put(conn)
	rows, err := conn.Query(ctx, orphans, leasePrefix, milliseconds(keep))
	if err != nil {
		return
	}
	names, _ := pgx.CollectRows(rows, pgx.RowTo[string])
	for _, name := range names {
		conn.Exec(ctx, "DROP DATABASE IF EXISTS "+name)
	}
}
