package metadata

import (
	"context"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A watcher is told documents as they are, one after the other. What may have changed is
// due: all of it at first, then what a hint names (hints.go), and what differs when the
// documents are compared, once per WatchInterval (group.compare in watch_read.go; its SQL is
// in watch_sql.go), which finds all changes without a hint.
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
	source     source
	options    *Options
	closing    <-chan struct{}                      // nil: there is no Close
	audience   func(context.Context) (string, bool) // the principal, and whether it shares with its like
	setWatched func(some bool)                      // is told that the first watcher has come, or that the last has left

	count atomic.Int64 // watchers

	mu     sync.Mutex
	groups map[string]*group    // by principal
	byKey  map[int64][]*subject // by the number of the document's lock
}

// A source is where documents are read.
type source interface {
	// look reads documents, and calls seen with the place of each, up to those that no longer
	// fit into one answer; the first always does. One that is missing has no Metadata.
	look(ctx context.Context, ids []string, seen func(i int, doc Document, mark string)) error

	// differ calls seen with the place of each document whose mark is another one.
	differ(ctx context.Context, ids, marks []string, seen func(i int)) error
}

func newWatching(from source, o *Options, closing <-chan struct{}, audience func(context.Context) (string, bool)) *watching {
	return &watching{source: from, options: o, closing: closing, audience: audience, setWatched: func(bool) {}, groups: map[string]*group{}, byKey: map[int64][]*subject{}}
}

// Watch yields the current documents, one for each id, and then later states of them (subscribe,
// change feed): each state that the loop is ready for, whatever made it, in the order in which
// the document went through them. A document that is missing, because it is yet to be created
// or has been deleted, has no Metadata.
//
//	for doc, err := range store.Watch(ctx, userID) {
//		if err != nil {
//			return err // ctx has ended, say
//		}
//		...
//	}
//
// States that come while the loop is busy, or in quick succession, are skipped, but the last
// state never is; gaps in Version show what was skipped. A lower Version than before means that
// the document was deleted and created again, or that a failover has lost commits. A busy loop
// delays no writer and no other watcher, and nothing is buffered for it.
//
// The loop ends by break, or with an error: that of ctx when ctx has ended, [ErrClosed],
// [ErrInvalidID], [ErrSchema] or another that is permanent. While the database cannot be
// reached, or has no primary, the loop waits, and then goes on without a gap. It does the same
// after unknown errors of a driver or a hook, if it could read before. [Options].Logger gets
// the reason.
//
// Changes arrive in one of two ways:
//
//   - Writes by a store arrive at once, in other processes by hints. For them a process that
//     watches has one connection of its own (see [Options].Connect), and so has a process that
//     writes while others watch.
//   - Changes without a hint are found by a comparison, once per [Options].WatchInterval: an
//     UPDATE by hand of any column, a write in the host's own transaction ([Postgres.In]), or
//     one by a process that has not noticed yet that others watch, which takes a second.
//
// One read serves all callers for whom [Options].Principal returns the same; it is made with the
// context, and so the rights, of one of them. If the pool prepares its connections for each
// caller, each has reads of its own: see Security in the package documentation. A document that
// the caller may not see is yielded as missing. Reads use the pool's connections to a primary,
// and never to one that was replaced in a failover that the store has seen. Holds that ctx
// carries, and [AtLeast], have no effect.
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
		v.makeDue()
	}
	if ws.count.Add(1) == 1 {
		ws.setWatched(true)
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
		ws.setWatched(false)
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
		s.makeDue()
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
			g.notify()
		}
	}
}
