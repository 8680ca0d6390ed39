package metadata

import (
	"context"
	"time"
)

// A group is the watchers that share what they read: what is due to each of them, and who
// reads it for all. Those that wait have a leader, the first; watch_read.go is what it does.
type group struct {
	*watching
	principal string
	shared    bool // with other callers; else it has one watcher

	subjects map[string]*subject
	watchers int
	waiting  []*watcher // in order of arrival; one of them leads, if there are any
	leader   *watcher
	wake     chan struct{} // something is due
	resting  time.Time     // nothing is read earlier
	compares time.Time     // the next comparison
	retry    time.Duration // after the last failure
	took     time.Duration // the last answer's time
	trip     time.Duration // the fastest answer's time
}

// A subject is a document that is watched.
type subject struct {
	id    string
	key   int64
	mark  string    // of its state when it was last read; empty: not yet
	rests time.Time // it is not read earlier
	views []*view
}

// A view is what one watcher knows of one document.
type view struct {
	*subject
	watcher *watcher
	told    uint64 // a hash of the state that it was told; 0: none yet
	due     bool   // is in watcher.due
	looking bool   // is being read
}

// A watcher is one run of Watch.
type watcher struct {
	group  *group
	views  []*view
	due    []*view
	ready  []Document // to be returned
	err    error      // ends it
	signal chan struct{}
}

// forget has a document read, whether it has changed or not.
func (s *subject) forget() {
	s.mark = ""
	s.makeDue()
}

// makeDue has a document read for all its watchers. A watcher is told if it was told another
// state last.
func (s *subject) makeDue() {
	for _, v := range s.views {
		v.makeDue()
	}
}

func (v *view) makeDue() {
	if !v.due {
		v.due = true
		v.watcher.due = append(v.watcher.due, v)
		v.watcher.group.notify()
	}
}

// notify has the leader, if there is one, look at what is due.
func (g *group) notify() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// next returns what the watcher is told next, or why it ends. While it waits it may become the
// leader and read for all.
func (w *watcher) next(ctx context.Context) (docs []Document, err error) {
	g := w.group
	g.mu.Lock()
	g.waiting = append(g.waiting, w)
	g.makeLeader()
	if len(w.due) > 0 {
		g.notify()
	}
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.waiting = without(g.waiting, w)
		if g.leader == w {
			g.leader = nil
			g.makeLeader()
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
			err = g.pause(ctx, w.signal, nil)
		}
		if err != nil {
			return nil, err
		}
	}
}

// pause waits for signal or timer. The error is why the watcher that calls it no longer waits.
func (g *group) pause(ctx context.Context, signal <-chan struct{}, timer <-chan time.Time) error {
	select {
	case <-signal:
	case <-timer:
	case <-ctx.Done():
		return causeOf(ctx)
	case <-g.closing:
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

// makeLeader makes the first waiter the leader, if there is none.
func (g *group) makeLeader() {
	if g.leader == nil && len(g.waiting) > 0 {
		g.leader = g.waiting[0]
		g.leader.tell()
	}
}
