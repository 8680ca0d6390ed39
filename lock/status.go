package lock

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"example.com/lockstore/internal/pgdb"
	"example.com/lockstore/internal/printable"
)

// Status is what was known of a key at one moment. It is for people and
// dashboards: by the time it is read, it may no longer be so.
type Status struct {
	Key     Key      `json:"key"`               // its name is known only if this process holds or wants it; [Key.Int64] always
	Holders []Holder `json:"holders,omitempty"` // server sessions; none if the key is free
	Waiters int      `json:"waiters"`           // server sessions that wait in the server's own queue

	HoldersHere int `json:"holders_here"` // Helds of this Locker
	WaitersHere int `json:"waiters_here"` // calls that wait in this Locker, without a server session
}

// String is the status as one line, such as
//
//	user/42 is held by process 4711 (worker, app, 10.0.0.7), shared; 2 wait at the server, 3 here
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
		fmt.Fprintf(&b, "; %d wait at the server, %d here", s.Waiters, s.WaitersHere)
	}
	return b.String()
}

// Holder is a server session that holds a key: for a Locker, or by
// transaction-level or hand-written locks of its own.
type Holder struct {
	Backend                // Start is zero where the server does not tell
	Shared       bool      `json:"shared"`
	Writing      bool      `json:"writing"`        // writes for a holder, to the end of its transaction; the key is kept so long even if that holder loses it
	Application  string    `json:"application"`    // application_name
	User         string    `json:"user"`           //
	Address      string    `json:"address"`        // of the client; empty for a unix socket
	InThisLocker bool      `json:"in_this_locker"` // the session is this Locker's
	Since        time.Time `json:"since,omitzero"` // when this Locker got the key; zero if another did
}

// String is the holder as part of a line.
func (h Holder) String() string {
	var known []string
	for _, s := range []string{h.Application, h.User, h.Address} {
		if s != "" {
			known = append(known, printable.Text(s))
		}
	}
	text := h.Backend.String()
	if len(known) > 0 {
		text += " (" + strings.Join(known, ", ") + ")"
	}
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

// Statements for the host's connections qualify every name, operators included, as
// PostgreSQL's own. Otherwise a role that may create objects in a schema of the
// search_path could have the host run those instead. Syntax that looks up operators
// without naming them (IN, BETWEEN, NULLIF, JOIN USING) is not used. Types named by
// keywords, such as bigint, and extract always are PostgreSQL's own.

// statusSQL lists the sessions that have or want 64-bit advisory locks of this
// database (PostgreSQL documentation, 54.12 pg_locks): classid and objid are
// the halves of the key, and objsubid is 1 for keys of one number.
const statusSQL = `SELECT l.classid::bigint, l.objid::bigint, l.granted, l.mode OPERATOR(pg_catalog.=) 'ShareLock',
	l.pid, coalesce(` + startSQL + `, 0),
	coalesce(a.application_name, ''), coalesce(a.usename, ''), coalesce(pg_catalog.host(a.client_addr), '')
FROM pg_catalog.pg_locks AS l LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid OPERATOR(pg_catalog.=) l.pid
WHERE l.database OPERATOR(pg_catalog.=) (` + databaseSQL + `) AND `

const (
	keyStatusSQL = statusSQL + ofTheKeySQL + inOrderSQL

	// namespaceStatusSQL lists those of a namespace ($1), and whatever could be a guard of
	// a key of it.
	namespaceStatusSQL = statusSQL + `l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.objsubid OPERATOR(pg_catalog.=) 1::smallint
	AND (l.classid::bigint OPERATOR(pg_catalog.>>) 16 OPERATOR(pg_catalog.=) $1::bigint
		OR l.granted)` + inOrderSQL

	inOrderSQL = `
ORDER BY l.classid, l.objid, a.backend_start, l.pid`

	// ofTheKeySQL tells locks of a key, and of whoever has a guard of it to write: see places.
	ofTheKeySQL = `l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.objsubid OPERATOR(pg_catalog.=) 1::smallint
	AND (l.classid OPERATOR(pg_catalog.=) ($1::bigint)::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) ($2::bigint)::pg_catalog.oid
		OR l.classid OPERATOR(pg_catalog.=) ($3::bigint)::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) ($4::bigint)::pg_catalog.oid
			AND l.granted AND l.mode OPERATOR(pg_catalog.=) 'ExclusiveLock'
		OR l.classid OPERATOR(pg_catalog.=) ($5::bigint)::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) ($6::bigint)::pg_catalog.oid
			AND l.granted AND l.mode OPERATOR(pg_catalog.=) 'ShareLock')`
)

// places are a key and its guards as pg_locks has them.
func places(k Key) []any {
	g, s := k.Guard(), k.SharedGuard()
	return []any{high(k.id), low(k.id), high(g), low(g), high(s), low(s)}
}

// is reports whether id is the key's.
func (k Key) is(id int64) bool { return k.id == id }

const (
	// startSQL is when a session of pg_stat_activity began, in microseconds.
	startSQL = "(extract(epoch FROM a.backend_start) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint"

	// databaseSQL is the database as pg_locks has it.
	databaseSQL = "SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()"
)

// high and low are the halves of a key, as pg_locks has them.
func high(key int64) int64 { return int64(uint32(key >> 32)) }
func low(key int64) int64  { return int64(uint32(key)) }

// Status tells who holds key, and who waits for it, in any process. It asks
// the server on a connection of the host's pool, and blocks until it has one.
// Details of sessions of other roles need the role pg_read_all_stats.
func (p *Postgres) Status(ctx context.Context, key Key) (Status, error) {
	if err := key.Err(); err != nil {
		return Status{}, err
	}
	found, err := p.statuses(ctx, key.is, keyStatusSQL, places(key)...)
	if err != nil {
		return Status{}, fmt.Errorf("lock: status of %s: %w", key, ofServer(err))
	}
	if len(found) == 0 {
		found = append(found, p.queue.describe(Status{Key: key}))
	}
	found[0].Key = key
	return found[0], nil
}

// List tells the status of every key of a namespace that is held or waited for
// at the server, in any process. It asks as Status does.
func (p *Postgres) List(ctx context.Context, n Namespace) ([]Status, error) {
	found, err := p.statuses(ctx, n.Contains, namespaceStatusSQL, int64(n.tag()>>48))
	if err != nil {
		return nil, fmt.Errorf("lock: list: %w", ofServer(err))
	}
	return found, nil
}

func (p *Postgres) statuses(ctx context.Context, of func(id int64) bool, sql string, args ...any) ([]Status, error) {
	found, err := statuses(ctx, p.db, of, sql, args...)
	for i := range found {
		found[i] = p.queue.describe(found[i])
	}
	return found, err
}

// statuses tells of the keys that of knows, in their order, and of each those who write
// last.
func statuses(ctx context.Context, q pgdb.Querier, of func(id int64) bool, sql string, args ...any) (found []Status, err error) {
	byID := make(map[uint64]*Status)
	err = q.Query(ctx, func(row pgdb.Row) error {
		var (
			h                  Holder
			high, low, started int64
			granted            bool
		)
		if err := row.Scan(&high, &low, &granted, &h.Shared, &h.PID, &started, &h.Application, &h.User, &h.Address); err != nil {
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
			s.Waiters++
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
func (q *queue) describe(s Status) Status {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.entries[s.Key.id]
	if e == nil {
		return s
	}
	s.Key, s.HoldersHere, s.WaitersHere = e.key, len(e.holders), e.line.n
	for i, h := range s.Holders {
		if e.session != nil && e.session.backend.is(h.Backend) {
			s.Holders[i].InThisLocker, s.Holders[i].Since = true, e.since
		}
	}
	return s
}

// startOf is a backend's start, in microseconds since 1970 as the server keeps
// it; 0 where it does not tell.
func startOf(micros int64) time.Time {
	if micros == 0 {
		return time.Time{}
	}
	return time.UnixMicro(micros)
}

// is reports whether both are the same session, as far as is known: the server
// shows a session's start to its own role only, which SET ROLE may hide even
// from itself.
func (b Backend) is(other Backend) bool {
	return b.PID == other.PID && (b.Start.IsZero() || other.Start.IsZero() || b.Start.Equal(other.Start))
}
