package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Server is a running PostgreSQL server on which databases can be made.
// Its methods may be called concurrently.
type Server struct {
	in     *instance       // nil for a server named by PGTEST_DSN
	own    *ownership      // nil unless it is a dedicated server
	admin  *pgx.ConnConfig // for the maintenance database
	config *pgxpool.Config // for the others
	dsn    string
	id     string // this lease: in its application_name, and in the names of its databases
	linger time.Duration
	serial atomic.Int64

	mu      sync.Mutex
	closing bool // nothing new is begun
	closed  bool
	idle    []*pgx.Conn
	open    map[*DB]struct{}
	stocks  map[string]*stock // by the template's key
	drops   []string          // databases nobody needs any more
	swept   bool
	working bool
	work    sync.WaitGroup // of the one goroutine that works ahead and clears up
}

// newServer is a server whose maintenance database is at this address.
func newServer(dsn string, cfg *pgxpool.Config) *Server {
	s := &Server{
		admin:  cfg.ConnConfig.Copy(),
		config: cfg,
		dsn:    dsn,
		id:     strings.ToLower(rand.Text()[:12]),
		open:   map[*DB]struct{}{},
		stocks: map[string]*stock{},
	}
	// A test's settings for the server are not meant for the connections that make databases on it.
	maps.Copy(s.admin.RuntimeParams, map[string]string{
		"application_name": leasePrefix + s.id, "search_path": "pg_catalog", "default_transaction_read_only": "off",
		"statement_timeout": "0", "lock_timeout": "0", "idle_session_timeout": "0",
	})
	s.admin.DefaultQueryExecMode = pgx.QueryExecModeExec // each statement runs once or twice in a connection's life
	return s
}

// Start returns a lease on a server, for a program; a test calls [New]. The
// options choose the server as they do for New.
//
// The context bounds the starting, which takes a second on the first call on a
// machine, and longer where PostgreSQL must be downloaded. The error matches
// [ErrNotFound] when there is no PostgreSQL.
func Start(ctx context.Context, opts ...Option) (*Server, error) {
	o, err := newOptions(opts)
	if err != nil {
		return nil, err
	}
	return o.start(ctx)
}

func (o options) start(ctx context.Context) (*Server, error) {
	dsn := os.Getenv("PGTEST_DSN")
	switch {
	case o.dedicated:
		return dedicated(ctx, o)
	case dsn == "":
		return join(ctx, o)
	}
	cfg, err := parse(dsn)
	if err != nil {
		return nil, fmt.Errorf("pgtest: PGTEST_DSN: %w", err)
	}
	s := newServer(dsn, cfg)
	var fsync bool
	err = s.row(ctx, "SELECT current_setting('fsync')::bool", nil, &fsync)
	if err == nil && o.durable && !fsync {
		err = errors.New("a Durable server is wanted, and this one runs with fsync off")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("pgtest: PGTEST_DSN: %w", err), s.Close())
	}
	return s, nil
}

// URL is the address of the server's maintenance database, for a superuser, with
// the password: it is not for logs. (With PGTEST_DSN it is that DSN.)
func (s *Server) URL() string { return s.dsn }

// New makes a fresh database. Of the options it heeds [Template] alone; the
// others choose a server. The database ends with [DB.Close] or [Server.Close].
func (s *Server) New(ctx context.Context, opts ...Option) (*DB, error) {
	o, err := newOptions(opts)
	if err != nil {
		return nil, err
	}
	return s.create(ctx, o.template)
}

func (s *Server) create(ctx context.Context, t template) (*DB, error) {
	name, err := s.clone(ctx, t)
	if err != nil {
		return nil, err
	}
	db := s.database(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[db] = struct{}{}
	return db, nil
}

// database is the handle of a database that exists.
func (s *Server) database(name string) *DB {
	db := &DB{server: s, name: name, url: inDatabase(s.dsn, name), cfg: s.config.Copy()}
	db.cfg.ConnConfig.Database, db.cfg.MaxConns = name, maxConns
	if s.in != nil {
		db.logFrom = s.in.logSize()
	}
	return db
}

func (s *Server) forget(db *DB) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, db)
}

// newName is a name that no other database on the server has, and that says whose it is.
func (s *Server) newName() string { return fmt.Sprintf("pgtest_%s_%d", s.id, s.serial.Add(1)) }

// Close closes the databases that are still open and gives up the lease: a
// [Dedicated] server ends now, another when it has been unused for a while.
// Further calls do nothing. It is for who called [Start]; the server of a test's
// database is closed with the test.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return nil
	}
	s.closing = true
	open := slices.Collect(maps.Keys(s.open))
	s.mu.Unlock()
	var errs []error
	for _, db := range open {
		errs = append(errs, db.Close())
	}
	if s.own != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		s.own.stopKeeping()
		s.own.keeper.Wait()
		errs = append(errs, s.control(func() error { return s.in.end(ctx) }), s.own.lock.Close())
	}
	s.work.Wait()
	s.mu.Lock()
	for _, conn := range s.idle {
		conn.Close(context.Background())
	}
	s.idle, s.closed = nil, true
	s.mu.Unlock()
	if s.in != nil {
		s.in.dir.root.Close()
	}
	return errors.Join(errs...)
}
