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

// Group commit: queues decide which writes of a document share a commit, and which of their
// callers leads it. This file knows neither SQL nor JSON, and has no goroutine: callers do all
// the work.
//
// Each document that is being written has a wait queue. The first call in it leads:
//
//  1. join appends a call to the queue. The first call of a new queue leads at once.
//  2. takeBatch decides which calls share the leader's commit. They are the batch: the leader and
//     the calls behind it, its followers, up to MaxBatch and MaxBatchBytes, up to the first
//     that does not share with the leader (see shares), and up to the first that decides (see
//     decide.go).
//  3. settle answers the calls that the commit has decided on, and puts the others back. In a
//     chain (see chain.go), launch and conclude do.
//  4. handOff passes the lead on: promote makes the first call lead, if isDue says that it is
//     time.
//
// So a lone write is committed at once, and the busier a document is, the more writes a commit
// serves. Nothing is kept of a document that nobody writes, except of the last one: see
// recent.
//
//	waiting  --first------> leading  --settled--> done, with its batch
//	         --taken------> taken    --settled--> done
//	                                 --put back-> waiting; gone, if its context has ended
//	                                              or the store is closed
//	         --context ends, policy gives up> gone
//	leading  --context ends, policy gives up, panic> gone
//
// A call that was taken waits for its outcome whatever its context says, since its write may
// be in the document already.
//
// No caller's context, patience, rights or connection limits another caller. A leader acquires
// its connection with its own context. Its followers have the same rights. No caller's
// deadline or cancellation ends a statement. Where a leader gets no connection, the calls
// behind it go on without it: see split.
//
// One rule keeps this true. Calls that were decided on leave the queue in one critical section,
// as soon as the outcome is known and before foreign code runs. Only after that does the
// host's pool get its connection back, and only then is the next call made the leader, so that
// it finds the connection there. (In a chain, the next call is made the leader as soon as a
// commit was sent.) The host's observer and logger are called last. Whatever foreign code
// does, even if it panics, it finds nothing half done.
type queues struct {
	mu         seam.Mutex
	byKey      map[queueKey]*waitQueue
	closed     bool
	closing    chan struct{}
	sent       sync.WaitGroup        // commits and statements that may be on their way to the server
	connQueues map[string]*connQueue // by principal, while one leads it
	pace       pace                  // of chains
	recent     recent
	waits      waits
}

// A queueKey is a document and the holds under which it is written. Writes under other holds
// are made on other terms: those without the document's hold wait until it ends.
type queueKey struct {
	id    string
	under string // carriedHolds.identity
}

// A waitQueue is the calls of one document that wait or lead.
type waitQueue struct {
	key   queueKey
	lock  lock.Key
	calls []*call // if led, the first leads; the first taken are its batch
	size  int     // of all calls
	led   bool    // else the first is to lead, once isDue says so
	apart bool    // the document has another queue: see split
	taken int
	bytes int  // of the batch
	busy  bool // the lock was found taken when it was last tried

	base   *base  // the document after the last commit, or as a sent one will leave it; nil: unknown
	misses int    // so many more commits leave no base
	chain  *chain // commits under way, whose calls are not in the queue; nil: none

	rowFirst bool // others write the document, too: no single statements (the leader's to use)
}

// A call is one caller's write.
type call struct {
	*write
	since     time.Time
	polls     backoff.Sequence // the caller's backoff policy, from its call on
	principal string           // see Options
	under     *carriedHolds    // the same for all calls of a queue
	queue     *waitQueue       // a leader's stays the same
	signal    chan struct{}    // the call leads, or is done
	found     chan struct{}    // an attempt found the lock taken
	asked     chan Document    // to decide on, from the leader
	decisions chan *decision
	leads     bool             // it was made the leader while it waited
	pipelined *pipelinedCommit // its last commit in a chain, if it leads
	launched  bool             // pipelined was launched
	gone      bool             // it no longer leads
	attempts  int              // that found the lock taken, whichever call led
	due       time.Time        // its policy allows no attempt before
	displaced int              // how often another row was there when it created its document
	leaving   error            // its error if it is put back, as it no longer waits
	wait      time.Duration    // how long it may decide as the leader while others wait

	begun   bool // its change was run
	fate    fate
	doc     Document
	changes int64 // of the working copy, when doc was taken from it
	first   *call // the call of the same commit that it repeats
	lost    *VersionError
	err     error

	reports []report        // of its commits, for the host, after all calls are answered
	told    *observedCommit // its commit under way, which has no report yet
}

// A fate is how far the write of a taken call has come.
type fate uint8

const (
	undecided fate = iota // it cannot have been committed
	sent                  // it may have been committed: the statement that commits it was sent
	decided               // its document or error is set
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

// tell ends a waiting call with an error.
func (c *call) tell(err error) {
	c.err = err
	c.signal <- struct{}{}
}

// result is what the caller gets with err: the document if there is no error, or if that is
// the call's own conflict.
func (c *call) result(err error) (Document, error) {
	if conflict, ok := err.(*VersionError); err == nil || ok && conflict == c.lost {
		return c.doc, err
	}
	return Document{}, err
}

// decide marks calls as decided: with err, or, if that is nil, with what each of them has.
func decide(calls []*call, err error) {
	became(calls, decided)
	if err != nil {
		for _, c := range calls {
			c.err = err
		}
	}
}

// busyError is the error of a call that waited in vain: a [lock.BusyError] if the document's
// lock was found taken, else an error that says that it waited for other writes or for a
// connection. Its caller leads, or has queues.mu.
func (wq *waitQueue) busyError(c *call, cause error) error {
	if !wq.busy && c.attempts == 0 {
		return fmt.Errorf("metadata: waited %v for other writes or a connection: %w", time.Since(c.since).Round(time.Microsecond), cause)
	}
	return &lock.BusyError{Key: wq.lock, Waited: time.Since(c.since), Attempts: c.attempts, Cause: cause}
}

// errQueueFull is why a call is refused at once while others wait.
var errQueueFull = errors.New("metadata: MaxWaitingBytes wait for the document already")

// join appends c to the queue of its document, and reports whether it leads at once. A queue has
// no more than maxBytes, except for a call alone.
func (q *queues) join(key queueKey, k lock.Key, c *call, maxBytes int) (leads bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false, ErrClosed
	}
	wq := q.byKey[key]
	if wq == nil {
		c.queue = &waitQueue{key: key, lock: k, calls: []*call{c}, size: c.size, led: true}
		q.recall(c.queue)
		q.byKey[key] = c.queue
		return true, nil
	}
	if c.size > maxBytes-wq.size {
		return false, &lock.BusyError{Key: k, Waited: time.Since(c.since), Cause: errQueueFull}
	}
	c.waits()
	c.queue = wq
	wq.calls = append(wq.calls, c)
	wq.size += c.size
	if wq.chain != nil { // else a leader is there, and hands off when it ends
		q.promote(wq)
	}
	return false, nil
}

// waits prepares a call for waiting.
func (c *call) waits() {
	if c.signal != nil {
		return
	}
	c.signal, c.found = make(chan struct{}, 1), make(chan struct{}, 1)
	if c.decide != nil {
		c.asked, c.decisions = make(chan Document, 1), make(chan *decision, 1)
	}
}

// wait returns when c leads, or is done. Each attempt that finds the lock taken, by whichever
// leader, costs c's own policy one wait, as attempts of c itself do. If the policy panics, c
// leaves.
func (q *queues) wait(ctx context.Context, c *call) (leads bool) {
	whole := false
	c.launched, c.gone = false, false
	defer func() {
		if !whole && !q.withdraw(c, backoff.ErrExhausted) {
			if <-c.signal; c.leads {
				q.handOff(c.queue, c)
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

// postpone notes that c's policy allows its next attempt after wait.
func (q *queues) postpone(c *call, wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	c.due = time.Now().Add(wait)
}

// withdraw removes a waiting call from its queue, and reports whether it did. A leader stays. A
// call that was taken, or is under way in a chain, leaves when it is put back.
func (q *queues) withdraw(c *call, cause error) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	wq := c.queue
	i := slices.Index(wq.calls, c)
	switch {
	case wq.led && i == 0:
		return false
	case i < wq.taken: // or under way, in a chain
		c.leaving = cause
		return false
	}
	wq.calls = slices.Delete(wq.calls, i, i+1)
	wq.size -= c.size
	c.err = wq.busyError(c, cause)
	return true
}

// takeBatch decides which calls share the leader's commit, and returns them, the leader first.
// The batch ends before the next call would exceed MaxBatch or MaxBatchBytes, or does not
// share with the leader, and after a call that decides. Once that has decided, takeBatch is
// called again and goes on behind it. In a chain the batch also ends before a call that
// decides.
func (q *queues) takeBatch(wq *waitQueue, o *Options) ([]*call, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	decides := false
	if wq.taken == 0 {
		if q.closed {
			return nil, ErrClosed
		}
		q.sent.Add(1)
		c := wq.calls[0]
		wq.taken, wq.bytes, decides, c.fate = 1, c.size, c.decide != nil, undecided
	}
	n := wq.taken
	for ; !decides && n < min(len(wq.calls), o.MaxBatch) && wq.calls[0].shares(wq.calls[n]); n++ {
		c := wq.calls[n]
		if wq.bytes+c.size > o.MaxBatchBytes || wq.chain != nil && c.decide != nil {
			break
		}
		wq.bytes += c.size
		decides = c.decide != nil
		c.fate = undecided
	}
	wq.taken = n
	return wq.calls[:n:n], nil
}

// shares reports whether two calls may be in one commit.
func (c *call) shares(other *call) bool {
	return !c.alone && !other.alone && c.principal == other.principal
}

// drop removes a call from the batch, whose commit goes on without it.
func (q *queues) drop(wq *waitQueue, c *call) {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(wq.calls, c)
	wq.calls = slices.Concat(wq.calls[:i], wq.calls[i+1:]) // in another array: the leader still reads the old one
	wq.size -= c.size
	wq.taken--
	c.tell(errSlowDecision)
}

// abandon decides on the batch of a leader that a panic of foreign code has stopped. Calls
// that were decided on stay so. For calls that may have been committed the outcome is unknown.
// It returns how many calls, from the first on, are decided on; the others can be tried again.
func (q *queues) abandon(wq *waitQueue) (n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for ; n < wq.taken && wq.calls[n].fate != undecided; n++ {
		if wq.calls[n].fate == sent {
			decide(wq.calls[n:n+1], ErrUnknownOutcome)
		}
	}
	return n
}

// begin counts a statement that needs no queue, as takeBatch does for a batch: sent.Done ends it.
func (q *queues) begin() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return ErrClosed
	}
	q.sent.Add(1)
	return nil
}

// settle ends a batch that takeBatch began. The first done calls, the leader among them, were
// decided on and are answered; the others are put back. If done is 0, the leader leads on.
// found says whether the lock was found taken.
func (q *queues) settle(wq *waitQueue, done int, found bool) {
	q.mu.Lock()
	answered := wq.calls[:done]
	q.foundTaken(wq, found)
	wq.calls[0].gone = done > 0
	for _, c := range answered {
		wq.size -= c.size
	}
	if found {
		wq.note(done)
	}
	q.putBack(wq, done, found)
	wq.calls, wq.taken, wq.led = wq.calls[done:], 0, done == 0
	q.sent.Done()
	q.mu.Unlock()
	for i, c := range answered {
		if i > 0 {
			c.signal <- struct{}{}
		}
	}
}

// putBack has the calls of the batch from first on wait again, at the same places; stays
// decides which of them leave instead. A leader stays. Its caller has queues.mu.
func (q *queues) putBack(wq *waitQueue, first int, found bool) {
	rest, behind := wq.calls[:first], wq.calls[wq.taken:]
	for i, c := range wq.calls[first:wq.taken] {
		if leads := first+i == 0; leads || q.stays(wq, c, found) {
			rest = append(rest, c) // keeps the order
		}
	}
	wq.calls, wq.taken = append(rest, behind...), first
}

// stays reports whether a call that is put back waits again. If not, it ends with an error.
func (q *queues) stays(wq *waitQueue, c *call, found bool) bool {
	var why error
	switch {
	case c.leaving != nil:
		why = wq.busyError(c, c.leaving)
	case found && c.try:
		why = wq.busyError(c, backoff.ErrExhausted)
	case q.closed:
		why = ErrClosed
	default:
		return true
	}
	wq.size -= c.size
	c.tell(why)
	return false
}

// note tells the calls from first on that the lock was found taken, if their policy allows
// another attempt by now. The leader knows already.
func (wq *waitQueue) note(first int) {
	now := time.Now()
	for i, c := range wq.calls[first:] {
		switch leads := first+i == 0; {
		case leads:
			c.attempts++
		case !c.due.After(now):
			select {
			case c.found <- struct{}{}:
				c.attempts++
			default: // it has not asked its policy since the last attempt
			}
		}
	}
}

// handOff has the next call lead, if it is due. If c still leads, it leaves. The queue is
// removed if it has no calls.
func (q *queues) handOff(wq *waitQueue, c *call) {
	q.mu.Lock()
	if wq.led && !c.gone {
		wq.size -= c.size
		wq.calls, wq.led = wq.calls[1:], false
	}
	ends, whole := wq.ends(), false
	q.mu.Unlock()
	defer func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if ends {
			wq.chain = nil
		}
		if i := slices.Index(wq.calls, c); !whole && i >= 0 { // it was put back, and Release panics
			wq.calls = slices.Delete(wq.calls, i, i+1)
			wq.size -= c.size
		}
		q.promote(wq)
		if len(wq.calls) == 0 {
			q.foundTaken(wq, false)
		}
		if len(wq.calls) == 0 && wq.chain == nil && q.byKey[wq.key] == wq {
			delete(q.byKey, wq.key)
			q.recent = recent{wq, time.Now()}
		}
	}()
	if ends {
		wq.chain.conn.Release()
	}
	whole = true
}

// promote makes the first call lead, if it is due. Its caller has queues.mu.
func (q *queues) promote(wq *waitQueue) {
	if q.isDue(wq) {
		wq.led = true
		wq.makeLeader()
	}
}

// isDue decides whether the first call of a queue is to lead. Without a chain it is to lead if
// no call leads. In a chain it is to lead once enough calls wait, in proportion to those under
// way, so that calls that come one by one make few commits. Its caller has queues.mu.
func (q *queues) isDue(wq *waitQueue) bool {
	ch, depth := wq.chain, q.pace.depth()
	switch {
	case wq.led, len(wq.calls) == 0:
		return false
	case ch == nil:
		return true
	case ch.over, ch.broken, ch.full, len(ch.commits) == 0, len(ch.commits) > depth, depth*len(wq.calls) < ch.callsUnderWay:
		return false
	}
	c := wq.calls[0]
	return c.decide == nil && !c.alone && c.principal == ch.principal && time.Since(ch.since) < chainLife
}

// makeLeader makes the first call the leader.
func (wq *waitQueue) makeLeader() {
	wq.calls[0].leads = true
	wq.calls[0].signal <- struct{}{}
}

// split has the calls behind leader go on without it, as it still waits for a connection.
func (q *queues) split(wq *waitQueue, leader *call) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if wq.led && wq.calls[0] == leader && wq.taken == 0 {
		q.divide(wq)
	}
}

// letGo has all other calls go on without the leader, which takes long to decide.
func (q *queues) letGo(wq *waitQueue) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if wq.taken > 1 {
		q.putBack(wq, 1, false)
	}
	if wq.taken > 0 {
		q.divide(wq)
	}
}

// isAwaited reports whether other calls wait for a leader that decides.
func (q *queues) isAwaited(wq *waitQueue) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(wq.calls) > 1 || wq.apart && q.byKey[wq.key] != nil
}

// divide moves the calls behind the leader to a new queue, with a leader of its own. The old
// leader keeps its queue, alone, as if it were in another process. Its caller has queues.mu.
func (q *queues) divide(wq *waitQueue) {
	if len(wq.calls) == 1 {
		return
	}
	rest := &waitQueue{key: wq.key, lock: wq.lock, calls: wq.calls[1:], size: wq.size - wq.calls[0].size, led: true}
	for _, c := range rest.calls {
		c.queue = rest
	}
	wq.calls, wq.size, wq.apart = wq.calls[:1:1], wq.calls[0].size, true
	q.byKey[wq.key] = rest
	rest.makeLeader()
}

// sleep waits for so long. It returns early, with the cause, if ctx ends or the store is
// closed.
func (q *queues) sleep(ctx context.Context, wait time.Duration) error {
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

func (q *queues) isClosed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed
}

func (q *queues) close() {
	q.mu.Lock()
	if !q.closed {
		q.closed = true
		close(q.closing)
		for _, wq := range q.byKey {
			from := wq.taken
			if wq.led {
				from = max(from, 1)
			}
			for _, c := range wq.calls[from:] {
				c.tell(ErrClosed)
			}
			wq.calls = wq.calls[:from]
		}
	}
	q.mu.Unlock()
	q.sent.Wait()
}
