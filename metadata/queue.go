package metadata

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"example.com/lockstore/backoff"
	"example.com/lockstore/internal/seam"
	"example.com/lockstore/lock"
)

// A queue lets the writes of one document share commits. Of those who want to
// write it, one has the turn. He takes along, in order, those who came while
// the turn was another's, commits for all of them, answers them, and gives the
// turn to the first of those who have come meanwhile. So the busier a document
// is, the more writes a commit serves, while a lone write goes through at
// once. There is no goroutine but the callers', and nothing is kept of a
// document that nobody writes, but of the last one: see recent.
//
//	waiting  --turn----> leading  --settled--> done, with all that it decided on
//	         --taken---> taken    --settled--> done
//	                              --put back-> waiting again, or gone if its ctx
//	                                           has ended or the store was closed
//	         --ctx ends, policy gives up> gone
//	leading  --ctx ends, policy gives up, panic> gone
//
// A call that has been taken waits for its outcome whatever its context says,
// since it may be in the document already.
//
// Nobody's context, patience, rights or connection bounds anybody else's. A leader
// commits on a connection that was acquired with its own context, and takes along only
// those who have the same rights; no caller's deadline or cancellation ends a statement.
// Those behind a leader that gets no connection go on without it: see split.
//
// The rule that keeps this true: what has been decided on leaves the line in one
// critical section, and that comes as soon as the outcome is known, before anything
// foreign runs again: the host's pool gets its connection back, the turn is given on
// (with the connection there for the next; in a chain, as soon as a commit was sent), and the host's observer and logger are
// told, after that. Whatever foreign code does then, a panic included, it finds
// nothing half done.
type queue struct {
	mu        seam.Mutex
	lines     map[lineKey]*line
	closed    bool
	closing   chan struct{}
	sent      sync.WaitGroup       // turns with something on its way to the server
	boardings map[string]*boarding // by principal; there is one while there is a captain
	pace      pace                 // of chains
	recent    recent
	waits     waits
}

// lineKey tells apart writes under different holds, as they are made on different terms,
// and those of others wait for the end of the document's.
type lineKey struct {
	id    string
	under string // holdings.identity
}

// A line is those who want to write one document.
type line struct {
	key   lineKey
	lock  lock.Key
	calls []*call // if one leads, it is the first; the first so many are taken
	size  int     // of calls together
	led   bool    // else the turn is about to be given to the first
	apart bool    // its document has another line: see split
	taken int
	bytes int  // of those together
	busy  bool // the lock was found taken when it was last tried

	base   *base  // what the last commit has left, or will leave, if that is known
	misses int    // commits to come that leave none
	chain  *chain // commits under way, of which the calls are not in line; nil: none

	rowFirst bool // somebody else writes the document, too: no lone statements (the leader's to use)
}

// A call is one caller's write.
type call struct {
	*write
	since     time.Time
	polls     backoff.Sequence // its caller's patience, from its call on
	principal string           // see Options
	under     *holdings        // the same holds for all in a line
	line      *line            // that of a leader stays the same
	signal    chan struct{}    // that the call leads, or is done
	found     chan struct{}    // that another look found the lock taken
	asked     chan Document    // to decide on
	decisions chan *decision
	leads     bool
	flight    *flight       // its last, if it leads
	flown     bool          // that has been launched
	gone      bool          // it leads no more
	attempts  int           // that found the lock taken, by whoever led
	due       time.Time     // when its policy has it look again
	leaving   error         // what to tell it if it is put back, as it waits no longer
	wait      time.Duration // how long it may decide while it leads and others wait

	begun   bool // its change has run
	fate    fate
	doc     Document
	changes int64 // of the draft that doc was taken from
	first   *call // of the same commit, that it repeats
	lost    *VersionError
	err     error

	reports []report        // of what it has committed, for the host, once all are answered
	told    *observedCommit // its commit under way, that has no report yet
}

// fate is what has become of a call that was taken.
type fate uint8

const (
	undecided fate = iota // nothing of it can have been committed
	sent                  // it may have been: what could commit it has been sent
	decided               // its document or error is there
)

func became(calls []*call, f fate) {
	for _, c := range calls {
		c.fate = f
	}
}

func newCall(w *write, p backoff.Policy) *call {
	if w.try {
		p = backoff.Limit(p, 1)
	}
	return &call{write: w, since: time.Now(), polls: backoff.Start(p)}
}

// shares reports whether a call may be made together with another.
func (c *call) shares(other *call) bool {
	return !c.alone && !other.alone && c.principal == other.principal
}

// tell ends a call that waits.
func (c *call) tell(err error) {
	c.err = err
	c.signal <- struct{}{}
}

// result is what the caller of a write is told, with the error that it ended with: also
// where that is a conflict, the document.
func (c *call) result(err error) (Document, error) {
	if conflict, ok := err.(*VersionError); err == nil || ok && conflict == c.lost {
		return c.doc, err
	}
	return Document{}, err
}

// decide is the outcome of calls that share one: err, or what each of them has.
func decide(calls []*call, err error) {
	became(calls, decided)
	if err != nil {
		for _, c := range calls {
			c.err = err
		}
	}
}

// busyError is the error of a call that waited in vain: for the lock, if that was
// found taken, and else for the others' writes or a connection. Its caller leads,
// or has queue.mu.
func (l *line) busyError(c *call, cause error) error {
	if !l.busy && c.attempts == 0 {
		return fmt.Errorf("metadata: not its turn after %v: %w", time.Since(c.since).Round(time.Microsecond), cause)
	}
	return &lock.BusyError{Key: l.lock, Waited: time.Since(c.since), Attempts: c.attempts, Cause: cause}
}

// errQueueFull says why a call does not wait, though others do.
var errQueueFull = errors.New("metadata: MaxWaitingBytes wait for the document already")

// join lines up for the turn, and reports whether it is c's at once. There are no more
// than maxBytes in the line then, or it is c alone.
func (q *queue) join(key lineKey, k lock.Key, c *call, maxBytes int) (leads bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false, ErrClosed
	}
	l := q.lines[key]
	if l == nil {
		c.line = &line{key: key, lock: k, calls: []*call{c}, size: c.size, led: true}
		q.recall(c.line)
		q.lines[key] = c.line
		return true, nil
	}
	if c.size > maxBytes-l.size {
		return false, &lock.BusyError{Key: k, Waited: time.Since(c.since), Cause: errQueueFull}
	}
	c.waits()
	c.line = l
	l.calls = append(l.calls, c)
	l.size += c.size
	if l.chain != nil { // else somebody is about to pass
		q.offer(l)
	}
	return false, nil
}

// waits makes a call fit to wait.
func (c *call) waits() {
	if c.signal != nil {
		return
	}
	c.signal, c.found = make(chan struct{}, 1), make(chan struct{}, 1)
	if c.decide != nil {
		c.asked, c.decisions = make(chan Document, 1), make(chan *decision, 1)
	}
}

// wait returns when c leads or is done. Its policy is asked at each look by whoever
// leads that finds the lock taken, as it is while c leads; should it panic, c leaves.
func (q *queue) wait(ctx context.Context, c *call) (leads bool) {
	whole := false
	c.flown, c.gone = false, false
	defer func() {
		if !whole && !q.withdraw(c, backoff.ErrExhausted) {
			if <-c.signal; c.leads {
				q.pass(c.line, c)
			}
		}
	}()
	ended, found := ctx.Done(), c.found
	for {
		var cause error
		select {
		case <-c.signal:
			whole = true
			return c.leads
		case doc := <-c.asked:
			c.answer(doc)
		case <-ended:
			cause = causeOf(ctx)
		case <-found:
			if wait, ok := c.polls.Next(); ok {
				q.postpone(c, wait)
			} else {
				cause = backoff.ErrExhausted
			}
		}
		if cause != nil {
			if q.withdraw(c, cause) {
				whole = true
				return false
			}
			ended, found = nil, nil
		}
	}
}

// postpone has c not look again before wait has passed.
func (q *queue) postpone(c *call, wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	c.due = time.Now().Add(wait)
}

// withdraw takes a call out of its line. One that leads stays, and one that has
// been taken does until it is put back.
func (q *queue) withdraw(c *call, cause error) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := c.line
	i := slices.Index(l.calls, c)
	switch {
	case l.led && i == 0:
		return false
	case i < l.taken: // or under way, in a chain
		c.leaving = cause
		return false
	}
	l.calls = slices.Delete(l.calls, i, i+1)
	l.size -= c.size
	c.err = l.busyError(c, cause)
	return true
}

// take gathers the calls that the leader's commit is to serve: as many as are
// allowed, up to the next that does not share it, and no further than one that
// decides. When that has, take goes on with those behind.
func (q *queue) take(l *line, o *Options) ([]*call, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	decides := false
	if l.taken == 0 {
		if q.closed {
			return nil, ErrClosed
		}
		q.sent.Add(1)
		c := l.calls[0]
		l.taken, l.bytes, decides, c.fate = 1, c.size, c.decide != nil, undecided
	}
	n := l.taken
	for ; !decides && n < min(len(l.calls), o.MaxBatch) && l.calls[0].shares(l.calls[n]); n++ {
		c := l.calls[n]
		if l.bytes+c.size > o.MaxBatchBytes || l.chain != nil && c.decide != nil {
			break
		}
		l.bytes += c.size
		decides = c.decide != nil
		c.fate = undecided
	}
	l.taken = n
	return l.calls[:n:n], nil
}

// drop has a commit go on without a call that it was to serve.
func (q *queue) drop(l *line, c *call) {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(l.calls, c)
	l.calls = slices.Concat(l.calls[:i], l.calls[i+1:]) // not in the place that the leader looks at
	l.size -= c.size
	l.taken--
	c.tell(errLate)
}

// abandon decides on the calls of a leader that was stopped by a panic of foreign code:
// what had been decided stays so, and of what may have been committed the outcome is
// unknown. It returns how many these are, from the first on; the rest can be tried
// again.
func (q *queue) abandon(l *line) (n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for ; n < l.taken && l.calls[n].fate != undecided; n++ {
		if l.calls[n].fate == sent {
			decide(l.calls[n:n+1], ErrUnknownOutcome)
		}
	}
	return n
}

// begin is take for a statement that nobody lines up for: sent.Done ends it.
func (q *queue) begin() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return ErrClosed
	}
	q.sent.Add(1)
	return nil
}

// settle ends what take began. The first done calls, of which the first is the
// leader, have been decided on and are answered; the others are put back. If none has
// been, the leader leads on. Found says whether the lock was found taken.
func (q *queue) settle(l *line, done int, found bool) {
	q.mu.Lock()
	answered := l.calls[:done]
	q.foundTaken(l, found)
	l.calls[0].gone = done > 0
	for _, c := range answered {
		l.size -= c.size
	}
	if found {
		l.note(done)
	}
	q.putBack(l, done, found)
	l.calls, l.taken, l.led = l.calls[done:], 0, done == 0
	q.sent.Done()
	q.mu.Unlock()
	for i, c := range answered {
		if i > 0 {
			c.signal <- struct{}{}
		}
	}
}

// putBack has those that were taken, from the first on, wait again, but for those that
// wait no longer. Its caller has queue.mu.
func (q *queue) putBack(l *line, first int, found bool) {
	rest, behind := l.calls[:first], l.calls[l.taken:]
	for i, c := range l.calls[first:l.taken] {
		if leads := first+i == 0; leads || q.stays(l, c, found) {
			rest = append(rest, c) // in the same place
		}
	}
	l.calls, l.taken = append(rest, behind...), first
}

// stays reports whether one that was taken waits again; else it is told why not.
func (q *queue) stays(l *line, c *call, found bool) bool {
	var why error
	switch {
	case c.leaving != nil:
		why = l.busyError(c, c.leaving)
	case found && c.try:
		why = l.busyError(c, backoff.ErrExhausted)
	case q.closed:
		why = ErrClosed
	default:
		return true
	}
	l.size -= c.size
	c.tell(why)
	return false
}

// note has those from the first on know that the lock was found taken, whose time it
// was to look. The leader knows it.
func (l *line) note(first int) {
	now := time.Now()
	for i, c := range l.calls[first:] {
		switch leads := first+i == 0; {
		case leads:
			c.attempts++
		case !c.due.After(now):
			select {
			case c.found <- struct{}{}:
				c.attempts++
			default: // it has not asked its policy since the last one
			}
		}
	}
}

// pass gives the turn to the next. A leader, c, that still has it leaves. A line without
// anybody is forgotten.
func (q *queue) pass(l *line, c *call) {
	q.mu.Lock()
	if l.led && !c.gone {
		l.size -= c.size
		l.calls, l.led = l.calls[1:], false
	}
	ends, whole := l.ends(), false
	q.mu.Unlock()
	defer func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if ends {
			l.chain = nil
		}
		if i := slices.Index(l.calls, c); !whole && i >= 0 { // it was put back, and panics
			l.calls = slices.Delete(l.calls, i, i+1)
			l.size -= c.size
		}
		q.offer(l)
		if len(l.calls) == 0 {
			q.foundTaken(l, false)
		}
		if len(l.calls) == 0 && l.chain == nil && q.lines[l.key] == l {
			delete(q.lines, l.key)
			q.recent = recent{l, time.Now()}
		}
	}()
	if ends {
		l.chain.conn.Release()
	}
	whole = true
}

// appoint has the first lead.
func (l *line) appoint() {
	l.calls[0].leads = true
	l.calls[0].signal <- struct{}{}
}

// split has those behind a leader that waits for its connection go on without it.
func (q *queue) split(l *line, leader *call) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if l.led && l.calls[0] == leader && l.taken == 0 {
		q.divide(l)
	}
}

// letGo has all others go on without a leader that decides.
func (q *queue) letGo(l *line) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if l.taken > 1 {
		q.putBack(l, 1, false)
	}
	if l.taken > 0 {
		q.divide(l)
	}
}

// isAwaited reports whether others wait for a leader that decides.
func (q *queue) isAwaited(l *line) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(l.calls) > 1 || l.apart && q.lines[l.key] != nil
}

// divide has those behind a leader go on. That one keeps its line, in which it is alone,
// as if it were in another process. Its caller has queue.mu.
func (q *queue) divide(l *line) {
	if len(l.calls) == 1 {
		return
	}
	rest := &line{key: l.key, lock: l.lock, calls: l.calls[1:], size: l.size - l.calls[0].size, led: true}
	for _, c := range rest.calls {
		c.line = rest
	}
	l.calls, l.size, l.apart = l.calls[:1:1], l.calls[0].size, true
	q.lines[l.key] = rest
	rest.appoint()
}

// sleep returns when wait has passed, or why it has ended before: ctx has, or the store
// was closed.
func (q *queue) sleep(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return causeOf(ctx)
	case <-q.closing:
		return ErrClosed
	}
}

func (q *queue) isClosed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed
}

func (q *queue) close() {
	q.mu.Lock()
	if !q.closed {
		q.closed = true
		close(q.closing)
		for _, l := range q.lines {
			from := l.taken
			if l.led {
				from = max(from, 1)
			}
			for _, c := range l.calls[from:] {
				c.tell(ErrClosed)
			}
			l.calls = l.calls[:from]
		}
	}
	q.mu.Unlock()
	q.sent.Wait()
}
