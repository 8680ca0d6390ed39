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

// A gate is how a write makes sure of the document's lock, which it takes for its own
// transaction unless a hold of its context has it, and of each hold that its context
// carries.
type gate struct {
	gates  *gates
	id     string
	number int64 // of the lock that it takes
	holds  []any // that are looked up
	under  *holdings
}

// open is openSQL.
func (g *gate) open(idle any) query {
	s := g.gates.open
	return query{s, s.args(g.id, append([]any{idle, g.number}, g.holds...)...)}
}

// insert, save, remove and note are insertSQL, saveSQL, removeSQL and noteSQL, with the
// tokens that are kept.
func (g *gate) insert(d *draft, k kept) query { return g.store(g.gates.insert, k, d.stored()...) }
func (g *gate) save(d *draft, k kept) query   { return g.store(g.gates.save, k, d.stored()...) }
func (g *gate) remove(k kept) query           { return g.store(g.gates.remove, k) }
func (g *gate) note(k kept) query             { return g.store(g.gates.note, k) }

func (g *gate) store(s storing, k kept, args ...any) query {
	return s.query(g.id, k, slices.Concat(args, g.holds)...)
}

// check tells of a hold whose end is known here: by Evict, say, after which
// the same session may have given the lock to another holder.
func (g *gate) check() error { return g.under.check() }

// A query is a statement and its arguments.
type query struct {
	statement
	args []any
}

// gates are the statements of one kind.
type gates struct {
	open                       statement
	insert, save, remove, note storing
}

// newGates makes them of what takes the lock, and of what looks up holds, which has so many
// arguments.
func newGates(expand func(string) statement, try, held string, holds int) gates {
	fill := func(text string, first int) string {
		place := func(i int) string { return "{" + strconv.Itoa(first+i) + "}" }
		text = strings.NewReplacer("{gate}", try, "{held}", held).Replace(text)
		return strings.NewReplacer("{high}", place(0), "{low}", place(1), "{pid}", place(2), "{start}", place(3), "{mode}", "'ExclusiveLock'", "{holds}", place(0)).Replace(text)
	}
	store := func(text string, first int, source, version string) storing {
		return newStoring(expand, fill(text, first), first+holds, source, version)
	}
	return gates{
		open: expand(fill(openSQL, 3)), insert: store(insertSQL, 3, "stored", "stored.version"), save: store(saveSQL, 3, "stored", "stored.version"),
		remove: store(removeSQL, 1, "removed", "0::bigint"), note: store(noteSQL, 1, "stored", "stored.version"),
	}
}

// A write without a tenure takes the document's lock, and one under a tenure the
// guard of that (see stillHeldSQL), which its transaction then holds to its end.
const tryLockSQL = `pg_catalog.pg_try_advisory_xact_lock({2}::bigint)`

func (p *postgres) taking(id string, key lock.Key) gate {
	return gate{gates: &p.sql.taking, id: id, number: key.Int64()}
}

// A write under a tenure is stored only if the very session that the tenure
// was given to still holds the lock: process ids are used again, so that its
// start counts, too, where the role may see it. It is looked up after the row
// has been locked, in the statement that reads it, so that nothing is decided on what
// another server says, and again in the statement that stores.
//
// Between this look and the end of the commit the tenure may still be lost.
// That is why such a write takes the key's guard (lock.Key.Guard) before it
// looks, and to the end of its transaction: package lock does not grant a key
// while somebody has its guard, so that the next tenure begins after the last
// write of this one. A locker that
// looks at the guard shares it for a moment, and this write asks for it again
// then, as for a lock.
// Somebody who takes the key with hand-written SQL is held up by the row only:
// he writes after this write, but may have read before it.
const stillHeldSQL = `EXISTS (
		SELECT FROM pg_catalog.pg_locks AS l, pg_catalog.pg_stat_get_activity({pid}::int) AS a
		WHERE l.locktype {=} 'advisory' AND l.mode {=} {mode} AND l.granted
			AND l.database {=} (SELECT oid FROM pg_catalog.pg_database WHERE datname {=} pg_catalog.current_database())
			AND l.classid {=} {high}::bigint::{oid} AND l.objid {=} {low}::bigint::{oid} AND l.objsubid {=} 1
			AND l.pid {=} {pid}::int
			AND (a.backend_start {=} {start}::{text}::{timestamptz}) IS NOT FALSE)`

// Of several holds, or of one of another key, each is looked up in the same way, and what
// follows it waits for the write as well: that takes the second guard of each other key
// (lock.Key.SharedGuard), together with other writes under the same hold.
var (
	allHeldSQL      = allOfSQL(strings.NewReplacer("{high}", "h.high", "{low}", "h.low", "{pid}", "h.pid", "{start}", "h.start", "{mode}", "h.mode").Replace(stillHeldSQL))
	tryLockUnderSQL = tryLockSQL + " AND " + allOfSQL("(h.guard IS NULL OR pg_catalog.pg_try_advisory_xact_lock_shared(h.guard))")
)

// allOfSQL is that something is so of all holds.
func allOfSQL(what string) string {
	return `(SELECT pg_catalog.bool_and(` + what + `)
		FROM pg_catalog.jsonb_to_recordset({holds}::{text}::{jsonb}) AS h (high bigint, low bigint, mode {text}, pid int, start {text}, guard bigint))`
}

// sessionOf is what stillHeldSQL takes: {high}, {low}, {pid}, {start}.
func sessionOf(held *lock.Held, key lock.Key) []any {
	b, _ := held.Backend(key)
	var start any // unknown
	if !b.Start.IsZero() {
		start = b.Start.UTC().Format(time.RFC3339Nano)
	}
	return []any{int64(uint32(key.Int64() >> 32)), int64(uint32(key.Int64())), int32(b.PID), start}
}

func (p *postgres) under(u *holdings, id string, key lock.Key) gate {
	g := gate{&p.sql.underAll, id, key.Int64(), []any{u.proof.text(key)}, u}
	if u.own != nil {
		g.number = key.Guard()
		if len(u.proof) == 1 {
			g.gates, g.holds = &p.sql.under, sessionOf(u.own, key)
		}
	}
	return g
}

// errLost says that the tenure in a write's context is over.
var errLost = fmt.Errorf("metadata: the tenure that the context carries is over: %w", lock.ErrLost)

// holdings are the holds that a write's context carries, the innermost of each key.
type holdings struct {
	own   *lock.Held // that of the document's key, if a session of a server has it
	proof proof      // those that sessions of a server have, key by key
	all   []*lock.Held
}

// carriedBy are the holds in ctx of a write of the document with a key. None of them is
// known to have ended.
func carriedBy(ctx context.Context, key lock.Key) (*holdings, error) {
	u := new(holdings)
	for _, held := range lock.AllFromContext(ctx) {
		for _, k := range held.Keys() {
			if lock.FromContext(ctx, k) != held {
				continue
			}
			if !slices.Contains(u.all, held) {
				u.all = append(u.all, held)
			}
			if _, ok := held.Backend(k); ok && !u.proof.has(k) {
				u.proof = append(u.proof, heldKey{held, k})
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
		return nil, ErrSharedTenure
	}
	return u, nil
}

func (u *holdings) check() error {
	if u != nil {
		for _, held := range u.all {
			if held.Context().Err() != nil {
				return over(held)
			}
		}
	}
	return nil
}

// identity tells apart sets of holds, for as long as these are there; it is empty where
// there are none.
func (u *holdings) identity() string {
	var b strings.Builder
	for _, held := range u.all {
		fmt.Fprintf(&b, "%p", held)
	}
	return b.String()
}

// writing says of each hold that a write under it begins; ended is called once its outcome
// is known.
func (u *holdings) writing() (ended func(), err error) {
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

// over is the error of a tenure that has ended by itself or by Unlock.
func over(held *lock.Held) error {
	return errors.Join(errLost, context.Cause(held.Context()))
}
