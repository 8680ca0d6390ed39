package metadata

import (
	"context"
	"time"
)

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
