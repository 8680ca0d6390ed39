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

// Server is a PostgreSQL server on which databases can be created. Its methods may be
// called concurrently.
type Server struct {
	in     *instance       // nil for a server named by PGTEST_DSN
	own    *ownership      // nil unless it is a dedicated server
	admin  *pgx.ConnConfig // for the maintenance database
	config *pgxpool.Config // for the others
	dsn    string
	id     string // of this lease: in its application_name and the names of its databases
	linger time.Duration
	serial atomic.Int64

	mu      sync.Mutex
	closing bool // start nothing new
	closed  bool
	idle    []*pgx.Conn
	open    map[*DB]struct{}
	stocks  map[string]*stock // by the template's key
	drops   []string          // databases to drop
	swept   bool
	working bool
	work    sync.WaitGroup // for the one goroutine that creates databases ahead and drops used ones
}

// newServer returns the server whose maintenance database is at this address.
func newServer(dsn string, cfg *pgxpool.Config) *Server {
	s := &Server{
		admin:  cfg.ConnConfig.Copy(),
		config: cfg,
		dsn:    dsn,
		id:     strings.ToLower(rand.Text()[:12]),
		open:   map[*DB]struct{}{},
		stocks: map[string]*stock{},
	}
	// A test's settings for the server must not affect the connections that manage databases.
	maps.Copy(s.admin.RuntimeParams, map[string]string{
		"application_name": leasePrefix + s.id, "search_path": "pg_catalog", "default_transaction_read_only": "off",
		"statement_timeout": "0", "lock_timeout": "0", "idle_session_timeout": "0",
	})
	s.admin.DefaultQueryExecMode = pgx.QueryExecModeExec // preparing does not pay: each statement runs once or twice
	return s
}

// Start returns a server for a program that is not a test; tests call [New]. The options
// choose the server, as they do for New. The caller must call [Server.Close].
//
// The context limits the start. The first start on a machine takes a second, or longer if
// PostgreSQL must be downloaded. The error matches [ErrNotFound] if there is no PostgreSQL.
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

// URL returns the address of the server's maintenance database, with a superuser's
// password. Do not log it. For a server of PGTEST_DSN it is that DSN.
func (s *Server) URL() string { return s.dsn }

// New creates a fresh database. Only the option [Template] has an effect here; the others
// choose a server. [DB.Close] and [Server.Close] drop the database.
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

// database returns the handle of a database that exists.
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

// newName returns a unique name for a database, which identifies this lease as its owner.
func (s *Server) newName() string { return fmt.Sprintf("pgtest_%s_%d", s.id, s.serial.Add(1)) }

// Close closes the databases that are still open and releases the server: a [Dedicated]
// server ends now, a shared one when it has been unused for a while. Only callers of
// [Start] need it; the server of [New] is released without it. Further calls do nothing.
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
