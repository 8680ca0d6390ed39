package lock

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"example.com/lockstore/backoff"
	"example.com/lockstore/internal/seam"
)

// A keyTable is this process's lock table: for each key that is held or wanted here, an entry
// with its holders, and its waiters in the order of their calls. The server below it decides
// between processes. It is asked on behalf of an entry's first waiter only.
//
// An entry is in one of these states, and not in the table otherwise:
//
//	asking   the server has been asked for the key, and has not answered
//	pausing  the server said no; the timer will ask again
//	held     the key is this process's, and has at least one holder here; waiters for a
//	         shared lock wait for word whether other processes want it: see share
//
//	absent  --lock-----------> asking
//	asking  --yes------------> held      the first waiter is granted the key, and shared waiters
//	                                     behind a shared one; tries that are left fail
//	        --yes, none waits> absent    the key is unlocked
//	        --no-------------> asking    at the server, or for the next waiter if the policy
//	                                     gives up, or for a try that came after the question
//	                           pausing   otherwise
//	pausing --timer----------> asking
//	        --last one leaves> absent
//	held    --unlock---------> held      handed to the next, within this process's period
//	                           pausing   unlocked, as the period is over
//	                           asking    unlocked, to see who else waits at the server, or as the
//	                                     next lock is exclusive and the last was shared, or the
//	                                     other way round
//	                           absent    unlocked, as nothing waits
//	        --session lost---> asking    or absent; every holder's context is canceled
//
// mu protects all of it, and is never held across I/O. What a change of state asks of the
// server is collected under mu, and sent by unlock.
type keyTable struct {
	server  server
	policy  backoff.Policy
	period  time.Duration // how long a key is handed off here: see PostgresOptions.HandOff
	limits  handOffLimits
	maxKeys int             // maximum number of entries
	pick    func(n int) int // which of n keys to try first

	observers observers
	logger    *slog.Logger

	mu        seam.Mutex
	entries   map[int64]*entry
	forgotten sync.Pool  // entries for reuse
	unsent    []*session // sessions with operations to send
	closed    bool
	waiting   int   // number of requests that wait
	holding   int   // number of requests that hold
	counts    Stats // what has happened
}

func (t *keyTable) init(s server, o PostgresOptions) {
	t.server, t.policy, t.period, t.maxKeys = s, o.Backoff, o.HandOff, o.MaxKeys
	t.observers, t.logger = newObservers(o.Observers, o.Logger), o.Logger
	t.limits = handOffLimits{contended: 20, uncontended: 256}
	t.pick = rand.IntN
	t.entries = make(map[int64]*entry)
}

// A server decides between processes. Its methods are called with the table's mutex held and
// do not block. What they ask is sent when the mutex is unlocked.
type server interface {
	// ask asks for the key of e. The answer comes by table.answered, during the call or later,
	// exactly once.
	ask(e *entry)
	// waitAtServer is ask for a key that another process has, if it can be waited for at the
	// server. It reports whether that is so.
	waitAtServer(e *entry) bool
	// abandon says that nothing waits any more for what ask asked. The answer still comes.
	abandon(e *entry)
	// inquire asks whether another session has the key exclusively, or waits to. The answer
	// comes by table.inquired, during the call or later, exactly once.
	inquire(e *entry)
	// dropWanted says that e need not be waited for at the server, should that become possible.
	dropWanted(e *entry)
	// withheld reports whether the key must not go from one holder here to the next.
	withheld(e *entry) bool
	// release gives the key of e back. The answer comes by r, if that is not nil.
	release(e *entry, r *reply)
	// fence asks for a fencing token for r. A negative answer stands for its opposite, and the
	// token may be lost with the server until it is confirmed.
	fence(r *request) *reply
	// confirm waits until the tokens that s was given outlive a failover.
	confirm(ctx context.Context, s *session) error
	// database returns that of new locks, if that is known.
	database() database
}

// mode says whether a lock is exclusive or shared.
type mode uint8

const (
	alone mode = iota
	shared
)

type state uint8

const (
	asking state = iota
	pausing
	held
)

// An entry is one key that this process holds or wants.
type entry struct {
	key         Key // with the name that the first request here gave it
	state       state
	mode        mode        // asked for or held with
	waiters     waitQueue   // first come first
	holders     []*request  // while held
	one         [1]*request // the memory of holders, most of the time
	session     *session    // that holds the key, while held; nil in a Memory
	since       time.Time   // when the server granted the key
	periodStart time.Time   // start of this process's period with the key
	handOffs    int         // how often the key was handed off since it was granted
	contended   bool        // another process had the key when the server was last asked
	wanted      bool        // is in waitConns.wanted
	inquiring   bool        // server.inquire has not been answered
	writing     bool        // a write under a hold that has ended may still be under way
	trouble     error       // why the server did not answer last time
	waitConn    *session    // the session that waits at the server, while one does
	timer       *time.Timer // for the waiters' policies, while they wait for others
}

// first returns the waiter on whose behalf the server is asked.
func (e *entry) first() *request { return e.waiters.first }

// submit adds operations to a session, to be sent by unlock. It reports false if the session
// is lost.
func (t *keyTable) submit(s *session, ops ...op) bool {
	if !s.submit(ops...) {
		return false
	}
	if !slices.Contains(t.unsent, s) {
		t.unsent = append(t.unsent, s)
	}
	return true
}

// unlock ends a change of state, and sends what it has asked of the server.
func (t *keyTable) unlock() {
	var few [2]*session
	unsent := append(few[:0], t.unsent...)
	t.unsent = t.unsent[:0]
	t.mu.Unlock()
	flush(unsent)
}

// enter adds requests for their keys. Each is granted, waits in the wait queue, or has ended
// because the key is busy.
func (t *keyTable) enter(requests ...*request) {
	t.mu.Lock()
	defer t.unlock()
	for _, r := range requests {
		t.enterOne(r)
	}
}

func (t *keyTable) enterOne(r *request) {
	e := t.entries[r.key.id]
	switch {
	case t.closed:
		t.end(r, ErrClosed)
	case e == nil && len(t.entries) >= t.maxKeys:
		t.end(r, fmt.Errorf("%w: %d keys are held or wanted here", ErrTooMany, t.maxKeys))
	case e == nil:
		e = t.newEntry(r.key)
		t.enqueue(e, r)
		t.ask(e)
	case r.try && t.refuses(e, r):
		t.end(r, r.busy(nil))
	default:
		t.enqueue(e, r)
		t.arrived(e, r)
	}
}

// refuses reports whether a try would have to wait: for a holder here, or for a waiter here
// that it cannot share the key with. Other tries under way do not count, as they may fail.
func (t *keyTable) refuses(e *entry, r *request) bool {
	if e.state == held && (r.mode == alone || e.mode == alone || t.server.withheld(e)) {
		return true
	}
	for w := e.first(); w != nil; w = w.next {
		if !w.try && (w.mode == alone || r.mode == alone) {
			return true
		}
	}
	return false
}

func (t *keyTable) enqueue(e *entry, r *request) {
	r.entry = e
	e.waiters.push(r)
	t.waiting++
}

// arrived handles r, which has come last: what is under way for e serves r, too, or the server
// is asked for what r needs.
func (t *keyTable) arrived(e *entry, r *request) {
	switch {
	case e.state == held:
		if r.mode == shared {
			t.share(e)
		}
	case e.state == pausing && r.try:
		t.ask(e)
	case e.state == pausing:
		t.attend(e)
	case e.waiters.n == 1 && !r.try: // the answer was for a waiter that has left
		r.count()
		if e.waitConn != nil {
			t.scheduleServerWait(e)
		}
	case e.waitConn != nil && r.try:
		t.reconsider(e)
	case e.waitConn != nil:
		t.attend(e)
	}
}

// ask asks the server for the key on behalf of the first waiter, and of the tries right behind
// it that want the same mode.
func (t *keyTable) ask(e *entry) {
	first, now := e.first(), time.Now()
	e.state, e.mode = asking, first.mode
	e.stopTimer()
	for r := first; r != nil && r.mode == first.mode; r = r.next {
		if r.try || r == first && !r.due.After(now) {
			r.count()
		}
	}
	t.server.ask(e)
	if e.waitConn != nil {
		t.scheduleServerWait(e)
	}
}

// answered takes the server's answer to ask, which came at a time: the session now holds the
// key, or it is busy, or asking failed.
func (t *keyTable) answered(e *entry, granted bool, s *session, err error, at time.Time) {
	atServer := e.waitConn != nil
	e.waitConn = nil
	e.stopTimer()
	if granted {
		t.server.dropWanted(e)
		e.state, e.session, e.since, e.handOffs, e.trouble = held, s, at, 0, nil
		if e.periodStart.IsZero() {
			e.periodStart = e.since
		}
		t.offer(e, at)
		if e.state == held && e.mode == alone {
			t.endTries(e, nil, func(*request) bool { return true })
		}
		return
	}
	first := e.first()
	if err == nil || errors.Is(err, ErrUnavailable) {
		e.trouble = err
	}
	if !atServer { // a wait at the server is not for tries
		t.endTries(e, err, func(r *request) bool { return r.asked || err != nil })
	}
	if first != nil && !first.try && err != nil && !errors.Is(err, ErrUnavailable) {
		t.end(first, err)
	}
	t.denied(e)
	switch {
	case e.waiters.n == 0:
		t.forget(e)
	case e.first() != first || e.waiters.tries > 0:
		t.ask(e)
	default:
		e.mode = first.mode
		if err == nil && t.server.waitAtServer(e) {
			first.count()
			t.scheduleServerWait(e)
			return
		}
		e.state = pausing
		t.schedule(e)
	}
}

// endTries ends the waiting tries that satisfy meant, with err, or because the key is busy if
// that is nil.
func (t *keyTable) endTries(e *entry, err error, meant func(*request) bool) {
	for r := e.first(); r != nil && e.waiters.tries > 0; {
		behind := r.next
		if r.try && meant(r) {
			if err == nil {
				t.end(r, r.busy(nil))
			} else {
				t.end(r, err)
			}
		}
		r = behind
	}
}

// next asks on behalf of the new first waiter, or forgets the entry if there is none.
func (t *keyTable) next(e *entry) {
	if e.waiters.n == 0 {
		t.forget(e)
		return
	}
	t.ask(e)
}

// newEntry returns a new entry, and reuses a forgotten one if possible.
func (t *keyTable) newEntry(key Key) *entry {
	e, ok := t.forgotten.Get().(*entry)
	if !ok {
		e = new(entry)
	}
	*e = entry{key: key}
	e.holders = e.one[:0]
	t.entries[key.id] = e
	return e
}

func (t *keyTable) forget(e *entry) {
	e.stopTimer()
	t.server.dropWanted(e)
	delete(t.entries, e.key.id)
	if e.state == held && !e.inquiring { // otherwise an answer may still come
		t.forgotten.Put(e)
	}
}

func (t *keyTable) dequeue(r *request) {
	r.entry.waiters.remove(r)
	t.waiting--
}

// end ends a request that was not granted.
func (t *keyTable) end(r *request, err error) {
	if r.entry != nil {
		t.dequeue(r)
	}
	r.become(ended, err)
}

// withdraw ends a request whose call waits no longer, unless it was granted or had ended before.
func (t *keyTable) withdraw(r *request, why error) {
	t.mu.Lock()
	defer t.unlock()
	if r.state != waiting {
		return
	}
	e, wasFirst := r.entry, r.entry.first() == r
	t.end(r, r.busy(why))
	switch {
	case e.state == pausing && e.waiters.n == 0:
		t.forget(e)
	case e.state == asking && wasFirst:
		if e.waiters.n > 0 && !e.first().try { // the answer will be for the next one
			e.first().count()
		}
		t.reconsider(e)
	case e.state == held && wasFirst:
		t.share(e) // with shared waiters behind it
	}
}

// sorted returns the entries sorted by key, so that what ends many of them does so in the same
// order each time.
func (t *keyTable) sorted() []*entry {
	entries := make([]*entry, 0, len(t.entries))
	for _, id := range slices.Sorted(maps.Keys(t.entries)) {
		entries = append(entries, t.entries[id])
	}
	return entries
}

// close ends every request.
func (t *keyTable) close() {
	t.closed = true
	for _, e := range t.sorted() {
		for first := e.first(); first != nil; first = e.first() {
			t.end(first, ErrClosed)
		}
		t.endAll(e, ErrClosed)
		t.forget(e)
	}
}
