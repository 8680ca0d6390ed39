package metadata

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
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
// document that nobody writes.
//
//	waiting  --turn----> leading  --commit--> done, with all that were taken
//	         --taken---> taken    --commit--> done
//	                              --busy----> waiting again
//	         --ctx ends> gone
//	leading  --ctx ends, policy gives up, panic> gone
//
// A call that has been taken waits for its outcome whatever its context says,
// since it may be in the document already.
type queue struct {
	mu      seam.Mutex
	lines   map[lineKey]*line
	closed  bool
	closing chan struct{}
	sent    sync.WaitGroup // turns with something on its way to the server
	boarding
}

// lineKey tells apart writes under a tenure: those of others wait for its end.
type lineKey struct {
	id   string
	held *lock.Held
}

// A line is those who want to write one document.
type line struct {
	key   lineKey
	lock  lock.Key
	calls []*call // the first leads; the first so many are taken
	taken int

	// What only the leader uses.
	polls    backoff.Sequence
	rowFirst bool // somebody else writes the document, too: no lone statements
	reports  []report

	attempts atomic.Int32 // that found the lock taken, since the last that did not
}

// busy is the error of a call that waited in vain: for the lock, if that was
// found taken, and else for the others' writes or a connection.
func (l *line) busy(c *call, cause error) error {
	if l.attempts.Load() == 0 {
		return fmt.Errorf("metadata: not its turn after %v: %w", time.Since(c.since).Round(time.Microsecond), cause)
	}
	return &lock.BusyError{Key: l.lock, Waited: time.Since(c.since), Attempts: int(l.attempts.Load()), Cause: cause}
}

// A call is one caller's write.
type call struct {
	*write
	since  time.Time
	signal chan struct{} // that the call leads, or is done
	leads  bool

	doc     Document
	changes int64 // of the draft that doc was taken from
	err     error
}

// join lines up for the turn, and reports whether it is c's at once.
func (q *queue) join(key lineKey, k lock.Key, p backoff.Policy, c *call) (l *line, leads bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, false, ErrClosed
	}
	l = q.lines[key]
	if l == nil {
		l = &line{key: key, lock: k, calls: []*call{c}, polls: backoff.Start(p)}
		q.lines[key] = l
		return l, true, nil
	}
	c.signal = make(chan struct{}, 1)
	l.calls = append(l.calls, c)
	return l, false, nil
}

// wait returns when c leads or is done.
func (q *queue) wait(ctx context.Context, l *line, c *call) (leads bool) {
	select {
	case <-c.signal:
	case <-ctx.Done():
		if q.withdraw(l, c) {
			c.err = l.busy(c, causeOf(ctx))
			return false
		}
		<-c.signal
	}
	return c.leads
}

// withdraw takes a call out of its line, unless it leads or has been taken.
func (q *queue) withdraw(l *line, c *call) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := max(l.taken, 1); i < len(l.calls); i++ {
		if l.calls[i] == c {
			l.calls = append(l.calls[:i], l.calls[i+1:]...)
			return true
		}
	}
	return false
}

// take gathers the calls that the leader's commit is to serve: as many as are
// allowed, up to the next that wants to be alone.
func (q *queue) take(l *line, maxCalls, maxBytes int) ([]*call, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, ErrClosed
	}
	n, size := 1, l.calls[0].size
	for ; !l.calls[0].alone && n < min(len(l.calls), maxCalls) && !l.calls[n].alone; n++ {
		if size += l.calls[n].size; size > maxBytes {
			break
		}
	}
	l.taken = n
	q.sent.Add(1)
	return l.calls[:n:n], nil
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

// untake ends what take began: none of the calls is on its way any more.
func (q *queue) untake(l *line) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l.taken = 0
	q.sent.Done()
}

// pass answers the first done calls, of which the first is the leader, and
// gives the turn to the next.
func (q *queue) pass(l *line, done int) {
	q.mu.Lock()
	answered := l.calls[:done:done]
	l.calls = l.calls[done:]
	if len(l.calls) == 0 {
		delete(q.lines, l.key)
	} else {
		next := l.calls[0]
		next.leads = true
		next.signal <- struct{}{}
	}
	q.mu.Unlock()
	for _, c := range answered[1:] {
		c.signal <- struct{}{}
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
			from := max(l.taken, 1)
			for _, c := range l.calls[from:] {
				c.err = ErrClosed
				c.signal <- struct{}{}
			}
			l.calls = l.calls[:from]
		}
	}
	q.mu.Unlock()
	q.sent.Wait()
}
