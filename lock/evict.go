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

// Evict takes a key from its holders, in any process. It returns nil once none of the sessions
// that held the key when Evict was called holds it. By then another holder may have it.
//
// It first asks the holder. If that is a [Postgres], it ends the hold, cancels its context with a
// cause that matches [ErrEvicted] and [ErrLost], and unlocks. If the holder's session has the
// key still after grace, Evict terminates the session, which frees all its locks. That is also
// how a key is taken from a transaction, or from SQL written by hand, as they cannot be asked.
// The holders of a shared lock are asked one after the other, each with a grace of its own.
// A [Postgres] looks for requests every tenth of a second, so a grace of less than half a
// second counts as half a second.
//
// The server's lock table decides whether the key was given up, not the holder's answer, and a
// [Postgres] that gives it up waits until Evict has seen that before it asks for the key again.
// Evict is for those who held the key when it was called. A holder that got the key just
// afterwards can be evicted, too, if its process sees the request when it has had the key for a
// tenth of a second.
//
// Asking and terminating need the holder's role, pg_signal_backend, or superuser (PostgreSQL
// documentation, 9.28.2 Server Signaling Functions). Otherwise the holder is not disturbed,
// and after grace the error matches [ErrNotPermitted].
//
// Evict blocks until it is done or ctx ends, in a transaction on a connection of the host's
// pool. If that connection fails, so does Evict, and the holder may have been asked.
func (p *Postgres) Evict(ctx context.Context, key Key, grace time.Duration) error {
	if err := key.Err(); err != nil {
		return err
	}
	found, err := statuses(ctx, p.db, key.is, keyStatusSQL, places(key)...)
	if err != nil {
		return fmt.Errorf("lock: status of %s: %w", key, ofServer(err))
	}
	var holders []Holder
	for _, s := range found {
		holders = s.Holders
	}
	for _, h := range holders {
		if err := p.evict(ctx, key, h, max(grace, leastLooks*p.chance.looks)); err != nil {
			return fmt.Errorf("lock: evict process %d from %s: %w", h.PID, key, ofServer(err))
		}
	}
	return nil
}

// leastLooks is how many times a session that is asked can look for requests, at least, before
// it is terminated.
const leastLooks = 5

// The protocol of an eviction. Sessions ask each other to give up a key by what all of them
// can see at the server. Nothing is sent to a session that holds locks: it looks for requests
// at its own pace, so asking cannot keep it from its work.
//
// A request is the application_name of the session that makes it, for as long as that stands.
// Every session can see it, and the role behind it; none can prevent or forge it. It names the
// process that is asked, the key, and a unique token.
//
// The flag of a session is an advisory lock whose number is made of flags and the process id.
// A session that makes a request holds the flag shared, and the session that is asked tries to
// take it exclusively. Only if that fails does it read the requests. So all that a session can
// do to another by raising its flag is to make it read them.
//
// The answer is that the session no longer holds the key. It stays off the key until the
// request is gone. If the session that made it stands still, the server ends its transaction.
const (
	evictPrefix = "lockstore_evict "
	evictFormat = evictPrefix + "%d %d %d" // process id, key, token: at most 63 characters
	flags       = 0x6b119446 << 32         // drawn as guardBits are, from "lockstore flag"
)

// askSQL makes a request ($1) to a process whose flag is $2, until the end of the transaction,
// and reports whether the flag is raised. The transaction may take any time
// (transaction_timeout exists from PostgreSQL 17 on), but not stand still.
const (
	askSQL = asksSQL + "pg_catalog.pg_try_advisory_xact_lock_shared($2::bigint)"

	asksSQL = "SELECT pg_catalog.set_config('application_name', $1::pg_catalog.text, true)," +
		" pg_catalog.set_config('idle_in_transaction_session_timeout', '2s', true)," +
		" (SELECT pg_catalog.count(pg_catalog.set_config(s.name, '0', true)) FROM pg_catalog.pg_settings AS s" +
		" WHERE s.name OPERATOR(pg_catalog.=) 'transaction_timeout'), "
)

// terminateSQL ends a process ($7) that began at $8, if it holds the key or a guard of it.
const terminateSQL = `SELECT pg_catalog.pg_terminate_backend(a.pid) FROM pg_catalog.pg_stat_activity AS a
WHERE a.pid OPERATOR(pg_catalog.=) $7::bigint AND ` + startSQL + ` OPERATOR(pg_catalog.=) $8::bigint AND EXISTS (
	SELECT FROM pg_catalog.pg_locks AS l WHERE l.pid OPERATOR(pg_catalog.=) a.pid AND l.granted AND ` + ofTheKeySQL + `)`

// insufficientPrivilege is an SQLSTATE (PostgreSQL documentation, Appendix A).
const insufficientPrivilege = "42501"

// An eviction is one request, and the transaction that makes it.
type eviction struct {
	tx     pgdb.Transaction
	key    Key
	holder Holder
	token  uint32
	raised bool // whether the holder's flag is
}

// evict makes a request. The end of its transaction withdraws it.
func (p *Postgres) evict(ctx context.Context, key Key, h Holder, grace time.Duration) error {
	conn, err := p.db.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release() // which closes the connection if it is in a transaction
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer rollback(ctx, tx)
	v := &eviction{tx: tx, key: key, holder: h, token: p.chance.token()}
	return p.press(ctx, v, grace)
}

// press asks the holder, waits for it to give the key up, and terminates it after grace.
func (p *Postgres) press(ctx context.Context, v *eviction, grace time.Duration) error {
	if err := v.ask(ctx); err != nil {
		return err
	}
	asked, terminated := time.Now(), false
	for polls := backoff.Start(p.chance.polls); ; {
		if done, err := v.isDone(ctx); err != nil || done {
			return err
		}
		if !terminated && time.Since(asked) >= grace {
			terminated = true
			if err := v.terminate(ctx); err != nil {
				return err
			}
		}
		wait, _ := polls.Next()
		if err := p.sleep(ctx, wait); err != nil {
			return err
		}
		if err := v.ask(ctx); err != nil {
			return err
		}
	}
}

// sleep waits, and returns an error if ctx ends or the Locker is closed meanwhile.
func (p *Postgres) sleep(ctx context.Context, wait time.Duration) error {
	select {
	case <-p.life.Done():
		return ErrClosed
	case <-ctx.Done():
		return causeOf(ctx)
	case <-time.After(wait):
		return nil
	}
}

// ask makes the request and raises the holder's flag, unless that is done already. Raising
// fails while the holder looks.
func (v *eviction) ask(ctx context.Context) error {
	if v.raised {
		return nil
	}
	request := fmt.Sprintf(evictFormat, v.holder.PID, v.key.id, v.token)
	return v.tx.QueryRow(ctx, []any{new(string), new(string), new(int64), &v.raised}, askSQL, request, flags|int64(v.holder.PID))
}

// isDone reports whether the holder has given the key up.
func (v *eviction) isDone(ctx context.Context) (bool, error) {
	found, err := statuses(ctx, v.tx, v.key.is, keyStatusSQL, places(v.key)...)
	for _, s := range found {
		if slices.ContainsFunc(s.Holders, func(h Holder) bool { return h.is(v.holder.Backend) }) {
			return false, err
		}
	}
	return err == nil, err
}

func (v *eviction) terminate(ctx context.Context) error {
	if v.holder.Start.IsZero() {
		return fmt.Errorf("%w: the server does not show that session to this role", ErrNotPermitted)
	}
	err := v.tx.QueryRow(ctx, []any{new(bool)}, terminateSQL, append(places(v.key), int64(v.holder.PID), v.holder.Start.UnixMicro())...)
	switch {
	case pgdb.Code(err) == insufficientPrivilege:
		return fmt.Errorf("%w: %w", ErrNotPermitted, err)
	case errors.Is(err, pgdb.ErrNoRows): // it has ended by itself, or given the key up
		return nil
	}
	return err
}
