package metadata

import (
	"context"
	"slices"
	"time"

	"example.com/lockstore/internal/seam"
)

// Reads of one document that come while several are under way share the next one: as soon
// as one of these ends, whoever has waited longest reads for all that wait. So a document
// that many ask for at once costs a few statements at a time, while a read that few others
// accompany goes through at once.
//
//	waiting --one ends--------> leads, and takes along all that wait
//	        --taken-----------> served, or apart where the leader got no document
//	        --ctx or the store ends, late--> apart
//
// A read serves only those that came before it was sent, and have the same rights. Nobody's
// context, connection or error is anybody else's.
type reads struct {
	mu   seam.Mutex
	of   map[readKey]*busyReads
	most int // mostReads

	closing <-chan struct{} // ends all waiting
}

// readKey tells apart those who may see other things.
type readKey struct{ id, principal string }

// mostReads is how many lead at a time before others wait.
const mostReads = 4

// busyReads are those of one document.
type busyReads struct {
	leaders int // that read, each for itself and those it has taken along
	waiting []*reader
	late    bool // nobody waits, as what is under way takes long
}

// A reader is one of them.
type reader struct {
	fate   readFate
	doc    Document      // what its leader has read, and others have, too
	signal chan struct{} // that it waits no longer; nil: it never did
}

type readFate uint8

const (
	readWaits readFate = iota
	readTaken          // along by a leader
	readLeads
	readServed
	readApart // by itself
)

// get reads a document, or has it read along with others.
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

// enter returns a new reader, which leads where few others read.
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

// leave ends a reader's waiting, unless that has just ended.
func (q *reads) leave(key readKey, r *reader, late bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if r.fate != readWaits && r.fate != readTaken {
		return
	}
	r.fate = readApart
	b := q.of[key] // as one leads
	b.waiting = slices.DeleteFunc(b.waiting, func(other *reader) bool { return other == r })
	b.late = b.late || late
}

// lead reads for all that wait.
func (q *reads) lead(key readKey, read func() (Document, error)) (doc Document, err error) {
	company := q.depart(key)
	var shared *Document
	defer func() { q.land(key, company, shared) }()
	doc, err = read()
	if err == nil && len(company) > 0 {
		shared = &Document{ID: doc.ID, Metadata: slices.Clone(doc.Metadata), Version: doc.Version, UpdatedAt: doc.UpdatedAt}
	}
	return doc, err
}

// depart takes along those that wait.
func (q *reads) depart(key readKey) (company []*reader) {
	q.mu.Lock()
	defer q.mu.Unlock()
	b := q.of[key]
	company, b.waiting = b.waiting, nil
	for _, r := range company {
		r.fate = readTaken
	}
	return company
}

// land gives those that were taken along their document, if there is one, and has the
// next one lead.
func (q *reads) land(key readKey, company []*reader, doc *Document) {
	q.mu.Lock()
	defer q.mu.Unlock()
	end := func(r *reader, fate readFate) {
		r.fate = fate
		r.signal <- struct{}{}
	}
	for _, r := range company {
		switch {
		case r.fate != readTaken: // any more
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
