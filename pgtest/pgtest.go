package pgtest

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"
)

// TB is the part of [testing.TB] that New uses. (A program that calls [Start]
// should not have to link package testing.)
type TB interface {
	Helper()
	Name() string
	Cleanup(func())
	Failed() bool
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Option says which kind of server or database is wanted.
type Option func(*options)

type options struct {
	major   int
	durable bool
}

func newOptions(opts []Option) (options, error) {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	if text := os.Getenv("PGTEST_VERSION"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < oldest {
			return o, fmt.Errorf("pgtest: PGTEST_VERSION=%q is not a major version from %d on", text, oldest)
		}
		o.major = n
	}
	return o, nil
}

func (o options) configuration() string {
	if o.durable {
		return configuration(baseSettings)
	}
	return configuration(baseSettings, fastSettings)
}

// Start returns a lease on a server, for a program; a test calls [New].
// The context bounds the starting, which takes a second or so on the first call
// on a machine. The error matches [ErrNotFound] when there is no PostgreSQL.
func Start(ctx context.Context, opts ...Option) (*Server, error) {
	o, err := newOptions(opts)
	if err != nil {
		return nil, err
	}
	if dsn := os.Getenv("PGTEST_DSN"); dsn != "" {
		s, err := newServer(dsn)
		if err != nil {
			return nil, fmt.Errorf("pgtest: PGTEST_DSN: %w", err)
		}
		if err := s.exec(ctx, "SELECT"); err != nil {
			return nil, fmt.Errorf("pgtest: PGTEST_DSN: %w", err)
		}
		return s, nil
	}
	return join(ctx, o)
}

// process holds the leases of this process's tests, which end with it.
var process struct {
	sync.Mutex
	servers map[options]*Server
}

// startTimeout bounds what New waits for, a first download included.
const startTimeout = 5 * time.Minute

// New returns a fresh database for a test, which it closes when the test ends.
// Whatever keeps it from doing so fails the test at once (Fatalf); tests are
// never skipped.
func New(tb TB, opts ...Option) *DB {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	db, err := fresh(ctx, opts)
	if err != nil {
		tb.Fatalf("%v", err)
		return nil
	}
	tb.Cleanup(func() {
		tb.Helper()
		if err := db.Close(); err != nil {
			tb.Errorf("%v", err)
		}
	})
	return db
}

func fresh(ctx context.Context, opts []Option) (*DB, error) {
	o, err := newOptions(opts)
	if err != nil {
		return nil, err
	}
	s, err := processServer(ctx, o, opts)
	if err != nil {
		return nil, err
	}
	db, err := s.New(ctx)
	if err == nil || s.in == nil || !s.in.gone() {
		return db, err
	}
	// The server ended under us: somebody killed it. The next one will do.
	process.Lock()
	delete(process.servers, o)
	process.Unlock()
	if s, err = processServer(ctx, o, opts); err != nil {
		return nil, err
	}
	return s.New(ctx)
}

func processServer(ctx context.Context, o options, opts []Option) (*Server, error) {
	process.Lock()
	defer process.Unlock()
	if s := process.servers[o]; s != nil {
		return s, nil
	}
	s, err := Start(ctx, opts...)
	if err != nil {
		return nil, err
	}
	if process.servers == nil {
		process.servers = map[options]*Server{}
	}
	process.servers[o] = s
	return s, nil
}
