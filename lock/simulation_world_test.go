package lock

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"example.com/lockstore/backoff"
	"example.com/lockstore/internal/simulate"
)

// A world is a server, a few processes with a locker each, and their callers.
type world struct {
	*simulate.Schedule
	config

	// mu protects the model, and what its goroutines note. Its holder does not block, and asks
	// nothing of the code under test.
	mu            sync.Mutex
	server        *simServer
	processes     []*process
	dials         []*dial
	calls         []*call // that are not over
	numbered      int     // calls
	refused       []*call // in this step, as busy
	fences        fences
	evictions     []*simEviction
	evicted       []Key               // by them, and by those that are over
	ended         map[evictedHold]int // exclusive holds, by evictions
	evictRequests []*simRequest
	outsiders     []*backend
	writing       []*writer      // that have passed their check
	working       sync.WaitGroup // evictions, and calls of Close

	actions []simulate.Action // memory
	busy    [2]map[int64]int  // the last step at which a mode could not have had a key
	stalled time.Time         // when a goroutine was stopped last
	blocked atomic.Int32      // calls of Write
}

// A config is drawn for a whole play.
type config struct {
	options   PostgresOptions
	pace      pace
	limits    handOffLimits
	attempts  int           // that the policy allows; 0: any number
	within    time.Duration // that it allows; 0: any
	keys      []Key
	processes int
	memory    bool // instead of a server
	all       bool // LockAll is used
	observed  bool
	faults    int // of a thousand
	writers   bool
	panics    bool // of foreign code
	looks     time.Duration
}

func draw(s *simulate.Schedule) (c config) {
	c.options = PostgresOptions{
		HandOff:   simulate.One(s, time.Millisecond, 50*time.Millisecond, time.Hour),
		WaitConns: simulate.One(s, -1, 1, 2, 2),
		MaxKeys:   simulate.One(s, 2, 1000, 1000),
		Silence:   simulate.One(s, time.Second, 3*time.Second, 5*time.Second), ConnectTimeout: 2 * time.Second,
	}
	c.pace = pace{
		maxBatch: simulate.One(s, 2, 4, 256, 256),
		minBatch: simulate.One(s, 1, 2, 3, 16), maxSent: 3,
		spacing: simulate.One(s, time.Nanosecond, time.Millisecond, time.Hour), maxDepth: simulate.One(s, 2, 4, 16),
		manyLone: simulate.One(s, 1, 2, 8),
	}
	c.limits = handOffLimits{contended: simulate.One(s, 1, 2, 20), uncontended: simulate.One(s, 1, 3, 256)}
	for i := range 1 + s.N(3) {
		c.keys = append(c.keys, ID(int64(i+1)))
	}
	c.processes = simulate.One(s, 1, 2, 2, 2, 3, 3, 4)
	c.memory = s.N(16) == 0
	c.all = s.N(2) == 0
	c.observed = s.N(4) == 0
	c.writers = s.N(3) == 0
	c.panics = s.N(8) == 0
	c.looks = simulate.One(s, 5*time.Millisecond, 20*time.Millisecond, 100*time.Millisecond)
	c.faults = simulate.One(s, 0, 10, 50, 150)
	switch s.N(8) {
	case 0:
		c.attempts = 1 + s.N(4)
	case 1:
		c.within = simulate.One(s, 10*time.Millisecond, 100*time.Millisecond)
	}
	return c
}

func newWorld(s *simulate.Schedule, c config) *world {
	w := &world{Schedule: s, config: c, busy: [2]map[int64]int{{}, {}}, ended: make(map[evictedHold]int)}
	w.server = &simServer{w: w, lastPID: 100, xid: 700, durable: 700}
	w.options.Backoff = delays{w, true}
	switch {
	case c.attempts > 0:
		w.options.Backoff = backoff.Limit(delays{w, true}, c.attempts)
	case c.within > 0:
		w.options.Backoff = backoff.Within(delays{w, true}, c.within)
	}
	w.options.Logger = slog.New(logs{w})
	if c.memory {
		w.config.processes = 1
	}
	for i := range w.config.processes {
		w.processes = append(w.processes, newProcess(w, i))
	}
	return w
}

// A process is one Locker.
type process struct {
	w        *world
	id       int
	locker   AllLocker
	postgres *Postgres // nil: it has a Memory
	table    *keyTable
	observer *simObserver
	sessions []*session // that are not over
	frozen   atomic.Bool
	closing  bool
	queues   map[*entry][]*request // as they were a step ago
	outcomes outcomes
}

func newProcess(w *world, id int) *process {
	p := &process{w: w, id: id, queues: make(map[*entry][]*request)}
	if w.observed {
		p.observer = &simObserver{p: p}
	}
	if w.memory {
		m := NewMemory()
		p.locker, p.table = m, &m.table
	} else {
		o := w.options
		p.postgres = newPostgres(simHost{w: w, process: p}, o.withDefaults())
		p.postgres.open = p.open
		p.postgres.chance = chance{redial: delays{w: w}, polls: delays{w: w}, looks: w.looks, token: w.token}
		p.locker, p.table = p.postgres, &p.postgres.table
	}
	if p.observer != nil {
		p.table.observers = newObservers([]Observer{p.observer}, p.table.logger)
	}
	p.table.limits = w.limits
	p.table.pick = w.N
	p.table.mu.Simulate(func() { p.yield("the table") })
	if p.postgres != nil {
		p.start()
	}
	return p
}

// start opens the first session at once.
func (p *process) start() {
	done := make(chan error, 1)
	go func() { done <- p.postgres.start(context.Background()) }()
	p.w.Settle()
	p.w.accept(p.w.dials[0])
	if err := <-done; err != nil {
		panic(err)
	}
}

func (p *process) String() string { return fmt.Sprintf("process %d", p.id) }

// yield stops a goroutine of p now and then, and always while p is stopped.
func (p *process) yield(where string) {
	for p.frozen.Load() && !p.w.IsCalm() {
		p.w.Stop(where + " of " + p.String() + ", which stands still")
	}
	p.w.Yield(where)
}

// token returns one with as many digits as the others.
func (w *world) token() uint32 { return 1e9 + uint32(w.N(1e9)) }

// A dial is an attempt to connect.
type dial struct {
	process *process
	answer  chan *simConn // nil: refused
}

// open is an [opener].
func (p *process) open(ctx context.Context, _ *Postgres, isWaitConn bool) (*session, error) {
	d := &dial{process: p, answer: make(chan *simConn, 1)}
	p.w.mu.Lock()
	p.w.dials = append(p.w.dials, d)
	p.w.mu.Unlock()
	var conn *simConn
	select {
	case conn = <-d.answer:
	case <-ctx.Done():
		p.w.forget(d)
		select {
		case conn = <-d.answer: // too late
			if conn != nil {
				conn.Close()
			}
		default:
		}
		return nil, ctx.Err()
	}
	if conn == nil {
		return nil, errRefused
	}
	b := conn.backend
	s := newSession(conn, Backend{PID: b.pid, Start: b.start}, p.w.options.Silence, isWaitConn, watched{p.postgres, p})
	s.at = database{oid: 1, since: 1}
	s.mu.Lock() // its timer runs
	s.pace = p.w.pace
	s.reading.Simulate(func() {})
	s.writing.Simulate(func() { p.w.Yield("writing") })
	s.mu.Unlock()
	p.w.mu.Lock()
	p.sessions = append(p.sessions, s)
	p.w.mu.Unlock()
	return s, nil
}

func (w *world) forget(d *dial) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dials = slices.DeleteFunc(w.dials, func(o *dial) bool { return o == d })
}

// accept is the server's answer to a dial.
func (w *world) accept(d *dial) {
	w.forget(d)
	c := newConn(w)
	w.mu.Lock()
	c.backend = w.server.connect(d.process, c)
	w.mu.Unlock()
	w.Tell("%s begins", c.backend)
	d.answer <- c
	w.Settle()
}

func (w *world) refuse(d *dial) {
	w.forget(d)
	w.Tell("%s is refused", d.process)
	d.answer <- nil
}

// watched is a session's owner that notes when the session ends.
type watched struct {
	*Postgres
	process *process
}

func (o watched) lost(s *session, why error, unanswered []op) {
	o.process.w.mu.Lock()
	o.process.sessions = slices.DeleteFunc(o.process.sessions, func(t *session) bool { return s == t })
	o.process.w.mu.Unlock()
	o.Postgres.lost(s, why, unanswered)
}

// delays is a policy that waits for a while drawn by chance, and never gives up.
type delays struct {
	w       *world
	foreign bool // the host's, not the library's own
}

// Delay implements [backoff.Policy].
func (d delays) Delay(int, time.Duration) (time.Duration, bool) {
	if d.foreign {
		d.w.foreignCode()
	}
	return time.Duration(1+d.w.N(longestDelay)) * time.Millisecond, true
}

const longestDelay = 20

// logs adds the library's messages to the story.
type logs struct{ w *world }

// Enabled implements [slog.Handler].
func (l logs) Enabled(context.Context, slog.Level) bool { return l.w.IsTold() }

// Handle implements [slog.Handler].
func (l logs) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %s", a)
		return true
	})
	l.w.Tell("log: %s%s", r.Message, b.String())
	return nil
}

// WithAttrs implements [slog.Handler].
func (l logs) WithAttrs([]slog.Attr) slog.Handler { return l }

// WithGroup implements [slog.Handler].
func (l logs) WithGroup(string) slog.Handler { return l }
