package metadata

import (
	"context"
	"slices"
	"time"

	"example.com/lockstore/internal/seam"
)

// Shared reads: of the calls that read one document while mostReads others read it already,
// all that wait share the next statement. As soon as a read ends, the one that has waited
// longest leads, and reads for all that wait. So a document that many ask for at once costs a
// few statements at a time, and a read that few others accompany is sent at once.
//
//	waiting --a read ends-----> leads, for all that wait
//	        --taken along-----> served; alone, if the leader got no document
//	        --context or store ends, too late--> alone
//
// A read serves only calls that came before it was sent, and have the same rights. No caller's
// context, connection or error reaches another caller.
type reads struct {
	mu   seam.Mutex
	of   map[readKey]*busyReads
	most int // mostReads

	closing <-chan struct{} // the store is closed
}

// A readKey is a document, and who may see it.
type readKey struct{ id, principal string }

// mostReads is how many calls read a document, each with its followers, before others wait.
const mostReads = 4

// busyReads are the reads of one document.
type busyReads struct {
	leaders int // that read now, each for itself and its followers
	waiting []*reader
	late    bool // the reads under way take long, so new ones do not wait
}

// A reader is one call that reads.
type reader struct {
	fate   readFate
	doc    Document      // what its leader has read, shared with others
	signal chan struct{} // it no longer waits; nil: it never did
}

type readFate uint8

const (
	readWaits readFate = iota
	readTaken          // along by a leader, as its follower
	readLeads
	readServed
	readApart // with a statement of its own
)

// get reads a document, by itself or along with others.
func (q *reads) get(ctx context.Context, key readKey, read func() (Document, error)) (Document, error) {
	r := q.enter(key)
	if r.signal != nil {
		late := time.NewTimer(lateLeader)
		defer late.Stop()
		select {
		case <-r.signal:
		case <-late.C:
			q.leave(key, r, true)
		case <-ctx.Done():
			q.leave(key, r, false)
		case <-q.closing:
			q.leave(key, r, false)
		}
	}
	switch r.fate {
	case readServed:
		r.doc.Metadata = slices.Clone(r.doc.Metadata)
		return r.doc, nil
	case readLeads:
		return q.lead(key, read)
	}
	return read()
}

// enter returns a new reader. It leads if few others read.
func (q *reads) enter(key readKey) *reader {
	q.mu.Lock()
	defer q.mu.Unlock()
	b := q.of[key]
	if b == nil {
		b = &busyReads{}
		q.of[key] = b
	}
	switch {
	case b.leaders < q.most:
		b.leaders++
		return &reader{fate: readLeads}
	case b.late:
		return &reader{fate: readApart}
	}
	r := &reader{signal: make(chan struct{}, 1)}
	b.waiting = append(b.waiting, r)
	return r
}

// leave ends a reader's waiting, unless that has ended already.
func (q *reads) leave(key readKey, r *reader, late bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if r.fate != readWaits && r.fate != readTaken {
		return
	}
	r.fate = readApart
	b := q.of[key] // there is one, as a reader leads
	b.waiting = slices.DeleteFunc(b.waiting, func(other *reader) bool { return other == r })
	b.late = b.late || late
}

// lead reads for a leader and its followers.
func (q *reads) lead(key readKey, read func() (Document, error)) (doc Document, err error) {
	followers := q.takeWaiting(key)
	var shared *Document
	defer func() { q.endRead(key, followers, shared) }()
	doc, err = read()
	if err == nil && len(followers) > 0 {
		shared = &Document{ID: doc.ID, Metadata: slices.Clone(doc.Metadata), Version: doc.Version, UpdatedAt: doc.UpdatedAt}
	}
	return doc, err
}

// takeWaiting takes along all that wait.
func (q *reads) takeWaiting(key readKey) (followers []*reader) {
	q.mu.Lock()
	defer q.mu.Unlock()
	b := q.of[key]
	followers, b.waiting = b.waiting, nil
	for _, r := range followers {
		r.fate = readTaken
	}
	return followers
}

// endRead gives the followers their document, if there is one, and has the next waiter lead.
func (q *reads) endRead(key readKey, followers []*reader, doc *Document) {
	q.mu.Lock()
	defer q.mu.Unlock()
	end := func(r *reader, fate readFate) {
		r.fate = fate
		r.signal <- struct{}{}
	}
	for _, r := range followers {
		switch {
		case r.fate != readTaken: // it has left
		case doc == nil:
			end(r, readApart)
		default:
			r.doc = *doc
			end(r, readServed)
		}
	}
	b := q.of[key]
	b.late = false
	switch {
	case len(b.waiting) > 0:
		end(b.waiting[0], readLeads)
		b.waiting = b.waiting[1:]
	case b.leaders > 1:
		b.leaders--
	default:
		delete(q.of, key)
	}
}
