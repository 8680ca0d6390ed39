package metadata

import (
	"context"
	"sync"
	"time"

	"example.com/lockstore/internal/pgdb"
	"example.com/lockstore/internal/waiting"
	"example.com/lockstore/lock"
)

// waits are the calls that have found the lock of their document taken, or its row. The
// Lockers of this process tell of them where somebody asks.
type waits struct {
	db     pgdb.DB // nil: nobody tells of them
	source waiting.Source

	mu sync.Mutex
	of map[any]func() []waiting.Call // by the line or the call
	at waiting.Database              // once it is known
}

// begin has calls told of, as they are when somebody asks, until end.
func (w *waits) begin(by any, calls func() []waiting.Call) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.db == nil {
		return
	}
	if w.of == nil {
		w.of, w.source = map[any]func() []waiting.Call{}, waiting.Source{Database: w.database, Calls: w.calls}
	}
	first := len(w.of) == 0
	if w.of[by] = calls; first {
		waiting.Enter(&w.source)
	}
}

func (w *waits) end(by any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, there := w.of[by]; !there {
		return
	}
	if delete(w.of, by); len(w.of) == 0 {
		waiting.Leave(&w.source)
	}
}

func (w *waits) calls() (all []waiting.Call) {
	w.mu.Lock()
	var asked []func() []waiting.Call
	for _, calls := range w.of {
		asked = append(asked, calls)
	}
	w.mu.Unlock()
	for _, calls := range asked {
		all = append(all, calls()...)
	}
	return all
}

// whereSQL is the database, as package lock knows that of its sessions.
const whereSQL = `SELECT a.datid::bigint, (extract(epoch FROM pg_catalog.pg_postmaster_start_time()) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint
FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()) AS a`

func (w *waits) database(ctx context.Context) (at waiting.Database, err error) {
	w.mu.Lock()
	at = w.at
	w.mu.Unlock()
	if at == (waiting.Database{}) {
		err = w.db.QueryRow(ctx, []any{&at.OID, &at.Since}, whereSQL)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.at = at
	}
	return at, err
}

// one is a call that waits by itself.
func one(key lock.Key, since time.Time) func() []waiting.Call {
	return func() []waiting.Call { return []waiting.Call{{Key: key, Since: since}} }
}

// foundTaken notes whether the lock of a line's document was found taken. Its caller has
// queue.mu.
func (q *queue) foundTaken(l *line, taken bool) {
	switch {
	case taken && !l.busy:
		q.waits.begin(l, func() (all []waiting.Call) {
			q.mu.Lock()
			defer q.mu.Unlock()
			for _, c := range l.calls {
				all = append(all, waiting.Call{Key: l.lock, Since: c.since})
			}
			return all
		})
	case l.busy && !taken:
		q.waits.end(l)
	}
	l.busy = taken
}
