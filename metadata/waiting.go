package metadata

import (
	"context"
	"sync"

	"example.com/lockstore/internal/pgdb"
	"example.com/lockstore/internal/waiting"
)

// waits are the calls that have found their document's lock or row taken. The Lockers of this
// process report them as waiters when asked.
type waits struct {
	db     pgdb.DB // nil: they are not reported
	source waiting.Source

	mu sync.Mutex
	of map[any]func() []waiting.Call // by queue or call
	at waiting.Database              // zero: unknown
}

// begin has calls reported, as they are when asked, until end.
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

// whereSQL identifies the database as package lock does for its sessions.
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

// foundTaken notes whether the lock of a queue's document was found taken. Its caller has
// queues.mu.
func (q *queues) foundTaken(wq *waitQueue, taken bool) {
	switch {
	case taken && !wq.busy:
		q.waits.begin(wq, func() (all []waiting.Call) {
			q.mu.Lock()
			defer q.mu.Unlock()
			for _, c := range wq.calls {
				all = append(all, waiting.Call{Key: wq.lock, Since: c.since})
			}
			return all
		})
	case wq.busy && !taken:
		q.waits.end(wq)
	}
	wq.busy = taken
}
