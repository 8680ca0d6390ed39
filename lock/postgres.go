package lock

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"example.com/lockstore/backoff"
	"example.com/lockstore/internal/pgdb"
	others "example.com/lockstore/internal/waiting"
)

// Postgres is a [Locker] whose locks are PostgreSQL's session-level advisory
// locks. All of them, however many, are held by one connection of its own,
// beside the host's pool; who waits needs none. Its methods are safe for
// concurrent use.
type Postgres struct {
	queue  queue
	open   opener
	db     pgdb.DB // the host's, for questions
	host   any     // as it was given
	opts   PostgresOptions
	chance chance

	unasked time.Duration // for which a busy key is described unasked

	// Guarded by queue.mu.
	session  *session // nil while there is no connection
	trouble  error    // why there is none
	backlog  []op     // tries, until there is one
	parking  parking
	look     *time.Timer // for requests to evict, while there are locks
	requests []*request  // that were there when their sessions looked last

	questions []question    // that were there when the session looked last
	asked     time.Time     // when there were any last
	answering bool          // them
	news      chan struct{} // that they are others
	describes sync.Mutex    // by who describes a busy key unasked

	unwake func()

	life context.Context // until Close
	stop context.CancelFunc
	work sync.WaitGroup // serving a session, or connecting
}

var _ AllLocker = (*Postgres)(nil)

// NewPostgres connects to db's server as db itself does, and returns a Locker
// to be closed by Close. A nil opts means the defaults.
//
// Every connection of the Locker is one of pgx's, made as the host's are, with all
// their hooks, and has no place in the host's pool. Over database/sql it is one of the
// pool's, which is told that it is gone. That is had from pgx's driver, and from those
// around it that show what they wrap, as XSAM/otelsql and Datadog's do. Where the pool
// has none to spare within a second, a connection by the configuration of an earlier
// one has to do, for which no hook is called.
//
// Other drivers need Connect in the options. Then it is asked, on a connection of the
// pool, whether both lead to the same database. Should that change later, Status, List
// and Evict no longer see the Locker's locks, which Check tells; package metadata
// refuses to write under them.
//
// The error matches [ErrUnsupported] if locks would exclude nobody there: on a
// standby, read-only, behind a connection pooler, or in another database than the
// pool's; or if the driver shows no connection and Connect is missing; and
// [ErrUnavailable] if the server cannot be reached. Other errors are those of connecting.
func NewPostgres[D DB](ctx context.Context, db D, opts *PostgresOptions) (*Postgres, error) {
	host, err := pgdb.Open(db)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	o := opts.withDefaults()
	if err := observable(o.Observers); err != nil {
		return nil, err
	}
	p := newPostgres(host, o)
	p.host = db
	p.open = openerOf(db, p.opts.Connect)
	if err := p.start(ctx); err != nil {
		return nil, fmt.Errorf("lock: connect: %w", ofServer(err))
	}
	p.unwake = others.Wake(p.wake)
	p.wake() // for those that wait already
	if err := p.sameDatabase(ctx); err != nil {
		_ = p.Close(ctx) // which holds nothing yet
		return nil, err
	}
	return p, nil
}

// newPostgres is NewPostgres without a session, and without a way to open one.
func newPostgres(host pgdb.DB, o PostgresOptions) *Postgres {
	p := &Postgres{db: host, opts: o, chance: defaultChance, unasked: answerTime / 2, news: make(chan struct{}, 1), unwake: func() {}}
	p.queue.init(p, o)
	p.life, p.stop = context.WithCancel(context.Background())
	return p
}

// chance is what is left to it. A simulation draws it from its seed.
type chance struct {
	redial backoff.Policy // when to connect again
	polls  backoff.Policy // when to look whether an eviction is done
	looks  time.Duration  // how often a session that holds a key looks for requests
	token  func() uint32
}

var defaultChance = chance{
	redial: backoff.Exponential{Base: 10 * time.Millisecond, Cap: 250 * time.Millisecond},
	polls:  backoff.Default(),
	looks:  100 * time.Millisecond,
	token:  rand.Uint32,
}

// start opens the first session, and serves it.
func (p *Postgres) start(ctx context.Context) (err error) {
	if p.session, err = p.connect(ctx, false); err != nil {
		return err
	}
	p.queue.counts.Sessions++
	s := p.session
	p.work.Go(func() { p.serve(s) })
	return nil
}

// Lock is [Locker].Lock.
func (p *Postgres) Lock(ctx context.Context, key Key) (*Held, error) {
	return p.acquire(ctx, key, alone, false)
}

// TryLock is [Locker].TryLock. It takes a round trip, and none if the key is
// held or waited for in this process. Without a connection its error matches
// [ErrUnavailable].
func (p *Postgres) TryLock(ctx context.Context, key Key) (*Held, error) {
	return p.acquire(ctx, key, alone, true)
}

// RLock is [Locker].RLock.
func (p *Postgres) RLock(ctx context.Context, key Key) (*Held, error) {
	return p.acquire(ctx, key, shared, false)
}

// TryRLock is TryLock for a shared lock.
func (p *Postgres) TryRLock(ctx context.Context, key Key) (*Held, error) {
	return p.acquire(ctx, key, shared, true)
}

func (p *Postgres) acquire(ctx context.Context, key Key, m mode, try bool) (*Held, error) {
	held, err := p.queue.acquire(ctx, key, m, try)
	p.describe(ctx, err)
	return held, err
}

// describe adds the holder to an error that says that a key is busy. After a long wait of
// a process that itself holds keys, as in a deadlock, that is done by one call at a time
// even if the options do not ask for it.
func (p *Postgres) describe(ctx context.Context, err error) {
	var busy *BusyError
	if !errors.Is(err, ErrBusy) || !errors.As(err, &busy) {
		return
	}
	long, within := busy.Waited >= longWait, time.Second
	if !p.opts.DescribeBusy {
		if within = p.unasked; !long || p.Stats().Holders == 0 || !p.describes.TryLock() {
			return
		}
		defer p.describes.Unlock()
	}
	brief, cancel := context.WithTimeout(context.WithoutCancel(ctx), within)
	defer cancel()
	if status, err := p.status(brief, busy.Key, long, busy.Waited); err == nil {
		busy.Status = &status
	}
}

// longWait is what describes a busy key by who waits for whom.
const longWait = time.Second

// LockAll takes several keys: all of them, or none. It waits like Lock, in
// whatever order the keys are given, and never for somebody who waits for it
// in LockAll. Keys given twice count once. Keys that are free take one round
// trip together.
func (p *Postgres) LockAll(ctx context.Context, keys ...Key) (*Held, error) {
	held, err := p.queue.acquireAll(ctx, keys)
	p.describe(ctx, err)
	return held, err
}

// Close ends the Locker: who waits gets [ErrClosed], and so does who calls it
// later; who holds is told by its context, with that cause; every lock is
// released. It returns when the connection and all goroutines are gone. If ctx
// ends before, the connection is cut, and the error matches the context's
// cause; the server then releases the locks when it notices. Closing again
// does the same.
func (p *Postgres) Close(ctx context.Context) error {
	p.queue.mu.Lock()
	p.queue.close()
	if p.parking.retire != nil {
		p.parking.retire.Stop()
	}
	if p.look != nil {
		p.look.Stop()
	}
	sessions := p.sessions()
	p.queue.unlock()
	p.stop()
	p.unwake()
	for _, s := range sessions {
		p.work.Go(s.leave) // which a network that hangs can hold up
	}
	gone := make(chan struct{})
	go func() { p.work.Wait(); close(gone) }()
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		for _, s := range sessions {
			s.end(ErrClosed)
		}
		return fmt.Errorf("lock: close: %w", causeOf(ctx))
	}
}

// ask implements server: a try on the session, or when there is one. Where
// another process had the key, it parks, if there is a place. A key that others have
// requested is busy until they have seen that it was given up.
func (p *Postgres) ask(e *entry) {
	if p.withheld(e) {
		p.queue.answered(e, false, nil, nil, time.Time{})
		return
	}
	if p.park(e) {
		return
	}
	try := op{code: opTry, key: e.key.id, entry: e}
	if e.mode == shared {
		try.code = opTryShared
	}
	e.trouble = p.trouble
	if p.session != nil {
		if p.queue.request(p.session, try) {
			e.trouble = nil
			return
		}
		e.trouble = unavailable(p.session.reason())
	}
	p.backlog = append(p.backlog, try)
}

// inquire implements server.
func (p *Postgres) inquire(e *entry) {
	s := e.session // while held
	if s == nil {
		s = p.session
	}
	if s == nil || !p.queue.request(s, op{code: opWanted, key: e.key.id, entry: e}) {
		p.queue.inquired(e, false, ErrUnavailable)
	}
}

// sessions are all there are.
func (p *Postgres) sessions() []*session {
	sessions := slices.Clone(p.parking.all)
	if p.session != nil {
		sessions = append(sessions, p.session)
	}
	return sessions
}

// release implements server.
func (p *Postgres) release(e *entry, r *reply) {
	unlock := op{code: opUnlock, key: e.key.id, reply: r}
	if e.mode == shared {
		unlock.code = opUnlockShared
	}
	p.requestReply(e.session, unlock)
}

// fence implements server.
func (p *Postgres) fence(c *claim) *reply {
	r := newReply()
	p.requestReply(c.session, op{code: opFence, reply: r})
	return r
}

// confirm implements server, on a connection of the host's pool: what is waited for there
// holds up no lock.
func (p *Postgres) confirm(ctx context.Context, s *session) error {
	var known bool
	var ignored string
	var started int64
	if !s.backend.Start.IsZero() {
		started = s.backend.Start.UnixMicro()
	}
	err := p.db.QueryRow(ctx, []any{&known, &ignored, &ignored}, confirmSQL, int64(s.backend.PID), started)
	if errors.Is(err, pgdb.ErrNoRows) {
		return lost(errors.New("the server does not know the session"))
	}
	if err != nil {
		return fmt.Errorf("lock: fence: a standby has not confirmed it: %w", ofServer(err))
	}
	return nil
}

// database implements server.
func (p *Postgres) database() database {
	if p.session == nil {
		return database{}
	}
	return p.session.at
}

func (p *Postgres) requestReply(s *session, o op) {
	if !p.queue.request(s, o) {
		o.reply.settle(0, ErrLost)
	}
}

// answered implements owner.
func (p *Postgres) answered(s *session, ops []op, at time.Time) {
	p.queue.mu.Lock()
	var broken error
	var evicted []Key
	if len(ops) > 0 {
		p.queue.counts.Batches++
		p.queue.counts.Operations += int64(len(ops))
	}
	for _, o := range ops {
		s.looks.moved = s.looks.moved || o.code != opRest || o.err != nil
		switch o.code {
		case opTry, opTryShared:
			o.entry.rival = o.err == nil && o.value != 1
			p.queue.answered(o.entry, o.value == 1 && !p.refuses(s, o), s, o.err, at)
		case opWait, opWaitShared:
			p.waited(s, o, at)
		case opWanted:
			p.queue.inquired(o.entry, o.value == 1, o.err)
		case opFence:
			o.reply.settle(o.value, o.err)
		case opFlagged:
			p.flagged(s, o)
		case opRequests:
			evicted = p.requested(s, o, s.text)
		case opDrop, opDropShared:
			broken = errors.Join(broken, o.err)
		case opUnlock, opUnlockShared:
			if o.err == nil && o.value != 1 {
				o.err = errors.New("the server did not know of the lock")
			}
			if o.err != nil {
				broken = errors.Join(broken, o.err)
				o.err = lost(o.err)
			}
			o.reply.settle(o.value, o.err)
			p.vacate(s)
		}
	}
	p.lookLater()
	p.queue.unlock()
	for _, key := range evicted {
		p.opts.Logger.Warn("lock: evicted", "key", key.String())
	}
	if broken != nil {
		// What else the session no longer holds cannot be known.
		s.end(broken)
	}
}

// lost implements owner: holders are told, waiters carry on.
func (p *Postgres) lost(s *session, why error, unanswered []op) {
	p.queue.mu.Lock()
	main := p.session == s
	if main {
		p.session, p.trouble = nil, unavailable(why)
	}
	p.parking.remove(s)
	p.dropRequests(func(r *request) bool { return r.session == s })
	locks := p.queue.lose(s, lost(why))
	s.lost = locks
	p.settle(unanswered, why)
	closed := p.queue.closed
	p.queue.unlock()
	if closed {
		return
	}
	if main || locks > 0 {
		p.opts.Logger.Warn("lock: session lost", "backend", s.backend.PID, "locks", locks, "error", why)
	}
	if main {
		p.work.Go(p.reconnect)
	}
}

// settle answers operations that there was no session for.
func (p *Postgres) settle(ops []op, why error) {
	for _, o := range ops {
		switch {
		case o.code == opWanted:
			p.queue.inquired(o.entry, false, unavailable(why))
		case o.entry != nil:
			p.queue.answered(o.entry, false, nil, unavailable(why), time.Time{})
		default:
			o.reply.settle(0, lost(why))
		}
	}
}

// reconnect replaces the session, however long that takes.
func (p *Postgres) reconnect() {
	for _, err := range backoff.Attempts(p.life, p.chance.redial) {
		if err != nil {
			return // closed
		}
		s, err := p.connect(p.life, false)
		if p.connected(s, err) {
			p.opts.Logger.Info("lock: session restored", "backend", s.backend.PID)
			p.serve(s)
			return
		}
	}
}

// connected takes the outcome of connect, and has the backlog answered by the
// session or by the reason why there is none. It reports whether the session
// is to be served.
func (p *Postgres) connected(s *session, err error) bool {
	p.queue.mu.Lock()
	defer p.queue.unlock()
	backlog := p.backlog
	p.backlog = nil
	if err != nil {
		p.trouble = unavailable(err)
		p.settle(backlog, err)
		return false
	}
	if p.queue.closed {
		s.end(ErrClosed)
		return false
	}
	p.session = s
	p.queue.counts.Sessions++
	if !p.queue.request(s, backlog...) {
		p.backlog = backlog // s is dead already; there will be another
	}
	return true
}
