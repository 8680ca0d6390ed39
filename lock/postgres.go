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

// Postgres is a [Locker] whose locks are PostgreSQL's session-level advisory locks. One
// connection of its own, beside the host's pool, holds them, however many, and up to
// PostgresOptions.WaitConns more those that it had to queue for at the server; a waiter needs
// none. Its methods are safe for concurrent use.
type Postgres struct {
	table  keyTable
	open   opener
	db     pgdb.DB // the host's, for queries
	host   any     // as it was given
	opts   PostgresOptions
	chance chance

	unasked time.Duration // how long a busy key is described although the options do not ask for it

	// Protected by table.mu.
	session       *session // nil while there is no connection
	trouble       error    // why there is none
	backlog       []op     // tries for the next connection
	waitConns     waitConns
	look          *time.Timer     // polls for requests to evict, while there are locks
	evictRequests []*evictRequest // those found when their sessions last looked

	questions []question    // those found when the session last looked
	asked     time.Time     // when there last were any
	answering bool          // a goroutine answers them
	news      chan struct{} // signals that they have changed
	describes sync.Mutex    // held while a busy key is described although the options do not ask for it

	unwake func()

	life context.Context // ends with Close
	stop context.CancelFunc
	work sync.WaitGroup // goroutines that serve a session, or connect
}

var _ AllLocker = (*Postgres)(nil)

// NewPostgres connects to db's server as db itself does, and returns a Locker. Call Close when
// it is no longer needed. A nil opts means the defaults. It blocks until it is connected; ctx
// and ConnectTimeout bound that.
//
// Every connection of the Locker is one of pgx's, opened as the host's are, with all their
// hooks, and does not count towards the host's pool.
//
//   - Over database/sql the Locker takes a connection out of the pool, which is told that
//     it is gone. That works with pgx's driver, and with drivers around it that give
//     access to what they wrap, as XSAM/otelsql and Datadog's do. If the pool has none to
//     spare within a second, the Locker connects with the configuration of an earlier
//     connection, without hooks.
//   - Other drivers need PostgresOptions.Connect. NewPostgres then asks, on a connection
//     of the pool, whether both lead to the same database. If that changes later, Status,
//     List and Evict no longer see the Locker's locks, which Check reports, and package
//     metadata refuses to write under them.
//
// The error matches [ErrUnsupported] if locks would exclude no other session there: on a
// standby, in a read-only session, behind a connection pooler, or in another database than the
// pool's. It also does if the driver gives access to no connection and Connect is missing. It
// matches [ErrUnavailable] if the server cannot be reached. Other errors are those of
// connecting.
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
	p.wake() // for writers that wait already
	if err := p.sameDatabase(ctx); err != nil {
		_ = p.Close(ctx) // which holds nothing yet
		return nil, err
	}
	return p, nil
}

// newPostgres returns a Postgres without a session, and without a way to open one.
func newPostgres(host pgdb.DB, o PostgresOptions) *Postgres {
	p := &Postgres{db: host, opts: o, chance: defaultChance, unasked: answerTime / 2, news: make(chan struct{}, 1), unwake: func() {}}
	p.table.init(p, o)
	p.life, p.stop = context.WithCancel(context.Background())
	return p
}

// chance holds what is random or a matter of timing. A simulation draws it from its seed.
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
	p.table.counts.Sessions++
	s := p.session
	p.work.Go(func() { p.serve(s) })
	return nil
}

// Lock waits until no other caller holds key, and takes it exclusively. See [Locker.Lock]. It
// blocks until ctx ends, or PostgresOptions.Backoff gives up.
func (p *Postgres) Lock(ctx context.Context, key Key) (*Held, error) {
	return p.acquire(ctx, key, alone, false)
}

// TryLock takes key exclusively if it is free and has no waiter. See [Locker.TryLock]. It
// takes one round trip, or none if the key is held or waited for in this process. Without a
// connection its error matches [ErrUnavailable].
func (p *Postgres) TryLock(ctx context.Context, key Key) (*Held, error) {
	return p.acquire(ctx, key, alone, true)
}

// RLock waits until no other caller holds key exclusively, and takes a shared lock. See
// [Locker.RLock]. It blocks as Lock does.
func (p *Postgres) RLock(ctx context.Context, key Key) (*Held, error) {
	return p.acquire(ctx, key, shared, false)
}

// TryRLock takes a shared lock unless key is held or waited for exclusively. See
// [Locker.TryRLock]. Otherwise it is as TryLock.
func (p *Postgres) TryRLock(ctx context.Context, key Key) (*Held, error) {
	return p.acquire(ctx, key, shared, true)
}

func (p *Postgres) acquire(ctx context.Context, key Key, m mode, try bool) (*Held, error) {
	held, err := p.table.acquire(ctx, key, m, try)
	return held, p.described(ctx, err)
}

// described returns err, with the status if it says that a key is busy. After a long wait in a
// process that itself holds keys, as in a deadlock, it does so for one call at a time even if
// the options do not ask for it. err itself stays as it is: observers may have kept it.
func (p *Postgres) described(ctx context.Context, err error) error {
	var busy *BusyError
	switch {
	case !errors.Is(err, ErrBusy), !errors.As(err, &busy):
		return err
	case busy.Attempts == 0 && ctx.Err() != nil: // it has not asked for the key
		return err
	}
	long, within := busy.Waited >= longWait, time.Second
	if !p.opts.DescribeBusy {
		if within = p.unasked; !long || p.Stats().Holders == 0 || !p.describes.TryLock() {
			return err
		}
		defer p.describes.Unlock()
	}
	brief, cancel := context.WithTimeout(context.WithoutCancel(ctx), within)
	defer cancel()
	status, failed := p.status(brief, busy.Key, long, busy.Waited)
	if failed != nil {
		return err
	}
	described := *busy
	described.Status = &status
	return &described
}

// longWait is how long a wait is after which a busy key is described by who waits for whom.
const longWait = time.Second

// LockAll takes all of keys exclusively, or none of them. See [AllLocker.LockAll]. It waits
// like Lock, in whatever order the keys are given, and never deadlocks with another LockAll. A
// key given twice counts once. Keys that are free take one round trip together.
func (p *Postgres) LockAll(ctx context.Context, keys ...Key) (*Held, error) {
	held, err := p.table.acquireAll(ctx, keys)
	return held, p.described(ctx, err)
}

// Close releases every lock and ends the Locker. Calls that wait for a lock, and
// later ones, fail with [ErrClosed]; the contexts of holders are canceled with that cause.
//
// It returns when the connections are closed and all goroutines have ended. If ctx ends
// before, Close cuts the connections, and the error matches the context's cause; the server
// then releases the locks when it notices. Closing again does the same.
func (p *Postgres) Close(ctx context.Context) error {
	p.table.mu.Lock()
	p.table.close()
	if p.waitConns.retire != nil {
		p.waitConns.retire.Stop()
	}
	if p.look != nil {
		p.look.Stop()
	}
	sessions := p.sessions()
	p.table.unlock()
	p.stop()
	p.unwake()
	for _, s := range sessions {
		p.work.Go(s.leave) // a network that hangs can hold it up
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

// ask implements server. It tries the key on the session, or when there is one. If another
// process had the key, it waits at the server, if a connection is free for that. A key that
// others have requested is busy until they have seen that it was given up.
func (p *Postgres) ask(e *entry) {
	if p.withheld(e) {
		p.table.answered(e, false, nil, nil, time.Time{})
		return
	}
	if p.waitAtServer(e) {
		return
	}
	try := op{code: opTry, key: e.key.id, entry: e}
	if e.mode == shared {
		try.code = opTryShared
	}
	e.trouble = p.trouble
	if p.session != nil {
		if p.table.submit(p.session, try) {
			e.trouble = nil
			return
		}
		e.trouble = unavailable(p.session.reason())
	}
	p.backlog = append(p.backlog, try)
}

// inquire implements server.
func (p *Postgres) inquire(e *entry) {
	s := e.session // set while the key is held
	if s == nil {
		s = p.session
	}
	if s == nil || !p.table.submit(s, op{code: opWanted, key: e.key.id, entry: e}) {
		p.table.inquired(e, false, ErrUnavailable)
	}
}

// sessions returns all open sessions.
func (p *Postgres) sessions() []*session {
	sessions := slices.Clone(p.waitConns.all)
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
	p.submitReply(e.session, unlock)
}

// fence implements server.
func (p *Postgres) fence(f *request) *reply {
	r := newReply()
	p.submitReply(f.session, op{code: opFence, reply: r})
	return r
}

// confirm implements server. It uses a connection of the host's pool, so that waiting for
// standbys holds up no lock.
func (p *Postgres) confirm(ctx context.Context, s *session) error {
	var known bool
	var ignored string
	err := p.db.QueryRow(ctx, []any{&known, &ignored, &ignored}, confirmSQL, int64(s.backend.PID), s.backend.started())
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

func (p *Postgres) submitReply(s *session, o op) {
	if !p.table.submit(s, o) {
		o.reply.settle(0, ErrLost)
	}
}

// answered implements owner.
func (p *Postgres) answered(s *session, ops []op, at time.Time) {
	p.table.mu.Lock()
	var broken error
	var evicted []Key
	if len(ops) > 0 {
		p.table.counts.Batches++
		p.table.counts.Operations += int64(len(ops))
	}
	for _, o := range ops {
		s.looks.moved = s.looks.moved || o.code != opRest || o.err != nil
		switch o.code {
		case opTry, opTryShared:
			o.entry.contended = o.err == nil && o.value != 1
			p.table.answered(o.entry, o.value == 1 && !p.refuses(s, o), s, o.err, at)
		case opWait, opWaitShared:
			p.waited(s, o, at)
		case opWanted:
			p.table.inquired(o.entry, o.value == 1, o.err)
		case opFence:
			o.reply.settle(o.value, o.err)
		case opFlagged:
			p.flagged(s, o)
		case opRequests:
			evicted = p.readEvictRequests(s, o)
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
			p.freeWaitConn(s)
		}
	}
	p.lookLater()
	p.table.unlock()
	for _, key := range evicted {
		p.opts.Logger.Warn("lock: evicted", "key", key.String())
	}
	if broken != nil {
		// What else the session no longer holds is unknown.
		s.end(broken)
	}
}

// lost implements owner. The contexts of holders end; waiters ask again.
func (p *Postgres) lost(s *session, why error, unanswered []op) {
	p.table.mu.Lock()
	main := p.session == s
	if main {
		p.session, p.trouble = nil, unavailable(why)
	}
	p.waitConns.remove(s)
	p.dropEvictRequests(func(r *evictRequest) bool { return r.session == s })
	locks := p.table.lose(s, lost(why))
	s.lost = locks
	p.settle(unanswered, why)
	closed := p.table.closed
	p.table.unlock()
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

// settle answers operations for which there was no session.
func (p *Postgres) settle(ops []op, why error) {
	for _, o := range ops {
		switch {
		case o.code == opWanted:
			p.table.inquired(o.entry, false, unavailable(why))
		case o.entry != nil:
			p.table.answered(o.entry, false, nil, unavailable(why), time.Time{})
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

// connected takes the outcome of connect. The session answers the backlog, or, if there is
// none, the reason why. It reports whether the session is to be served.
func (p *Postgres) connected(s *session, err error) bool {
	p.table.mu.Lock()
	defer p.table.unlock()
	backlog := p.backlog
	p.backlog = nil
	if err != nil {
		p.trouble = unavailable(err)
		p.settle(backlog, err)
		return false
	}
	if p.table.closed {
		s.end(ErrClosed)
		return false
	}
	p.session = s
	p.table.counts.Sessions++
	if !p.table.submit(s, backlog...) {
		p.backlog = backlog // s is lost already; there will be another
	}
	return true
}
