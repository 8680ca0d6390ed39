package pgtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
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
	major     int
	durable   bool
	dedicated bool
	settings  map[string]string
	template  template
}

// Durable asks for a server on which a commit survives a crash of the machine:
// it runs with PostgreSQL's own defaults (fsync, full_page_writes, autovacuum)
// and has its data on disk. Without it, databases are in memory where that fits,
// and only a crash of PostgreSQL itself loses nothing.
func Durable() Option { return func(o *options) { o.durable = true } }

// Dedicated asks for a server of the test's own, which may be stopped, killed,
// paused and restarted through [DB.Server], and which ends with the test.
// It is started from local programs, also where PGTEST_DSN is set.
func Dedicated() Option { return func(o *options) { o.dedicated = true } }

// Setting asks for a [Dedicated] server with this in its postgresql.conf. The value
// is what SHOW is to answer: it is quoted here. Where
// listen_addresses is set and port is not, a free TCP port is chosen; the server's
// URL has the port and, for such connections, the password.
func Setting(name, value string) Option {
	return func(o *options) {
		o.dedicated = true
		if o.settings == nil {
			o.settings = map[string]string{}
		}
		o.settings[strings.ToLower(name)] = value // the server does not tell them apart, either
	}
}

func newOptions(opts []Option) (options, error) {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	for name, value := range o.settings {
		if !settingName.MatchString(name) || strings.ContainsRune(value, 0) {
			return o, fmt.Errorf("pgtest: Setting(%q, %q): PostgreSQL has no such names, and no NUL in values", name, value)
		}
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

// durationEnv reads a duration from the environment.
func durationEnv(name string, otherwise time.Duration) (time.Duration, error) {
	text := os.Getenv(name)
	if text == "" {
		return otherwise, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("pgtest: %s=%q is not a duration such as 30s", name, text)
	}
	return d, nil
}

func (o options) port() string { return cmp.Or(o.settings["port"], socketPort) }

func (o options) configuration() string {
	if o.durable {
		return configuration(baseSettings, o.settings)
	}
	return configuration(baseSettings, fastSettings, o.settings)
}

// New returns a fresh database for a test and closes it when the test ends. It
// needs nothing else: the server is found, started, shared with the other tests
// on this machine and ended without a TestMain.
//
// Whatever keeps it from doing so fails the test at once (Fatalf); tests are
// never skipped. The database of a test that failed is kept for a while: see
// the package comment.
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
		finish(tb, db)
	})
	return db
}

// startTimeout bounds what New waits for, a first download included.
const startTimeout = 5 * time.Minute

// process holds the leases of this process's tests. They end with it.
var process struct {
	sync.Mutex
	servers map[shared]*Server
}

// shared tells the servers apart that tests share.
type shared struct {
	major   int
	durable bool
}

func fresh(ctx context.Context, opts []Option) (*DB, error) {
	o, err := newOptions(opts)
	if err != nil {
		return nil, err
	}
	if o.dedicated {
		s, err := o.start(ctx)
		if err != nil {
			return nil, err
		}
		db, err := s.create(ctx, o.template)
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		return db, nil
	}
	s, err := processServer(ctx, o, nil)
	if err != nil {
		return nil, err
	}
	db, err := s.create(ctx, o.template)
	if err == nil || s.in == nil || !s.in.gone() && !errors.Is(err, errClosing) {
		return db, err
	}
	// The server was ended under us. The next one will do.
	if s, err = processServer(ctx, o, s); err != nil {
		return nil, err
	}
	return s.create(ctx, o.template)
}

// processServer returns this process's lease, other than the one that is gone.
func processServer(ctx context.Context, o options, gone *Server) (*Server, error) {
	process.Lock()
	defer process.Unlock()
	key := shared{o.major, o.durable}
	if s := process.servers[key]; s != nil && s != gone {
		return s, nil
	}
	s, err := o.start(ctx)
	if err != nil {
		return nil, err
	}
	if process.servers == nil {
		process.servers = map[shared]*Server{}
	}
	process.servers[key] = s
	return s, nil
}
