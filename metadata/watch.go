package metadata

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/maphash"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"example.com/lockstore/internal/pgdb"
)

// A watcher is told documents as they are, one after the other. What may have changed is
// due: all of it at first, then what a hint names (hints.go), and what differs when the
// documents are compared, which finds whatever hints have not told (watch_sql.go).
//
// A watcher that waits has what is due read, and is told what differs from what it was told
// before. One whose reader is slow does not wait: what is due to it stays so, and is read as
// it is when the reader comes back. So there is nothing to be kept of the states in between.
//
// Watchers with the same rights are a group. The first of those that wait leads: on its
// goroutine, and with its context, the documents are read and compared for all of them. A
// document under fire is so read once for all who watch it.
//
//	waits   --appointed-------------> leads
//	        --told, ctx ends, Close-> away, in its reader's hands
//	leads   --told, ctx ends, Close, panic-> away; the next one leads
//
// Reads of a group come one after the other, each from a primary, so that none sees less
// than the one before.
type watching struct {
	source   source
	options  *Options
	closing  <-chan struct{}                      // nil: there is no Close
	audience func(context.Context) (string, bool) // the principal, and whether it shares with its like
	attended func(some bool)                      // is told that the first watcher has come, or that the last has left

	count atomic.Int64 // watchers

	mu     sync.Mutex
	groups map[string]*group    // by principal
	byKey  map[int64][]*subject // by the number of the document's lock
}

// A source is where documents are read.
type source interface {
	// look reads documents, and calls seen with the place of each that fits into one
	// answer, the first in any case. One that is missing has no Metadata.
	look(ctx context.Context, ids []string, seen func(i int, doc Document, mark string)) error

	// differ calls seen with the place of each document whose mark is another one.
	differ(ctx context.Context, ids, marks []string, seen func(i int)) error
}

// A group is watchers that share what they read.
type group struct {
	*watching
	principal string
	shared    bool // and is in groups

	subjects map[string]*subject
	watchers int
	waiting  []*watcher // in the order in which they came; one of them leads, if there are any
	leader   *watcher
	wake     chan struct{} // for the leader to look at what is due
	resting  time.Time     // nothing is read before
	compares time.Time     // when the documents are compared next
	retry    time.Duration // after the last failure
	took     time.Duration // by the last answer
	trip     time.Duration // by the fastest one
}

// A subject is a document that is watched.
type subject struct {
	id    string
	key   int64
	mark  string    // what tells its state from others, as it was last read; empty: it was not
	rests time.Time // it is not read before
	views []*view
}

// A view is what one watcher knows of one document.
type view struct {
	*subject
	watcher *watcher
	told    uint64 // a hash of what it was told; 0: it was told nothing
	due     bool   // is among those that are due to the watcher
	looking bool   // is being read
}

// A watcher is one run of Watch.
type watcher struct {
	group  *group
	views  []*view
	due    []*view
	ready  []Document // to be told
	err    error      // that ends it
	signal chan struct{}
}

const (
	// A document under fire is read no more often than each readPace, which costs its writers
	// little. All reads together take half of the time at most. Comparisons, but for the way
	// to the server, take a hundredth, unless they would be too rare then.
	readPace     = 10 * time.Millisecond
	compareShare = 100
	longest      = 10 // times the interval

	mostLooked = 256 // documents of one read

	firstRetry = 20 * time.Millisecond // after a failure that may pass by itself; then twice as long each time
)

func newWatching(from source, o *Options, closing <-chan struct{}, audience func(context.Context) (string, bool)) *watching {
	return &watching{source: from, options: o, closing: closing, audience: audience, attended: func(bool) {}, groups: map[string]*group{}, byKey: map[int64][]*subject{}}
}

// Watch returns the documents as they are now, one for each id, and then each later state
// of one of them that the loop can take in: whatever made it, in the order in which the
// documents went through them. A document that is missing, as it is yet to be created or
// has been deleted, is one without Metadata.
//
//	for doc, err := range store.Watch(ctx, userID) {
//		if err != nil {
//			return err // ctx has ended, say
//		}
//		...
//	}
//
// States that come while the loop is busy, or fast one upon the other, are passed over,
// but the last one never is: Version shows it. A lower Version than before means that the
// document was deleted and created anew, or that a failover has lost commits. A loop that is
// busy holds up nobody, and nothing is kept for it.
//
// The loop ends by break, or with an error: that of ctx when that has ended, [ErrClosed],
// [ErrInvalidID], [ErrSchema] or what else does not pass by itself. While the database cannot
// be reached, or has no primary, it waits, and then goes on without a gap.
//
// Writes by a store are told at once: to watchers in other processes by hints, for which a
// process that watches has one connection of its own (see [Options].Connect), and so has
// one that writes while others watch. What there are no hints of is found by a
// comparison, once per [Options].WatchInterval: an UPDATE by hand (which changes the row, whatever
// its columns), a write in the host's own transaction ([Postgres.In]) or by a process
// that has not noticed yet that somebody watches, which takes it a second.
//
// Documents are read for whoever is the same to [Options].Principal together, with the
// context, and so the rights, of one of them, and for each caller apart where the pool
// prepares its connections for each: see Security in the package documentation. What the
// caller may not see is missing. They are read on connections of the pool that lead to a
// primary. Locks that ctx carries, and [AtLeast], mean nothing here.
func (p *Postgres) Watch(ctx context.Context, ids ...string) iter.Seq2[Document, error] {
	return p.observeLoop(ctx, "Watch", ids, func(ctx context.Context) iter.Seq2[Document, error] {
		return p.pg.watching.watch(ctx, &p.documents, ids)
	})
}

// watch is Watch.
func (ws *watching) watch(ctx context.Context, d *documents, ids []string) iter.Seq2[Document, error] {
	return func(yield func(Document, error) bool) {
		w, err := ws.join(ctx, d, ids)
		if err != nil {
			yield(Document{}, err)
			return
		}
		defer ws.leave(w)
		for {
			docs, err := w.next(ctx)
			for _, doc := range docs {
				doc.Metadata = slices.Clone(doc.Metadata) // which others are given, too
				if !yield(doc, nil) {
					return
				}
			}
			if err != nil {
				yield(Document{}, err)
				return
			}
		}
	}
}

// join adds a watcher, to which every document is due.
func (ws *watching) join(ctx context.Context, d *documents, ids []string) (*watcher, error) {
	canonical := make([]string, len(ids))
	for i, id := range ids {
		var err error
		if canonical[i], err = d.checkID(id); err != nil {
			return nil, err
		}
	}
	principal, shared := ws.audience(ctx)
	w := &watcher{signal: make(chan struct{}, 1)}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	g := ws.groups[principal]
	if g == nil || !shared {
		g = &group{watching: ws, principal: principal, shared: shared, subjects: map[string]*subject{}, wake: make(chan struct{}, 1), compares: time.Now().Add(ws.options.WatchInterval)}
		if shared {
			ws.groups[principal] = g
		}
	}
	w.group = g
	g.watchers++
	for _, id := range canonical {
		s := g.subjects[id]
		if s == nil {
			s = &subject{id: id, key: ws.options.key(id).Int64()}
			g.subjects[id] = s
			ws.byKey[s.key] = append(ws.byKey[s.key], s)
		} else if slices.ContainsFunc(s.views, func(v *view) bool { return v.watcher == w }) {
			continue
		}
		v := &view{subject: s, watcher: w}
		s.views = append(s.views, v)
		w.views = append(w.views, v)
		v.isDue()
	}
	if ws.count.Add(1) == 1 {
		ws.attended(true)
	}
	return w, nil
}

// leave forgets a watcher, and what nobody watches any more.
func (ws *watching) leave(w *watcher) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	g := w.group
	for _, v := range w.views {
		s := v.subject
		s.views = without(s.views, v)
		if len(s.views) > 0 {
			continue
		}
		delete(g.subjects, s.id)
		if ws.byKey[s.key] = without(ws.byKey[s.key], s); len(ws.byKey[s.key]) == 0 {
			delete(ws.byKey, s.key)
		}
	}
	if g.watchers--; g.watchers == 0 && g.shared {
		delete(ws.groups, g.principal)
	}
	if ws.count.Add(-1) == 0 {
		ws.attended(false)
	}
}

// without takes an element out of a list.
func without[T comparable](list []T, gone T) []T {
	return slices.DeleteFunc(list, func(e T) bool { return e == gone })
}

// changed has a document's watchers look at it. It is named by the number of its lock.
func (ws *watching) changed(key int64) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, s := range ws.byKey[key] {
		s.isDue()
	}
}

// resume has all documents compared at once, as hints may have been lost. Where the server
// may have lost commits, too, they are read anew: two rows can then have the same mark.
func (ws *watching) resume(anew bool) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, subjects := range ws.byKey {
		for _, s := range subjects {
			if anew {
				s.forget()
			}
			g := s.views[0].watcher.group
			g.compares = time.Time{}
			g.rouse()
		}
	}
}

// forget has a document read whatever it is.
func (s *subject) forget() {
	s.mark = ""
	s.isDue()
}

// isDue has a document told to all who watch it, if it is not what they were told.
func (s *subject) isDue() {
	for _, v := range s.views {
		v.isDue()
	}
}

func (v *view) isDue() {
	if !v.due {
		v.due = true
		v.watcher.due = append(v.watcher.due, v)
		v.watcher.group.rouse()
	}
}

// rouse has the leader, if there is one, look at what there is to do.
func (g *group) rouse() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// next returns what the watcher is to be told next, or why there will be nothing more.
func (w *watcher) next(ctx context.Context) (docs []Document, err error) {
	g := w.group
	g.mu.Lock()
	g.waiting = append(g.waiting, w)
	g.appoint()
	if len(w.due) > 0 {
		g.rouse()
	}
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.waiting = without(g.waiting, w)
		if g.leader == w {
			g.leader = nil
			g.appoint()
		}
		docs, w.ready = w.ready, nil
	}()
	for {
		g.mu.Lock()
		told, err, leads := len(w.ready) > 0, w.err, g.leader == w
		g.mu.Unlock()
		switch {
		case told || err != nil:
			return nil, err
		case leads:
			err = g.lead(ctx)
		default:
			err = w.pause(ctx, w.signal, nil)
		}
		if err != nil {
			return nil, err
		}
	}
}

// pause returns when one of two things happens, or why the watcher is to wait no longer.
func (w *watcher) pause(ctx context.Context, signal <-chan struct{}, timer <-chan time.Time) error {
	select {
	case <-signal:
	case <-timer:
	case <-ctx.Done():
		return causeOf(ctx)
	case <-w.group.closing:
		return ErrClosed
	}
	return nil
}

// tell wakes a watcher.
func (w *watcher) tell() {
	select {
	case w.signal <- struct{}{}:
	default:
	}
}

// appoint has the first of those that wait lead, if nobody does.
func (g *group) appoint() {
	if g.leader == nil && len(g.waiting) > 0 {
		g.leader = g.waiting[0]
		g.leader.tell()
	}
}

// lead reads what is due to those that wait, or compares, when it is time. The error is
// why the leader is to wait no longer.
func (g *group) lead(ctx context.Context) error {
	g.mu.Lock()
	at := g.compares
	for _, w := range g.waiting {
		for _, v := range w.due {
			if v.rests.Before(at) {
				at = v.rests
			}
		}
	}
	if g.resting.After(at) {
		at = g.resting
	}
	leader := g.leader
	g.mu.Unlock()
	if wait := time.Until(at); wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		return leader.pause(ctx, g.wake, timer.C)
	}
	if subjects := g.take(); len(subjects) > 0 {
		return g.read(ctx, subjects)
	}
	return g.compare(ctx)
}

// take gathers documents that are due to watchers that wait.
func (g *group) take() (subjects []*subject) {
	g.mu.Lock()
	defer g.mu.Unlock()
	taken, now := map[*subject]bool{}, time.Now()
	for _, w := range g.waiting {
		w.due = slices.DeleteFunc(w.due, func(v *view) bool {
			if !taken[v.subject] && len(taken) < mostLooked && !v.rests.After(now) {
				taken[v.subject] = true
				v.rests = now.Add(readPace)
				subjects = append(subjects, v.subject)
			}
			if taken[v.subject] {
				v.due, v.looking = false, true
			}
			return v.looking
		})
	}
	return subjects
}

// read reads documents for those to whom they are due. What it does not see stays due.
func (g *group) read(ctx context.Context, subjects []*subject) error {
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		for _, s := range subjects {
			for _, v := range s.views {
				if v.looking {
					v.looking = false
					v.isDue()
				}
			}
		}
		for _, w := range g.waiting {
			if len(w.ready) > 0 {
				w.tell()
			}
		}
	}()
	ids := make([]string, len(subjects))
	for i, s := range subjects {
		ids[i] = s.id
	}
	return g.ask(ctx, func(ctx context.Context) error {
		return g.source.look(ctx, ids, func(i int, doc Document, mark string) { g.saw(subjects[i], doc, mark) })
	})
}

// saw has a document, as it was read, told to those for whom it was. If it is a state
// that the group has not seen, it is due to the others.
func (g *group) saw(s *subject, doc Document, mark string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	another := s.mark != mark
	s.mark = mark
	state := stateOf(doc)
	for _, v := range s.views {
		switch {
		case v.looking && v.told != state:
			v.told = state
			v.watcher.ready = append(v.watcher.ready, doc)
			v.looking = false
		case v.looking:
			v.looking = false
		case another:
			v.isDue()
		}
	}
}

// compare has those documents read that are not as they were when they were read last.
func (g *group) compare(ctx context.Context) error {
	next := time.Now().Add(g.options.WatchInterval)
	var subjects []*subject
	var ids, marks []string
	g.mu.Lock()
	g.compares = next
	for _, s := range g.subjects {
		if s.mark != "" {
			subjects, ids, marks = append(subjects, s), append(ids, s.id), append(marks, s.mark)
		}
	}
	g.mu.Unlock()
	if len(ids) == 0 {
		return nil
	}
	err := g.ask(ctx, func(ctx context.Context) error {
		return g.source.differ(ctx, ids, marks, func(i int) {
			g.mu.Lock()
			defer g.mu.Unlock()
			subjects[i].isDue()
		})
	})
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.compares.Equal(next) { // else it is asked for once more
		g.compares = time.Now().Add(min(max(g.options.WatchInterval, compareShare*(g.took-g.trip)), longest*g.options.WatchInterval))
	}
	return err
}

// ask has the source asked. What it fails of ends those that wait, unless it may pass by
// itself; then nothing that was known of the documents is relied on. The error is why the
// leader is to wait no longer.
func (g *group) ask(ctx context.Context, question func(context.Context) error) error {
	began := time.Now()
	brief, cancel := context.WithTimeout(ctx, g.options.Timeout)
	defer cancel()
	err := question(brief)
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case err == nil:
		g.retry, g.took = 0, now.Sub(began)
		g.resting = now.Add(min(g.took, readPace))
		if g.trip == 0 || g.took < g.trip {
			g.trip = g.took
		}
	case ctx.Err() != nil:
		return causeOf(ctx)
	case passes(err):
		g.options.Logger.DebugContext(ctx, "metadata: watched documents could not be read", "error", err)
		g.retry = min(max(firstRetry, 2*g.retry), g.options.WatchInterval)
		g.resting = now.Add(g.retry)
		for _, s := range g.subjects {
			s.forget()
		}
	default:
		for _, w := range g.waiting {
			w.err = err
			w.tell()
		}
	}
	return nil
}

// passes reports whether an error may pass by itself.
func passes(err error) bool {
	switch pgdb.Class(err) {
	case "40", "53", "55", "57", "58":
		return true
	}
	return errors.Is(err, ErrUnavailable) || errors.Is(err, ErrWrongServer) || errors.Is(err, context.DeadlineExceeded)
}

// stateOf is a hash of what a document is.
func stateOf(doc Document) uint64 {
	var h maphash.Hash
	h.SetSeed(stateSeed)
	b := binary.LittleEndian.AppendUint64(nil, uint64(doc.Version))
	b = binary.LittleEndian.AppendUint64(b, uint64(doc.UpdatedAt.UnixNano()))
	h.Write(b)
	h.Write(doc.Metadata)
	return h.Sum64() | 1
}

var stateSeed = maphash.MakeSeed()
