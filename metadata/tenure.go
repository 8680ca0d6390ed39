package metadata

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"example.com/lockstore/lock"
)

// A gate is how a write makes sure of the document's lock: it takes it, for
// its own transaction, or it writes under the tenure that its context carries.
type gate struct {
	open   func(idle any) query // openSQL
	insert func(d *draft) query // insertSQL
	save   func(d *draft) query // saveSQL
	remove query                // removeSQL
	held   *lock.Held           // the tenure, if there is one
}

// check tells of a tenure whose end is known here: by Evict, say, after which
// the same session may have given the lock to another holder.
func (g *gate) check() error {
	if g.held != nil && g.held.Context().Err() != nil {
		return over(g.held)
	}
	return nil
}

// A query is a statement and its arguments.
type query struct {
	statement
	args []any
}

// gates are the statements of both kinds.
type gates struct{ open, insert, save, remove statement }

func newGates(expand func(string) statement, try, held string) gates {
	fill := func(text string, first int) statement {
		place := func(i int) string { return "{" + strconv.Itoa(first+i) + "}" }
		text = strings.NewReplacer("{gate}", try, "{held}", held).Replace(text)
		return expand(strings.NewReplacer("{high}", place(0), "{low}", place(1), "{pid}", place(2), "{start}", place(3), "{mode}", "'ExclusiveLock'").Replace(text))
	}
	return gates{fill(openSQL, 3), fill(insertSQL, 3), fill(saveSQL, 3), fill(removeSQL, 1)}
}

// A write without a tenure takes the document's lock, and one under a tenure the
// guard of that (see stillHeldSQL), which its transaction then holds to its end.
const tryLockSQL = `pg_catalog.pg_try_advisory_xact_lock({2}::bigint)`

func (p *postgres) taking(id string, key lock.Key) gate {
	g := p.sql.taking
	return gate{
		open:   func(idle any) query { return query{g.open, g.open.args(id, idle, key.Int64())} },
		insert: func(d *draft) query { return query{g.insert, g.insert.args(id, d.stored()...)} },
		save:   func(d *draft) query { return query{g.save, g.save.args(id, d.stored()...)} },
		remove: query{g.remove, g.remove.args(id)},
	}
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

// sessionOf is what stillHeldSQL takes: {high}, {low}, {pid}, {start}.
func sessionOf(held *lock.Held, key lock.Key) []any {
	b, _ := held.Backend(key)
	var start any // unknown
	if !b.Start.IsZero() {
		start = b.Start.UTC().Format(time.RFC3339Nano)
	}
	return []any{int64(uint32(key.Int64() >> 32)), int64(uint32(key.Int64())), int32(b.PID), start}
}

func (p *postgres) under(held *lock.Held, id string, key lock.Key) gate {
	g := p.sql.under
	session := sessionOf(held, key)
	return gate{
		open: func(idle any) query {
			return query{g.open, g.open.args(id, append([]any{idle, key.Guard()}, session...)...)}
		},
		insert: func(d *draft) query { return query{g.insert, g.insert.args(id, append(d.stored(), session...)...)} },
		save:   func(d *draft) query { return query{g.save, g.save.args(id, append(d.stored(), session...)...)} },
		remove: query{g.remove, g.remove.args(id, session...)},
		held:   held,
	}
}

// errLost says that the tenure in a write's context is over.
var errLost = fmt.Errorf("metadata: the tenure that the context carries is over: %w", lock.ErrLost)

// tenureOf returns the tenure of key that ctx carries and that a server's
// session holds, or nil.
func tenureOf(ctx context.Context, key lock.Key) (*lock.Held, error) {
	held := lock.FromContext(ctx, key)
	if held == nil {
		return nil, nil
	}
	if held.Context().Err() != nil {
		return nil, over(held)
	}
	if _, ok := held.Backend(key); !ok {
		return nil, nil
	}
	if held.Shared() {
		return nil, ErrSharedTenure
	}
	return held, nil
}

// writing says that a write under held, if that is not nil, begins; ended is called
// once its outcome is known.
func writing(held *lock.Held) (ended func(), err error) {
	if held == nil {
		return func() {}, nil
	}
	ended, err = held.Writing()
	if err != nil {
		return nil, over(held)
	}
	return ended, nil
}

// over is the error of a tenure that has ended by itself or by Unlock.
func over(held *lock.Held) error {
	return errors.Join(errLost, context.Cause(held.Context()))
}
