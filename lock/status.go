package lock

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"example.com/lockstore/internal/pgdb"
	"example.com/lockstore/internal/printable"
)

// Status describes who held a key and who waited for it at one moment. It is for people and
// dashboards: by the time it is read, it may be out of date.
type Status struct {
	Key     Key      `json:"key"`               // its [Key.Int64] is always known; its name only if a process that holds or wants it has answered
	Holders []Holder `json:"holders,omitempty"` // server sessions; none if the key is free
	Waiters int      `json:"waiters"`           // number that waits elsewhere: calls in other processes, and other sessions in the server's own queue

	HoldersHere int `json:"holders_here"` // Helds of this Locker
	WaitersHere int `json:"waiters_here"` // calls that wait in this Locker, or in this process to write the key's document

	Waiting    []Waiter  `json:"waiting,omitempty"`    // longest wait first, up to 8 of each process
	Unanswered []Waiter  `json:"unanswered,omitempty"` // processes that did not say in time whether calls wait there
	Cycle      []Backend `json:"cycle,omitempty"`      // processes each of which has waited for half a second for a key that the next one holds: a deadlock, or mere contention
}

// String returns the status as one line, such as
//
//	user/42 is held by process 4711 (worker, app, 10.0.0.7), shared; 2 wait elsewhere, 3 here: process 4712 (worker, app) for 3s
func (s Status) String() string {
	var b strings.Builder
	b.WriteString(s.Key.String())
	if len(s.Holders) == 0 {
		b.WriteString(" is free")
	}
	for i, h := range s.Holders {
		b.WriteString([]string{" is held by ", ", "}[min(i, 1)] + h.String())
	}
	if s.Waiters+s.WaitersHere > 0 {
		fmt.Fprintf(&b, "; %d wait elsewhere, %d here", s.Waiters, s.WaitersHere)
	}
	seen := map[Backend]bool{}
	for _, w := range s.Waiting {
		if n := len(seen); !seen[w.Backend] && n < mostWaits {
			b.WriteString([]string{": ", ", "}[min(n, 1)] + w.String())
		}
		seen[w.Backend] = true
	}
	for i, w := range s.Unanswered {
		b.WriteString([]string{"; no answer from ", ", "}[min(i, 1)] + w.String())
	}
	for i, of := range s.Cycle {
		b.WriteString([]string{"; in a circle ", " waits for "}[min(i, 1)] + of.String())
	}
	if len(s.Cycle) > 0 {
		b.WriteString(" waits for " + s.Cycle[0].String())
	}
	return b.String()
}

// Waiter is a call that waits for a key, with the server session that identifies its process;
// or a session that waits for the key by statements of its own.
type Waiter struct {
	Backend
	Shared       bool          `json:"shared"`
	Writing      bool          `json:"writing"`        // waits to write the key's document, without a Locker
	Application  string        `json:"application"`    // as of a [Holder]
	User         string        `json:"user"`           //
	Address      string        `json:"address"`        //
	InThisLocker bool          `json:"in_this_locker"` // is in this process, and known to this Locker
	Waited       time.Duration `json:"waited"`         // in nanoseconds; for a session whose process did not answer, since its last statement began to wait
	More         int           `json:"more,omitempty"` // in the last entry of a process: its calls that are not in the list
}

// String returns the waiter as part of a line.
func (w Waiter) String() string {
	text := sessionText(w.Backend, w.Application, w.User, w.Address)
	for _, more := range []struct {
		is   bool
		text string
	}{{w.Shared, ", shared"}, {w.Writing, ", to write"}, {w.Waited > 0, " for " + w.Waited.Round(time.Millisecond).String()}} {
		if more.is {
			text += more.text
		}
	}
	return text
}

// sessionText returns a session as part of a line.
func sessionText(b Backend, of ...string) string {
	var known []string
	for _, s := range of {
		if s != "" {
			known = append(known, printable.Text(s))
		}
	}
	if len(known) == 0 {
		return b.String()
	}
	return b.String() + " (" + strings.Join(known, ", ") + ")"
}

// Holder is a server session that holds a key: for a Locker, or by locks of a transaction or
// of SQL written by hand.
type Holder struct {
	Backend                // Start is zero if the server does not show it
	Shared       bool      `json:"shared"`
	Writing      bool      `json:"writing"`        // writes for a holder; no other gets the key before its transaction ends, even if that holder loses the lock
	Application  string    `json:"application"`    // application_name
	User         string    `json:"user"`           //
	Address      string    `json:"address"`        // of the client; empty for a unix socket
	InThisLocker bool      `json:"in_this_locker"` // the session is this Locker's
	Since        time.Time `json:"since,omitzero"` // when this Locker got the key; zero if another has it
}

// String returns the holder as part of a line.
func (h Holder) String() string {
	text := sessionText(h.Backend, h.Application, h.User, h.Address)
	for _, more := range []struct {
		is   bool
		text string
	}{{h.Shared, ", shared"}, {h.Writing, ", writing"}, {!h.Since.IsZero(), " since " + h.Since.UTC().Format(time.RFC3339)}} {
		if more.is {
			text += more.text
		}
	}
	return text
}

// Statements on the host's connections qualify every name, operators included, as PostgreSQL's
// own. Otherwise a role that may create objects in a schema of the search_path could make the
// host run those instead. Syntax that looks up operators without naming them (IN, BETWEEN,
// NULLIF, JOIN USING) is not used. Types named by keywords, such as bigint, and extract are
// always PostgreSQL's own.

// statusSQL lists the sessions that hold or wait for 64-bit advisory locks of this database.
// classid and objid are the halves of the key, and objsubid is 1 for keys of one number.
// (PostgreSQL documentation, 54.12 pg_locks.)
const statusSQL = `SELECT l.classid::bigint, l.objid::bigint, l.granted, l.mode OPERATOR(pg_catalog.=) 'ShareLock',
	l.pid, coalesce(` + startSQL + `, 0),
	coalesce(a.application_name, ''), coalesce(a.usename, ''), coalesce(pg_catalog.host(a.client_addr), ''),
	coalesce((extract(epoch FROM pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) l.waitstart) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint, 0)
FROM pg_catalog.pg_locks AS l LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid OPERATOR(pg_catalog.=) l.pid
WHERE l.database OPERATOR(pg_catalog.=) (` + databaseSQL + `) AND `

const (
	keyStatusSQL = statusSQL + ofTheKeySQL + inOrderSQL

	// namespaceStatusSQL lists those of a namespace ($1), and all that could be a guard of a
	// key of it.
	namespaceStatusSQL = statusSQL + `l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.objsubid OPERATOR(pg_catalog.=) 1::smallint
	AND (l.classid::bigint OPERATOR(pg_catalog.>>) 16 OPERATOR(pg_catalog.=) $1::bigint
		OR l.granted)` + inOrderSQL

	inOrderSQL = `
ORDER BY l.classid, l.objid, a.backend_start, l.pid`

	// ofTheKeySQL selects locks of a key, and of its guards when they are taken to write: see
	// places.
	ofTheKeySQL = `l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.objsubid OPERATOR(pg_catalog.=) 1::smallint
	AND (l.classid OPERATOR(pg_catalog.=) ($1::bigint)::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) ($2::bigint)::pg_catalog.oid
		OR l.classid OPERATOR(pg_catalog.=) ($3::bigint)::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) ($4::bigint)::pg_catalog.oid
			AND l.granted AND l.mode OPERATOR(pg_catalog.=) 'ExclusiveLock'
		OR l.classid OPERATOR(pg_catalog.=) ($5::bigint)::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) ($6::bigint)::pg_catalog.oid
			AND l.granted AND l.mode OPERATOR(pg_catalog.=) 'ShareLock')`
)

// places returns the halves of a key and of its guards as pg_locks has them.
func places(k Key) []any {
	g, s := k.Guard(), k.SharedGuard()
	return []any{high(k.id), low(k.id), high(g), low(g), high(s), low(s)}
}

// is reports whether id is that of the key.
func (k Key) is(id int64) bool { return k.id == id }

const (
	// startSQL is the start of a session of pg_stat_activity, in microseconds.
	startSQL = "(extract(epoch FROM a.backend_start) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint"

	// databaseSQL is the database as pg_locks has it.
	databaseSQL = "SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()"
)

// high and low return the halves of a key as pg_locks has them.
func high(key int64) int64 { return int64(uint32(key >> 32)) }
func low(key int64) int64  { return int64(uint32(key)) }

// Status returns who holds key and who waits for it, in every process. It asks the server on
// connections of the host's pool, one at a time, and blocks until it has one. Details of
// sessions of other roles need the role pg_read_all_stats.
//
// It also asks each [Postgres] of the database that holds keys or in which calls wait. That
// needs the right to see what its sessions do, which its own role and pg_read_all_stats have.
//
//   - It notices within a fiftieth of a second if calls wait there, else within a tenth.
//     To answer while its session is busy it needs a connection of its host's pool, of the
//     same role.
//   - If it has not answered after half a second, it is listed in Unanswered, and its
//     sessions in the server's queue count as waiters.
//   - It also reports the calls that wait to write a document, through any store of its
//     process and this database. Those of a process without a Postgres are unknown.
//   - If the server's track_activities is off, no other process is asked.
func (p *Postgres) Status(ctx context.Context, key Key) (Status, error) {
	return p.status(ctx, key, true, 0)
}

// status is Status. If ask is false it does not ask other processes. waited is how long a call
// of this process, which waits no more, has waited for the key.
func (p *Postgres) status(ctx context.Context, key Key, ask bool, waited time.Duration) (Status, error) {
	if err := key.Err(); err != nil {
		return Status{}, err
	}
	found, all, err := p.statuses(ctx, ask, false, key.id, key.is, keyStatusSQL, places(key)...)
	if err == nil {
		found[0].Cycle, err = p.cycle(ctx, found[0], all, waited)
	}
	if err != nil {
		return Status{}, fmt.Errorf("lock: status of %s: %w", key, ofServer(err))
	}
	found[0].Key = key
	return found[0], nil
}

// List returns the status of every key of a namespace that is held or waited for, in any
// process, and asks as Status does. Unanswered is the same in each Status.
//
// A process's answer is cut to what the server shows of a statement
// (track_activity_query_size, 1 kB by default), which is about thirty keys. Of the others only
// what the server knows is returned.
func (p *Postgres) List(ctx context.Context, n Namespace) ([]Status, error) {
	found, _, err := p.statuses(ctx, true, true, int64(n.tag()), n.Contains, namespaceStatusSQL, int64(n.tag()>>48))
	if err != nil {
		return nil, fmt.Errorf("lock: list: %w", ofServer(err))
	}
	return found, nil
}

// statuses returns the status of a key, or of all keys of a namespace that are held or waited
// for, and the processes' reports, that of this process first.
func (p *Postgres) statuses(ctx context.Context, ask, isNamespace bool, key int64, of func(id int64) bool, sql string, args ...any) (found []Status, all []report, err error) {
	var silent []Waiter
	if ask {
		all, silent, err = p.reports(ctx, key)
	} else {
		all = append(all, p.report(ctx))
	}
	if err != nil {
		return nil, nil, err
	}
	if found, err = statuses(ctx, p.db, of, sql, args...); err != nil {
		return nil, nil, err
	}
	byID := make(map[int64]*Status)
	for i := range found {
		byID[found[i].Key.id] = &found[i]
	}
	for _, a := range all {
		for _, t := range a.Keys {
			if of(t.ID) && t.Calls > 0 && byID[t.ID] == nil {
				byID[t.ID] = &Status{Key: ID(t.ID)}
			}
		}
	}
	if byID[key] == nil && !isNamespace {
		byID[key] = &Status{Key: ID(key)}
	}
	found = found[:0]
	for _, id := range slices.SortedFunc(maps.Keys(byID), func(a, b int64) int { return cmp.Compare(uint64(a), uint64(b)) }) {
		s := p.table.describe(*byID[id])
		s.Unanswered = silent
		s.gather(all)
		found = append(found, s)
	}
	return found, all, nil
}

// gather adds the waiters that processes have reported. Their sessions that wait in the
// server's queue do so for some of these, and are not counted again.
func (s *Status) gather(all []report) {
	var sessions []uint32
	for _, a := range all {
		sessions = append(sessions, a.PIDs...)
	}
	s.Waiting = slices.DeleteFunc(s.Waiting, func(w Waiter) bool { return slices.Contains(sessions, w.PID) })
	s.Waiters = len(s.Waiting)
	for i, a := range all {
		for _, t := range a.Keys {
			if t.ID != s.Key.id {
				continue
			}
			if s.Key == ID(t.ID) && t.Name != "" && t.Name[0] != 0 {
				s.Key.name = t.Name
			}
			if i > 0 {
				s.Waiters += t.Calls
			} else {
				s.WaitersHere += t.Writers
			}
			for n, wait := range t.Waits {
				w := a.by
				if n == len(t.Waits)-1 {
					w.More = t.Calls - len(t.Waits)
				}
				w.Shared, w.Writing, w.Waited = wait.Shared, wait.Writing, time.Duration(wait.Millis)*time.Millisecond
				s.Waiting = append(s.Waiting, w)
			}
		}
	}
	slices.SortStableFunc(s.Waiting, func(v, w Waiter) int { return cmp.Compare(w.Waited, v.Waited) })
}

// statuses returns the status of the keys that satisfy of, sorted by key. Among the holders of
// each, sessions that write come last.
func statuses(ctx context.Context, q pgdb.Querier, of func(id int64) bool, sql string, args ...any) (found []Status, err error) {
	byID := make(map[uint64]*Status)
	err = q.Query(ctx, func(row pgdb.Row) error {
		var (
			h                          Holder
			high, low, started, waited int64
			granted                    bool
		)
		if err := row.Scan(&high, &low, &granted, &h.Shared, &h.PID, &started, &h.Application, &h.User, &h.Address, &waited); err != nil {
			return err
		}
		h.Start = startOf(started)
		id := high<<32 | low
		if h.Writing = !of(id); h.Writing {
			if id = guardedBy(id, h.Shared); !of(id) {
				return nil // a lock of others
			}
			h.Shared = false
		}
		s := byID[uint64(id)]
		if s == nil {
			s = &Status{Key: ID(id)}
			byID[uint64(id)] = s
		}
		if granted {
			s.Holders = append(s.Holders, h)
		} else {
			s.Waiting = append(s.Waiting, Waiter{Backend: h.Backend, Shared: h.Shared, Application: h.Application, User: h.User, Address: h.Address,
				Waited: time.Duration(waited) * time.Microsecond})
		}
		return nil
	}, sql, args...)
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		s := byID[id]
		slices.SortStableFunc(s.Holders, func(a, b Holder) int {
			switch {
			case a.Writing == b.Writing:
				return 0
			case a.Writing:
				return 1
			}
			return -1
		})
		found = append(found, *s)
	}
	return found, err
}

// describe adds what this process knows.
func (t *keyTable) describe(s Status) Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entries[s.Key.id]
	if e == nil {
		return s
	}
	s.Key, s.HoldersHere, s.WaitersHere = e.key, len(e.holders), e.waiters.n
	if e.session == nil { // in a Memory
		for _, r := range e.holders {
			s.Holders = append(s.Holders, Holder{Shared: r.mode == shared, InThisLocker: true, Since: r.began})
		}
	}
	for i, h := range s.Holders {
		if e.session != nil && e.session.backend.is(h.Backend) {
			s.Holders[i].InThisLocker, s.Holders[i].Since = true, e.since
		}
	}
	return s
}

// startOf converts the start of a backend, in microseconds since 1970 as the server keeps it.
// 0 means that the server does not show it.
func startOf(micros int64) time.Time {
	if micros == 0 {
		return time.Time{}
	}
	return time.UnixMicro(micros)
}

// started returns Start as startOf takes it.
func (b Backend) started() int64 {
	if b.Start.IsZero() {
		return 0
	}
	return b.Start.UnixMicro()
}

// is reports whether both are the same session, as far as is known. The server shows the start
// of a session to its own role only, and SET ROLE may hide it even from the session itself.
func (b Backend) is(other Backend) bool {
	return b.PID == other.PID && (b.Start.IsZero() || other.Start.IsZero() || b.Start.Equal(other.Start))
}
