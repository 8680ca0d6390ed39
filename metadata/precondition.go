package metadata

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"example.com/lockstore/lock"
)

// A precondition is what must be true for a write to be stored. The write's transaction takes
// the document's lock, unless a hold that the write's context carries has it. Every hold in
// the context must still be there: the statements that read and store look each of them up.
// holdsIn finds the holds of a context; newPreconditionSQL makes the statements. In those that
// store, _condition.met is the precondition.
type precondition struct {
	sql    *preconditionSQL
	id     string
	number int64 // of the lock that it takes
	holds  []any // arguments that say which holds are looked up
	under  *carriedHolds
}

// open is openSQL with its arguments.
func (g *precondition) open(idle any) query {
	s := g.sql.open
	return query{s, s.args(g.id, append([]any{idle, g.number}, g.holds...)...)}
}

// store is a statement that stores, with its arguments and the tokens that are kept.
func (g *precondition) store(s storing, k kept, args ...any) query {
	return s.query(g.id, k, slices.Concat(args, g.holds)...)
}

// A query is a statement and its arguments.
type query struct {
	statement
	args []any
}

// preconditionSQL is the statements of one kind of precondition.
type preconditionSQL struct {
	open                                statement
	insert, collide, save, remove, note storing
}

// newPreconditionSQL makes the statements. try takes the lock, and held looks the holds up,
// with so many arguments.
func newPreconditionSQL(expand func(string) statement, try, held string, holds int) preconditionSQL {
	fill := func(text string, first int) string {
		place := func(i int) string { return "{" + strconv.Itoa(first+i) + "}" }
		text = strings.NewReplacer("{lock}", try, "{held}", held).Replace(text)
		return strings.NewReplacer("{high}", place(0), "{low}", place(1), "{pid}", place(2), "{start}", place(3), "{mode}", "'ExclusiveLock'", "{holds}", place(0)).Replace(text)
	}
	store := func(text string, first int, source, version string) storing {
		return newStoring(expand, fill(text, first), first+holds, source, version)
	}
	return preconditionSQL{
		open: expand(fill(openSQL, 3)), insert: store(insertSQL, 3, "_stored", "_stored.version"), collide: store(collideSQL, 3, "_stored", "_stored.version"), save: store(saveSQL, 3, "_stored", "_stored.version"),
		remove: store(removeSQL, 1, "_removed", "0::bigint"), note: store(noteSQL, 1, "_stored", "_stored.version"),
	}
}

// tryLockSQL takes the document's lock or, under a hold of that, the key's guard (see
// stillHeldSQL). The transaction keeps either to its end.
const tryLockSQL = `pg_catalog.pg_try_advisory_xact_lock({2}::bigint)`

// stillHeldSQL is true while the session that got a hold still holds the lock. A write under a
// hold is stored only then. Process ids are reused, so the session's start counts, too, where
// the role may see it. The hold is looked up in the statement that reads the row, after the
// row was locked, so that nothing is decided on what another server says, and again in the
// statement that stores.
//
// The hold may still be lost between that second look and the end of the commit. So the write
// takes the key's guard (lock.Key.Guard) before it looks, and keeps it to the end of its
// transaction. Package lock does not grant a key while a session has its guard, so that the
// next hold begins after the last write of this one. A locker that looks at the guard shares
// it for a moment; the write then asks for it again, as for a lock.
//
// Hand-written SQL that takes the key waits for the row only: it writes after this write, but
// may have read before it.
const stillHeldSQL = `EXISTS (
		SELECT FROM pg_catalog.pg_locks AS l, pg_catalog.pg_stat_get_activity({pid}::int) AS a
		WHERE l.locktype {=} 'advisory' AND l.mode {=} {mode} AND l.granted
			AND l.database {=} (SELECT oid FROM pg_catalog.pg_database WHERE datname {=} pg_catalog.current_database())
			AND l.classid {=} {high}::bigint::{oid} AND l.objid {=} {low}::bigint::{oid} AND l.objsubid {=} 1
			AND l.pid {=} {pid}::int
			AND (a.backend_start {=} {start}::{text}::{timestamptz}) IS NOT FALSE)`

// Each of several holds, or one of another key, is looked up in the same way. The next holder
// of another key waits for the write, too: the write takes that key's second guard
// (lock.Key.SharedGuard), which it shares with other writes under the same hold.
var (
	allHeldSQL      = allOfSQL(strings.NewReplacer("{high}", "h.high", "{low}", "h.low", "{pid}", "h.pid", "{start}", "h.start", "{mode}", "h.mode").Replace(stillHeldSQL))
	tryLockUnderSQL = tryLockSQL + " AND " + allOfSQL("(h.guard IS NULL OR pg_catalog.pg_try_advisory_xact_lock_shared(h.guard))")
)

// allOfSQL is SQL that is true if what is true of every hold.
func allOfSQL(what string) string {
	return `(SELECT pg_catalog.bool_and(` + what + `)
		FROM pg_catalog.jsonb_to_recordset({holds}::{text}::{jsonb}) AS h (high bigint, low bigint, mode {text}, pid int, start {text}, guard bigint))`
}

// sessionOf is the session that has a hold's key, as arguments of stillHeldSQL: {high}, {low},
// {pid}, {start}.
func sessionOf(held *lock.Held, key lock.Key) []any {
	b, _ := held.Backend(key)
	var start any // unknown
	if !b.Start.IsZero() {
		start = b.Start.UTC().Format(time.RFC3339Nano)
	}
	return []any{int64(uint32(key.Int64() >> 32)), int64(uint32(key.Int64())), int32(b.PID), start}
}

// preconditionOf is the precondition of writes of a queue under the holds that they carry.
func (p *postgres) preconditionOf(wq *waitQueue, u *carriedHolds) precondition {
	g := precondition{id: wq.key.id, number: wq.lock.Int64(), under: u}
	if u.own != nil {
		g.number = wq.lock.Guard()
	}
	switch {
	case len(u.onServer) == 0:
		g.sql = &p.sql.taking
	case len(u.onServer) == 1 && u.own != nil:
		g.sql, g.holds = &p.sql.under, sessionOf(u.own, wq.lock)
	default:
		g.sql, g.holds = &p.sql.underAll, []any{u.onServer.text(wq.lock)}
	}
	return g
}

// errLost says that a hold in a write's context is over.
var errLost = fmt.Errorf("metadata: the hold that the context carries has ended: %w", lock.ErrLost)

// carriedHolds are the holds that a write's context carries, the innermost of each key.
type carriedHolds struct {
	own      *lock.Held  // of the document's key, if a server's session has it
	onServer serverHolds // those that sessions of a server have, by key
	all      []*lock.Held
}

// holdsIn returns the holds in ctx for a write of the document with a key. If one is known
// to have ended, it returns that as an error.
func holdsIn(ctx context.Context, key lock.Key) (*carriedHolds, error) {
	u := new(carriedHolds)
	for _, held := range lock.AllFromContext(ctx) {
		for _, k := range held.Keys() {
			if lock.FromContext(ctx, k) != held {
				continue
			}
			if !slices.Contains(u.all, held) {
				u.all = append(u.all, held)
			}
			if _, ok := held.Backend(k); ok && !u.onServer.has(k) {
				u.onServer = append(u.onServer, heldKey{held, k})
				if k.Int64() == key.Int64() {
					u.own = held
				}
			}
		}
	}
	if err := u.check(); err != nil {
		return nil, err
	}
	if u.own != nil && u.own.Shared() {
		return nil, ErrSharedHold
	}
	return u, nil
}

// check returns an error if a hold is known in this process to have ended. The server may not
// know: after Evict, for instance, the same session may have given the lock to another holder.
func (u *carriedHolds) check() error {
	for _, held := range u.all {
		if held.Context().Err() != nil {
			return over(held)
		}
	}
	return nil
}

// identity distinguishes sets of holds while they last. It is empty without holds.
func (u *carriedHolds) identity() string {
	var b strings.Builder
	for _, held := range u.all {
		fmt.Fprintf(&b, "%p", held)
	}
	return b.String()
}

// writing tells each hold that a write under it begins. ended is called once the write's
// outcome is known.
func (u *carriedHolds) writing() (ended func(), err error) {
	var all []func()
	ended = func() {
		for _, one := range all {
			one()
		}
	}
	for _, held := range u.all {
		one, err := held.Writing()
		if err != nil {
			ended()
			return nil, over(held)
		}
		all = append(all, one)
	}
	return ended, nil
}

// over is the error of a hold that has ended by itself or by Unlock.
func over(held *lock.Held) error {
	return errors.Join(errLost, context.Cause(held.Context()))
}
