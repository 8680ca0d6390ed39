package metadata

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/maphash"
	"log/slog"
	"slices"
	"time"

	"example.com/lockstore/internal/pgdb"
)

const (
	// A document that changes all the time is read once in readPace, and tellPace more for each
	// of its watchers, which costs its writers little. After each answer the group rests for as
	// long as that took, and for readPace at most. Comparisons, without the round trip, take a
	// hundredth of the time, unless they would be too rare then.
	readPace     = 10 * time.Millisecond
	tellPace     = 100 * time.Microsecond
	compareShare = 100
	compareCost  = 100 * time.Microsecond // of a document, at most; the rest of a longer time is the server's other load
	longest      = 10                     // times the interval

	mostLooked = 256 // documents of one read

	firstRetry = 20 * time.Millisecond // after a failure that may be temporary; then twice as long each time
)

// lead reads what is due to the watchers that wait, or compares, when it is time for either:
// first what was due earlier, so that documents that change all the time do not delay
// comparisons. The error is why the leader no longer waits.
func (g *group) lead(ctx context.Context) error {
	g.mu.Lock()
	at, reads := g.compares, false
	for _, w := range g.waiting {
		for _, v := range w.due {
			if v.rests.Before(at) {
				at, reads = v.rests, true
			}
		}
	}
	if g.resting.After(at) {
		at = g.resting
	}
	g.mu.Unlock()
	wait := time.Until(at)
	switch {
	case wait > 0:
		timer := time.NewTimer(wait)
		defer timer.Stop()
		return g.pause(ctx, g.wake, timer.C)
	case reads:
		return g.read(ctx)
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
				v.rests = now.Add(readPace + time.Duration(len(v.subject.views))*tellPace)
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

// read reads documents for the watchers to whom they are due. What is not seen stays due.
func (g *group) read(ctx context.Context) error {
	subjects := g.take()
	if len(subjects) == 0 { // those to whom they were due have left
		return nil
	}
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		for _, s := range subjects {
			for _, v := range s.views {
				if v.looking {
					v.looking = false
					v.makeDue()
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

// saw gives a document, as it was read, to the watchers for whom it was read. If the group has
// not seen this state before, it is due to the others.
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
			v.makeDue()
		}
	}
}

// compare has those documents read that have changed since they were read last.
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
			subjects[i].makeDue()
		})
	})
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.compares.Equal(next) { // else it is asked for once more
		cost := min(g.took-g.trip, time.Duration(len(ids))*compareCost)
		g.compares = time.Now().Add(min(max(g.options.WatchInterval, compareShare*cost), longest*g.options.WatchInterval))
	}
	return err
}

// ask runs question, which asks the source, with a time limit. An error ends all that wait.
// One that may be temporary does not: it is tried again, and then nothing that was known of
// the documents is relied on. The error is why the leader no longer waits.
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
	case brief.Err() != nil, passes(err, g.trip > 0):
		level := slog.LevelDebug
		if g.retry == 0 {
			level = slog.LevelWarn
		}
		g.options.Logger.Log(ctx, level, "metadata: watched documents could not be read, and are tried again", "error", err)
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

// passes reports whether an error may be temporary. One of an unknown kind may if there were
// answers before.
func passes(err error, answered bool) bool {
	switch pgdb.Class(err) {
	case "25", "40", "53", "55", "57", "58":
		return true
	case "XX":
		return answered
	}
	return errors.Is(err, ErrUnavailable) || errors.Is(err, ErrWrongServer) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, pgdb.ErrDriver) && answered
}

// stateOf is a hash of a document's state.
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
