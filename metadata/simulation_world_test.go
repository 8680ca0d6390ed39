package metadata

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"example.com/lockstore/backoff"
	"example.com/lockstore/internal/seam"
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
	table     Table

	faults, panics int // per mille

	mu         sync.Mutex // of all that the model knows; nobody keeps it while it waits
	ops        []*op      // by their mark
	holds      []*hold
	holdsBegun map[string]int // of keys

	removals map[removal]int // that nobody was told of yet
	hosts    []*host

	hostsMeet bool
	strange   atomic.Bool // something failed that need not have

	pending  []*op // see live
	settled  int
	moment   int // see op.made
	offered  []simulate.Action
	stranger *backend
	inserted bool // it, or a write under a hold, has inserted a row, and may have no lock of it
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

	pipelines bool // its connections can

	connLeaders map[*connWaiter]watched
	judged      time.Time

	limit  int           // of attempts, by the policy; 0: none
	within time.Duration // of all attempts; 0: for ever

	yielding atomic.Int32 // goroutines that the schedule has stopped before they lock the queue
	closing  bool         // as closed, for who has the world's mutex
	closed   bool
}

// open makes a process's store. Statements are made once.
func (p *process) open(o *Options) {
	of := dialectOf{o.Timeout, o.Table.Name}
	d := dialects[of]
	if d == nil {
		store, err := newPostgres(p.pool, o)
		if err != nil {
			panic(err)
		}
		d = newDialect(store.pg.sql)
		dialects[of] = d
	}
	full, err := o.withDefaults()
	if err != nil {
		panic(err)
	}
	pg := &postgres{db: p.pool, options: &full, sql: d.sql, counts: new(counts)}
	pg.queues.byKey, pg.queues.connQueues = map[queueKey]*waitQueue{}, map[string]*connQueue{}
	pg.queues.closing = make(chan struct{})
	pg.reads.closing = pg.queues.closing
	if p.N(2) == 0 {
		pg.queues.pace.trip = time.Millisecond
	}
	pg.fits.Store(true)
	p.store, p.dialect = &Postgres{documents{engine: pg, options: &full, counts: pg.counts}, pg}, d
	pg.reads.of, pg.reads.most = map[readKey]*busyReads{}, simulate.One(p.Schedule, 1, 1, mostReads)
	for at, mu := range map[string]*seam.Mutex{"queue": &pg.queues.mu, "reads": &pg.reads.mu} {
		mu.Simulate(func() {
			p.yielding.Add(1)
			defer p.yielding.Add(-1)
			p.Yield(at)
		})
	}
}

var dialects = map[dialectOf]*dialect{}

// dialectOf is what the statements depend on.
type dialectOf struct {
	timeout time.Duration
	table   string
}

func newWorld(s *simulate.Schedule) *world {
	w := &world{Schedule: s, docs: []string{"d0", "d1", "d2"}, keys: map[string]lock.Key{}, holdsBegun: map[string]int{}, removals: map[removal]int{}}
	w.server = newServer(w)
	w.faults = simulate.One(s, 0, 0, 10, 60)
	w.panics = simulate.One(s, 0, 0, 8, 25)
	w.table = Table{Tokens: DefaultTokens}
	w.hostsMeet = w.N(2) == 0
	if s.N(5) == 0 {
		w.table = Table{Name: "hosts", Version: "version", Tokens: DefaultTokens} // in which nobody but the host makes rows
	}
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
	p.pipelines = w.N(4) > 0
	p.pool = &pool{at: p, free: 1 + w.N(3), prepares: w.N(5) == 0}
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
	var principal func(context.Context) string
	if w.N(3) == 0 {
		principal = p.principal
	}
	p.open(&Options{
		Table:         w.table,
		Backoff:       policy,
		Timeout:       simulate.One(w.Schedule, 100*time.Millisecond, time.Second),
		MaxBatch:      simulate.One(w.Schedule, 0, 1, 2, 3),
		MaxBatchBytes: simulate.One(w.Schedule, 0, 1, 40, 120),
		MergeInGo:     w.N(5) == 0,

		MaxDocumentBytes: simulate.One(w.Schedule, 0, 0, 0, 100),
		MaxWaitingBytes:  simulate.One(w.Schedule, 0, 0, 40, 120),

		Principal:  principal,
		Observers:  []Observer{observer{p}},
		Logger:     slog.New(logger{p}),
		LockStatus: p.describe,
	})
	return p
}

// model has something happen in the model, which takes its mutex.
func (w *world) model(do func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	do()
}

func (w *world) key(id string) lock.Key { return w.keys[id] }

// A change is what one statement stored.
type change struct {
	id            string
	what          string
	op            *op // on whose behalf it was sent
	before, after *image
	fresh         marks
	from, to      int64
	claimed       map[int64]*op
}

// A removal is by whom a document was removed.
type removal struct {
	at *process
	id string
}

// about is d and a little more, so that hardly ever two timers end at once: which
// comes first then is up to the runtime.
func (w *world) about(d time.Duration) time.Duration {
	return d + time.Duration(w.N(int(time.Millisecond)))
}
