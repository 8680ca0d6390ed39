package metadata

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"example.com/lockstore/backoff"
	"example.com/lockstore/internal/simulate"
	"example.com/lockstore/lock"
)

// A world is one or two processes with a store each, on one table.
type world struct {
	*simulate.Schedule
	server    *server
	processes []*process
	docs      []string
	keys      map[string]lock.Key

	faults, panics int // per mille

	mu      sync.Mutex
	ops     []*op // by their mark
	tenures []*tenure
	turns   map[string]int // of keys
	hosts   []*host
	strange atomic.Bool // something failed that need not have

	pending  []*op // see live
	settled  int
	offered  []simulate.Action
	stranger *backend
}

// A process has a store, a pool and a locker.
type process struct {
	*world
	n       int
	store   *Postgres
	dialect *dialect
	pool    *pool
	locker  *locker
	seen    seen
	limit   int           // of attempts, by the policy; 0: none
	within  time.Duration // of all attempts; 0: for ever

	yielding atomic.Int32 // goroutines that the schedule has stopped before they lock the queue
	closing  bool
	closed   bool
}

// open makes a process's store. What is made of SQL for a Timeout is made once.
func (p *process) open(o *Options) {
	d := dialects[o.Timeout]
	if d == nil {
		store, err := newPostgres(p.pool, o)
		if err != nil {
			panic(err)
		}
		d = newDialect(store.pg.sql)
		dialects[o.Timeout] = d
	}
	full, err := o.withDefaults()
	if err != nil {
		panic(err)
	}
	pg := &postgres{db: p.pool, options: &full, sql: d.sql, counts: new(counts), defaultTable: true}
	pg.queue.lines = map[lineKey]*line{}
	pg.queue.closing = make(chan struct{})
	p.store, p.dialect = &Postgres{documents{engine: pg, options: &full, counts: pg.counts}, pg}, d
	pg.queue.mu.Simulate(func() {
		p.yielding.Add(1)
		defer p.yielding.Add(-1)
		p.Yield("queue")
	})
}

var dialects = map[time.Duration]*dialect{}

func newWorld(s *simulate.Schedule) *world {
	w := &world{Schedule: s, docs: []string{"d0", "d1", "d2"}, keys: map[string]lock.Key{}, turns: map[string]int{}}
	w.server = newServer(w)
	w.faults = simulate.One(s, 0, 0, 10, 60)
	w.panics = simulate.One(s, 0, 0, 8, 25)
	for _, id := range w.docs[:1+s.N(3)] {
		w.server.put(id, newImage([]byte("{}"), 1))
	}
	for n := range 1 + s.N(2) {
		w.processes = append(w.processes, w.newProcess(n))
	}
	for _, id := range w.docs {
		w.keys[id] = w.processes[0].store.Key(id)
	}
	return w
}

func (w *world) newProcess(n int) *process {
	p := &process{world: w, n: n}
	p.pool = &pool{at: p, free: 1 + w.N(3)}
	p.locker = &locker{at: p}
	var policy backoff.Policy = polls{p}
	switch w.N(5) {
	case 0:
		p.limit = 1 + w.N(4)
		policy = backoff.Limit(policy, p.limit)
	case 1:
		p.within = simulate.One(w.Schedule, 5*time.Millisecond, 50*time.Millisecond)
		policy = backoff.Within(policy, p.within)
	}
	p.open(&Options{
		Backoff:       policy,
		Timeout:       simulate.One(w.Schedule, 100*time.Millisecond, time.Second),
		MaxBatch:      simulate.One(w.Schedule, 0, 1, 2, 3),
		MaxBatchBytes: simulate.One(w.Schedule, 0, 1, 40, 120),
		MergeInGo:     w.N(5) == 0,
		Observer:      observer{p},
	})
	return p
}

func (w *world) key(id string) lock.Key { return w.keys[id] }

// A planned panic is of the host's making.
type planned string

// foreign is where the host's code runs, which takes long, or panics.
func (w *world) foreign(o *op, where string) {
	if w.Chance(w.panics) {
		w.strange.Store(true)
		w.Tell("panic: %s", where)
		panic(planned(where))
	}
	if o != nil {
		o.busy.Add(1)
		defer o.busy.Add(-1)
	}
	w.Yield(where)
}

// hooks is foreign for the store's statements; a host's own are no concern of ours.
func (w *world) hooks(o *op, where string) {
	if o != nil {
		w.foreign(o, where)
	}
}

// polls is a policy that looks again soon.
type polls struct{ p *process }

func (p polls) Delay(int, time.Duration) (time.Duration, bool) {
	p.p.yielding.Add(1)
	defer p.p.yielding.Add(-1)
	p.p.foreign(nil, "policy")
	return p.p.about(time.Duration(1+p.p.N(8)) * time.Millisecond), true
}

// seen is what a process's observer has been told.
type seen struct {
	made, failed, unknown, conflicts, rejected, busy atomic.Int64
	commits, decided, largest                        atomic.Int64
}

func (s *seen) wrote(err error) {
	for reason, count := range map[error]*atomic.Int64{
		ErrUnknownOutcome: &s.unknown, ErrConflict: &s.conflicts, ErrRejected: &s.rejected, lock.ErrBusy: &s.busy,
	} {
		if errors.Is(err, reason) {
			count.Add(1)
		}
	}
	if err == nil {
		s.made.Add(1)
	} else {
		s.failed.Add(1)
	}
}

type observer struct{ p *process }

func (o observer) Wrote(ctx context.Context, _ string, _ time.Duration, err error) {
	o.p.seen.wrote(err)
	if op := opOf(ctx); op != nil {
		op.observed++
	}
	o.p.foreign(opOf(ctx), "wrote")
}

func (o observer) Committed(ctx context.Context, _ string, writes int, _ time.Duration, _ error) {
	o.p.seen.commits.Add(1)
	o.p.seen.decided.Add(int64(writes))
	o.p.seen.largest.Store(max(o.p.seen.largest.Load(), int64(writes)))
	o.p.foreign(opOf(ctx), "committed")
}

// An op is one write, or one reading, that somebody asks for.
type op struct {
	n      int // its mark
	kind   string
	at     *process
	doc    string
	patch  json.RawMessage
	ctx    context.Context
	cancel context.CancelFunc
	since  time.Time

	view    int64 // IfVersion, or -1
	tenure  *tenure
	host    *host
	many    int // with so many others, that come next
	group   *op // that makes it
	rivals  int // attempts of its own that found the lock taken
	first   int // the document's history when it began
	decided int

	busy       atomic.Int32 // in the host's code
	connecting atomic.Bool  // waits for the pool, which only its context ends
	observed   int

	done     bool
	got      Document
	err      error
	panicked any

	applied int
	change  *change
}

// opKey is the context key of an op.
type opKey struct{}

func opOf(ctx context.Context) *op {
	o, _ := ctx.Value(opKey{}).(*op)
	return o
}

func (o *op) String() string {
	return fmt.Sprintf("op %d: %s of %s by process %d", o.n, o.kind, o.doc, o.at.n)
}

// overdue reports whether the op has reason to be answered at once.
func (o *op) overdue() bool {
	return !o.done && (o.ctx.Err() != nil || o.at.closing && !o.connecting.Load())
}

// A change is what one statement stored.
type change struct {
	id            string
	what          string
	op            *op // on whose behalf it was sent
	before, after *image
	fresh         marks
	from, to      int64
	altered       bool
	committed     bool
	claimed       map[int64]*op
}

// about is d and a little more, so that hardly ever two timers end at once: which
// comes first then is up to the runtime.
func (w *world) about(d time.Duration) time.Duration {
	return d + time.Duration(w.N(int(time.Millisecond)))
}

// lost counts an attempt that failed since somebody else was there.
func (o *op) lost() {
	if o != nil {
		o.rivals++
	}
}
