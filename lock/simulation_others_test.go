package lock

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"example.com/lockstore/internal/pgdb"
	"example.com/lockstore/internal/simulate"
)

func codeOf(err error) string { return pgdb.Code(err) }

// fences are the greatest numbers given for each key, to holders of each mode.
type fences map[int64]*[2]int64

// floor returns the number that the fences of h must exceed.
func (f *fences) floor(h *Held) (floor []int64) {
	if *f == nil {
		*f = make(fences)
	}
	for _, k := range h.keys {
		given := (*f)[k.id]
		switch {
		case given == nil:
			(*f)[k.id] = new([2]int64)
			floor = append(floor, 0)
		case h.shared:
			floor = append(floor, given[alone])
		default:
			floor = append(floor, max(given[alone], given[shared]))
		}
	}
	return floor
}

// fence makes the holder ask for a fencing token.
func (c *call) fence() {
	w := c.process.w
	ctx, cancel := context.WithTimeout(context.Background(), simulate.One(w.Schedule, time.Millisecond, time.Hour))
	w.Tell("%s: fence", c)
	c.with(func() {
		defer cancel()
		n, err := c.held.Fence(ctx)
		w.Tell("%s: fence: %d, %v", c, n, err)
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, ErrLost) && !errors.Is(err, ErrReleased) && !errors.Is(err, ErrClosed) && !isSimulated(err) {
				w.Problem("ERROR", "%s: Fence: %v", c, err)
			}
			return
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if !w.memory && n > w.server.durable {
			w.Problem("FENCE", "%s is given %d, which a crash would have given out again", c, n)
		}
		for i, k := range c.held.keys {
			if n <= c.floor[i] {
				w.Problem("FENCE", "%s of %s is given %d, after %d", c, k, n, c.floor[i])
			}
			m := alone
			if c.held.shared {
				m = shared
			}
			w.fences[k.id][m] = max(w.fences[k.id][m], n)
		}
	})
}

// A simEviction is one call of Evict, and the holds that it was meant for.
type simEviction struct {
	process *process
	key     Key
	grace   time.Duration
	began   time.Time
	victims []victim // holders of the key when it was called
	seen    []victim // and when the server was asked
	asked   bool
	another bool // asked for the same key before
	over    bool
	err     error
}

type evictionKey struct{}

type victim struct {
	request *request
	process *process
	ended   time.Time
}

// evict starts an eviction.
func (w *world) evict(p *process, key Key, grace, patience time.Duration) {
	w.Tell("evict %s by %s, with %s of grace", key, p, grace)
	v := &simEviction{process: p, key: key, grace: max(grace, leastLooks*w.looks), began: time.Now(), another: slices.Contains(w.evicted, key)}
	v.victims = w.victims(key.id)
	w.model(func() {
		w.evicted, w.evictions = append(w.evicted, key), append(w.evictions, v)
	})
	w.working.Go(func() {
		ctx := context.WithValue(context.Background(), evictionKey{}, v)
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		err := p.postgres.Evict(ctx, key, grace)
		w.Tell("evicted %s by %s: %v", key, p, err)
		w.mu.Lock()
		defer w.mu.Unlock()
		v.over, v.err = true, err
	})
}

// victims returns the holders of a key, without sessions that are just working on it.
func (w *world) victims(key int64) (victims []victim) {
	for _, p := range w.processes {
		if !p.table.mu.TryLock() {
			continue
		}
		if e := p.table.entries[key]; e != nil {
			for _, c := range e.holders {
				victims = append(victims, victim{request: c, process: p})
			}
		}
		p.table.mu.Unlock()
	}
	return victims
}

// checkEvictions notes which victims have given up, and judges evictions that have ended.
func (w *world) checkEvictions() {
	for _, v := range w.evictions {
		for _, victims := range [][]victim{v.victims, v.seen} {
			for i := range victims {
				if o := &victims[i]; o.ended.IsZero() && o.request.state != holding {
					o.ended = time.Now()
				}
			}
		}
		if !v.over || v.err != nil {
			continue
		}
		for _, o := range v.victims {
			if o.ended.IsZero() && w.server.backend(int64(o.request.session.backend.PID)) != nil {
				w.Problem("EVICT", "of %s is done, and %s holds it on", v.key, o.process)
			}
		}
	}
	w.evictions = slices.DeleteFunc(w.evictions, func(v *simEviction) bool { return v.over })
}

// terminated judges that an eviction ends b. It is a mistake if its victim gave up in time and
// could say so, and the key belongs to another holder by now.
func (w *world) terminated(v *simEviction, b *backend) {
	if time.Since(v.began) < v.grace {
		w.Problem("EVICTED BY MISTAKE", "%s, after %s of %s", b, time.Since(v.began), v.grace)
	}
	meant := 0
	for _, o := range v.seen {
		if o.request.session.backend.PID != b.pid {
			continue
		}
		if meant++; o.ended.IsZero() || o.ended.Sub(v.began) >= v.grace {
			return
		}
	}
	others := 0
	for _, o := range w.victims(v.key.id) {
		if o.request.session.backend.PID == b.pid {
			others++
		}
	}
	if meant > 0 && others > 0 && !w.isOnTheWay(b.process) {
		w.Problem("EVICTED BY MISTAKE", "%s, whose holders gave up in time", b)
	}
}

// isOnTheWay reports whether a message from p, or to others, may still be on the way.
func (w *world) isOnTheWay(p *process) bool {
	for _, b := range w.server.backends {
		c := b.conn
		if c != nil && (len(c.up)+len(c.down)+len(b.todo) > 0 || b.process == p && c.cut != (cut{})) {
			return true
		}
	}
	return w.Stopped() > 0 || p.frozen.Load()
}

// outsider makes a foreign session take a key, its guard or a session's flag, or wait for it,
// or request a key without the right to.
func (w *world) outsider() {
	if len(w.outsiders) > 2 {
		return
	}
	b := w.server.connect(nil, nil)
	key := simulate.One(w.Schedule, w.keys...).id
	victim := int64(simulate.One(w.Schedule, w.server.backends...).pid)
	b.stranger, b.name = true, fmt.Sprintf(evictFormat, victim, key, w.N(1e9))
	m := simulate.One(w.Schedule, alone, shared)
	l := w.server.table.at(key)
	switch w.N(5) {
	case 0, 1:
		l, m = w.server.table.at(guardOf(key)), alone
	case 2:
		l = w.server.table.at(flags | victim)
	}
	switch {
	case l.try(b, m):
		w.Tell("an outsider has %d", l.key)
	case l.key == guardOf(key):
		b.alive = false
		return
	default:
		w.Tell("an outsider waits for %d", l.key)
		b.wait = wait{on: l, mode: m, until: time.Now().Add(1000 * time.Hour)}
		l.queue = append(l.queue, b)
	}
	w.outsiders = append(w.outsiders, b)
}

func (w *world) endOutsider(i int) {
	b := w.outsiders[i]
	w.outsiders = slices.Delete(w.outsiders, i, i+1)
	b.end(told)
}

// close starts a call of Close.
func (w *world) close(p *process, patience time.Duration) {
	w.Tell("close %s", p)
	w.model(func() { p.closing = true })
	w.working.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		err := p.postgres.Close(ctx)
		w.Tell("closed %s: %v", p, err)
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, b := range w.server.backends {
			if err == nil && b.process == p && !b.conn.closed {
				w.Problem("CLOSE", "%s is closed, and %s is not", p, b)
			}
		}
		if err != nil && ctx.Err() == nil {
			w.Problem("ERROR", "%s: Close: %v", p, err)
		}
	})
}

// judgeEvicted checks that every hold that was ended had been asked for by a session with the
// right to: of a session's exclusive holds, every eviction ends one at most; and a hold that
// began after all requests is not ended from one look to the next. Its caller holds w.mu.
func (w *world) judgeEvicted(c *call) {
	var cause string
	if c.over.IsZero() {
		c.over = time.Now()
	}
	for _, request := range c.held.hold.(*hold).requests {
		if request.err != errEvicted {
			continue
		}
		id := evictedHold{request.key, request.session}
		if !c.held.shared {
			w.ended[id]++
		}
		asked := 0
		for _, key := range w.evicted {
			if key == request.key {
				asked++
			}
		}
		if asked == 0 || w.ended[id] > asked {
			cause = fmt.Sprintf("%s by session %d, asked for %d times, %d times", request.key, request.session.backend.PID, asked, w.ended[id])
		}
		if c.over.Sub(request.began) < w.looks && !slices.ContainsFunc(w.evictRequests, func(r *simRequest) bool {
			return r.pid == request.session.backend.PID && r.key == request.key.id && !(r.raised && r.at.Before(request.began))
		}) {
			cause = fmt.Sprintf("%s by session %d, which it has had for %s", request.key, request.session.backend.PID, c.over.Sub(request.began))
		}
	}
	if cause != "" {
		w.Problem("EVICTED UNASKED", "%s lost %s", c, cause)
	}
}

// A simRequest is a request to a session. Until its flag is raised it may go unseen.
type simRequest struct {
	pid    uint32
	key    int64
	raised bool
	at     time.Time // when it was raised
}

// evictedHold identifies the hold that an eviction is meant for.
type evictedHold struct {
	key     Key
	session *session
}
