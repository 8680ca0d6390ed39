package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"crypto/rand"

	"github.com/jackc/pgx/v5"
)

// Server is a running PostgreSQL server that databases can be made on.
// Its methods may be called concurrently.
type Server struct {
	in     *instance // nil for a server named by PGTEST_DSN
	admin  *pgx.ConnConfig
	dsn    string
	lease  string // names this process's databases, and in application_name its connections
	linger time.Duration
	made   atomic.Int64

	mu     sync.Mutex
	idle   []*pgx.Conn
	closed bool
	drops  []string // databases still to be dropped
	drop   sync.WaitGroup
}

func newServer(dsn string) (*Server, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	s := &Server{admin: cfg, dsn: dsn, lease: strings.ToLower(rand.Text()[:10])}
	cfg.RuntimeParams["application_name"] = leasePrefix + s.lease
	// A test's settings for the server are not meant for the connections that make databases on it.
	for name, value := range map[string]string{
		"statement_timeout": "0", "lock_timeout": "0", "idle_session_timeout": "0",
		"default_transaction_read_only": "off", "search_path": "pg_catalog",
	} {
		cfg.RuntimeParams[name] = value
	}
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec // each statement runs once or twice in a connection's life
	return s, nil
}

// URL is the address of the server's maintenance database, for a superuser
// (with PGTEST_DSN: that DSN).
func (s *Server) URL() string { return s.dsn }

// take returns a connection to the maintenance database; put gives it back.
// They stay open: each is a lease, without which the server would end.
func (s *Server) take(ctx context.Context) (*pgx.Conn, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, errClosed
	}
	if n := len(s.idle); n > 0 {
		conn := s.idle[n-1]
		s.idle = s.idle[:n-1]
		s.mu.Unlock()
		return conn, nil
	}
	s.mu.Unlock()
	return pgx.ConnectConfig(ctx, s.admin)
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

// exec runs one statement that is not tied to a database of ours.
func (s *Server) exec(ctx context.Context, sql string, args ...any) error {
	conn, err := s.take(ctx)
	if err != nil {
		return err
	}
	defer s.put(conn)
	_, err = conn.Exec(ctx, sql, args...)
	return err
}

var errClosed = errors.New("pgtest: server closed")

// New makes a fresh database. The caller closes it with [DB.Close], or all of
// them with [Server.Close].
func (s *Server) New(ctx context.Context) (*DB, error) {
	name := fmt.Sprintf("pgtest_%s_%d", s.lease, s.made.Add(1))
	if err := s.exec(ctx, "CREATE DATABASE "+name); err != nil {
		return nil, fmt.Errorf("pgtest: make a database: %w", err)
	}
	return s.open(name)
}

func (s *Server) open(name string) (*DB, error) {
	dsn := inDatabase(s.dsn, name)
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("pgtest: PGTEST_DSN: %w", err)
	}
	return &DB{server: s, name: name, url: dsn, cfg: cfg}, nil
}

// inDatabase is the DSN, in either of its forms, with another database.
func inDatabase(dsn, database string) string {
	if u, err := url.Parse(dsn); err == nil && (u.Scheme == "postgres" || u.Scheme == "postgresql") {
		q := u.Query()
		q.Del("dbname")
		u.Path, u.RawQuery = "/"+database, q.Encode()
		return u.String()
	}
	return dsn + " dbname=" + database
}

// dropLater drops a database off the caller's path.
func (s *Server) dropLater(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drops = append(s.drops, name)
	if len(s.drops) == 1 {
		s.drop.Go(s.dropAll)
	}
}

func (s *Server) dropAll() {
	for {
		s.mu.Lock()
		if len(s.drops) == 0 {
			s.mu.Unlock()
			return
		}
		name := s.drops[0]
		s.mu.Unlock()
		s.dropNow(name) // what fails here is swept up by the next process
		s.mu.Lock()
		s.drops = s.drops[1:]
		s.mu.Unlock()
	}
}

func (s *Server) dropNow(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.exec(ctx, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)"); err != nil {
		return fmt.Errorf("pgtest: drop database %s: %w", name, err)
	}
	return nil
}

// Close drops what is still to be dropped and gives up the lease; a server that
// no process leases ends by itself soon after. Further calls do nothing.
func (s *Server) Close() error {
	s.drop.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, conn := range s.idle {
		conn.Close(context.Background())
	}
	s.idle = nil
	return nil
}
