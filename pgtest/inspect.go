package pgtest

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// lookTimeout limits Terminate, Locks and other short requests.
const lookTimeout = 10 * time.Second

// Terminate ends the backend with this process id (pg_terminate_backend), over another
// connection. It returns when the backend is gone, or with an error after ten seconds. It
// is an error if no backend of this database has that id.
func (db *DB) Terminate(pid uint32) error {
	ctx, cancel := context.WithTimeout(context.Background(), lookTimeout)
	defer cancel()
	const sql = "SELECT pg_terminate_backend(pid, $3) FROM pg_stat_activity WHERE datname = $1 AND pid = $2"
	var gone bool
	err := db.server.row(ctx, sql, []any{db.name, int32(pid), lookTimeout.Milliseconds()}, &gone)
	if err == nil && !gone {
		err = context.DeadlineExceeded
	}
	if err != nil {
		return fmt.Errorf("pgtest: terminate backend %d of %s: %w", pid, db.name, err)
	}
	return nil
}

// Lock is an advisory lock that is held or waited for, as in PostgreSQL's view pg_locks.
type Lock struct {
	PID         uint32
	Application string // application_name of the session
	Key         int64  // of the one-key functions; of the two-key ones, the first key is the upper half
	TwoKeys     bool
	Mode        string // ExclusiveLock or ShareLock
	Granted     bool   // false: the session waits for it
}

// Locks returns the advisory locks of this database, ordered by key and then by process
// id. An error fails the test (Fatalf).
func (db *DB) Locks(tb TB) []Lock {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), lookTimeout)
	defer cancel()
	// https://www.postgresql.org/docs/current/view-pg-locks.html: classid has the
	// upper half of the key, objid the lower, and objsubid tells one key (1) from two (2).
	const sql = `SELECT l.pid, coalesce(a.application_name, ''), (l.classid::bigint << 32) | l.objid::bigint, l.objsubid = 2, l.mode, l.granted
		FROM pg_locks l JOIN pg_database d ON d.oid = l.database LEFT JOIN pg_stat_activity a USING (pid)
		WHERE l.locktype = 'advisory' AND d.datname = $1
		ORDER BY 3, 4, 1, 5, 6`
	locks, err := func() ([]Lock, error) {
		conn, err := db.server.take(ctx)
		if err != nil {
			return nil, err
		}
		defer db.server.put(conn)
		rows, err := conn.Query(ctx, sql, db.name)
		if err != nil {
			return nil, err
		}
		return pgx.CollectRows(rows, pgx.RowToStructByPos[Lock])
	}()
	if err != nil {
		tb.Fatalf("pgtest: locks of %s: %v", db.name, err)
	}
	return locks
}
