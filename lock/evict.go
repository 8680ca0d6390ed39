package lock

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"example.com/lockstore/backoff"
	"example.com/lockstore/internal/pgdb"
)

// Evict frees a key that others hold, in any process. It first asks: a
// [Postgres] that holds the key ends that tenure, whose context is cancelled
// with a cause that matches [ErrEvicted] and [ErrLost], and unlocks. A holder
// that has not given the key up after grace has its server session terminated,
// and with it loses all it holds; so do sessions that hold it by a transaction
// or by hand-written locks. It is nil once nobody holds the key who did so
// when Evict was called; by then somebody else may.
//
// Terminating needs the same role as the holder's, pg_signal_backend, or
// superuser: otherwise the error matches [ErrNotPermitted]
// (PostgreSQL documentation, 9.28.2 Server Signaling Functions). Evict uses a
// connection of the host's pool, and blocks until it is done or ctx ends.
func (p *Postgres) Evict(ctx context.Context, key Key, grace time.Duration) error {
	status, err := p.Status(ctx, key)
	if err != nil {
		return err
	}
	for _, h := range status.Holders {
		if err := p.evict(ctx, key, h, grace); err != nil {
			return fmt.Errorf("lock: evict process %d from %s: %w", h.PID, key, err)
		}
	}
	return nil
}

const (
	evictChannel   = "lockstore_evict"   // an eviction, for who holds the key
	evictedChannel = "lockstore_evicted" // its token, for who asked

	listenSQL    = "LISTEN " + evictChannel + "; LISTEN " + evictedChannel
	notifySQL    = "SELECT 1 FROM pg_notify('" + evictChannel + "', $1::text)"
	terminateSQL = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE pid = $1::bigint AND (extract(epoch FROM backend_start) * 1000000)::bigint = $2::bigint`
)

// insufficientPrivilege is an SQLSTATE (PostgreSQL documentation, Appendix A).
const insufficientPrivilege = "42501"

// An eviction asks the session pid to give up key, and to tell so by the
// token. A session that lives is known by its pid alone.
type eviction struct {
	key, pid, token int64
}

const evictionFormat = "%d %d %d"

// evicting is an eviction as its caller sees it. Guarded by queue.mu.
//
// An answer can be missed: the session that listens is being replaced, or has been
// cut off and does not know it. Who asks hears its own question on that session, in
// order with the answers of others. So silence counts only from a question that was
// heard, and only up to another one that was heard on the same session.
type evicting struct {
	done   chan struct{} // closed by the answer
	asked  int           // how often, on the present session
	echoes int           // of these
	first  time.Time     // when the first of them came
}

// next says what is to be done while there is no answer.
func (v *evicting) next(grace time.Duration) (ask, terminate bool) {
	waited := v.echoes > 0 && time.Since(v.first) >= grace
	switch {
	case v.asked > v.echoes: // on its way
	case v.echoes == 0, waited && v.echoes == 1:
		return true, false
	case waited:
		return false, true
	}
	return false, false
}

func (p *Postgres) evict(ctx context.Context, key Key, h Holder, grace time.Duration) error {
	v := eviction{key.id, int64(h.PID), p.chance.token()}
	state := &evicting{done: make(chan struct{})}
	p.queue.mu.Lock()
	p.evictions[v.token] = state
	p.queue.mu.Unlock()
	defer func() {
		p.queue.mu.Lock()
		delete(p.evictions, v.token)
		p.queue.mu.Unlock()
	}()
	asked, terminated := false, false
	for polls := backoff.Start(p.chance.polls); ; {
		p.queue.mu.Lock()
		done := p.evictions[v.token] == nil
		closed, listens := p.queue.closed, p.session != nil
		ask, terminate := state.next(grace)
		if ask = ask && (listens || !asked); ask && listens {
			state.asked++
		}
		p.queue.mu.Unlock()
		asked = true
		var err error
		switch {
		case done:
			return nil
		case closed:
			err = ErrClosed
		case ask:
			_, err = p.db.Exec(ctx, notifySQL, fmt.Sprintf(evictionFormat, v.key, v.pid, v.token))
		case terminate && !terminated:
			terminated = true
			err = p.terminate(ctx, h)
		}
		if err != nil {
			return err
		}
		wait, _ := polls.Next()
		select {
		case <-state.done:
			return nil
		case <-ctx.Done():
			return causeOf(ctx)
		case <-time.After(wait):
		}
		if held, err := p.isHeldBy(ctx, key, h); err != nil || !held {
			return err
		}
	}
}

func (p *Postgres) isHeldBy(ctx context.Context, key Key, h Holder) (bool, error) {
	status, err := p.Status(ctx, key)
	for _, other := range status.Holders {
		if other.is(h.Backend) {
			return true, nil
		}
	}
	return false, err
}

func (p *Postgres) terminate(ctx context.Context, h Holder) error {
	if h.Start.IsZero() {
		return fmt.Errorf("%w: the server does not show that session to this role", ErrNotPermitted)
	}
	var signalled bool
	err := p.db.QueryRow(ctx, []any{&signalled}, terminateSQL, int64(h.PID), h.Start.UnixMicro())
	switch {
	case pgdb.Code(err) == insufficientPrivilege:
		return fmt.Errorf("%w: %w", ErrNotPermitted, err)
	case errors.Is(err, pgdb.ErrNoRows): // it has gone by itself
		return nil
	}
	return err
}

// notified implements owner: somebody wants a tenure to end, or says that it
// has.
func (p *Postgres) notified(channel, payload string) {
	var v eviction
	var evicted Key
	p.queue.mu.Lock()
	switch channel {
	case evictedChannel:
		if _, err := fmt.Sscan(payload, &v.token); err == nil && p.evictions[v.token] != nil {
			close(p.evictions[v.token].done)
			delete(p.evictions, v.token)
		}
	case evictChannel:
		if _, err := fmt.Sscanf(payload, evictionFormat, &v.key, &v.pid, &v.token); err != nil {
			break
		}
		if mine := p.evictions[v.token]; mine != nil {
			if mine.echoes++; mine.echoes == 1 {
				mine.first = time.Now()
			}
		}
		evicted = p.giveUp(v)
	}
	p.queue.unlock()
	if evicted != (Key{}) {
		p.opts.Logger.Warn("lock: evicted", "key", evicted.String())
	}
}

// giveUp ends the tenures that an eviction is meant for, if they have not ended by
// themselves, and tells so; once, however often it is asked, since others may have
// come after them. It returns the key, if it has ended any.
func (p *Postgres) giveUp(v eviction) (evicted Key) {
	if !p.has(v.pid) {
		return Key{}
	}
	if !slices.Contains(p.served, v.token) {
		if len(p.served) == rememberServed {
			p.served = slices.Delete(p.served, 0, 1)
		}
		p.served = append(p.served, v.token)
		if e := p.queue.entries[v.key]; e != nil && e.state == held && int64(e.session.backend.PID) == v.pid {
			evicted = e.key
			p.queue.evict(e, errEvicted)
		}
	}
	if p.session != nil {
		p.queue.request(p.session, op{code: opEvicted, key: v.token})
	}
	return evicted
}

// has reports whether a process of the server is that of a session here.
func (p *Postgres) has(pid int64) bool {
	is := func(s *session) bool { return int64(s.backend.PID) == pid }
	return p.session != nil && is(p.session) || slices.ContainsFunc(p.parking.all, is)
}

// rememberServed bounds the evictions that are remembered, to be answered again.
const rememberServed = 64

// forgetEchoes begins anew with the evictions asked for from here: what was heard,
// was on a session that is gone.
func (p *Postgres) forgetEchoes() {
	for _, v := range p.evictions {
		v.asked, v.echoes = 0, 0
	}
}

var errEvicted = lost(ErrEvicted)
