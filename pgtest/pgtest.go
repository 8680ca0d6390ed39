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

// TB is the part of [testing.TB] that [New] uses. Programs that call [Start] need not
// link package testing.
type TB interface {
	Helper()
	Name() string
	Cleanup(func())
	Failed() bool
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Option selects the server and the content of a database: see [Template], [Dedicated],
// [Setting] and [Durable].
type Option func(*options)

type options struct {
	major     int
	durable   bool
	dedicated bool
	settings  map[string]string
	template  template
}

// Durable selects a server on which commits survive a crash of the machine. It has
// PostgreSQL's own defaults (fsync, full_page_writes, autovacuum) and its data on disk.
// Without Durable, databases are in memory where there is room, and commits survive only
// a crash of PostgreSQL itself. A server of PGTEST_DSN with fsync off is an error.
func Durable() Option { return func(o *options) { o.durable = true } }

// Dedicated starts a server for this test alone. [DB.Server] can stop, kill, pause and
// restart it; it ends with the test. It is started from local programs even if PGTEST_DSN
// is set.
func Dedicated() Option { return func(o *options) { o.dedicated = true } }

// Setting starts a [Dedicated] server with this setting in its postgresql.conf. The value
// is unquoted, as SHOW prints it. If listen_addresses is set and port is not, a free TCP
// port is chosen; the server's URL contains the port and the password for TCP connections.
// Setting a name that PostgreSQL cannot have, or a value with a NUL, is an error.
func Setting(name, value string) Option {
	return func(o *options) {
		o.dedicated = true
		if o.settings == nil {
			o.settings = map[string]string{}
		}
		o.settings[strings.ToLower(name)] = value // names are case-insensitive in the server, too
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

// New returns a fresh database for a test and drops it when the test ends. It finds and
// starts the server, shares it with the other tests of this user, and ends it, without a
// TestMain. It may be called from parallel tests, and several times in a test.
//
// Any error fails the test at once (Fatalf), as does waiting for five minutes; tests are
// never skipped. If the test has failed when it ends, the database is kept for a while:
// see the package documentation.
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

// startTimeout limits New, including a first download.
const startTimeout = 5 * time.Minute

// process holds the leases of this process's tests, which end with the process.
var process struct {
	sync.Mutex
	servers map[shared]*Server
}

// shared identifies one of the servers that tests share.
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
	// The server has ended since it was joined: join the next one.
	if s, err = processServer(ctx, o, s); err != nil {
		return nil, err
	}
	return s.create(ctx, o.template)
}

// processServer returns this process's server, or a new one if that is the one that is gone.
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
