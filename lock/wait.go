package lock

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"example.com/lockstore/internal/pgdb"
)

// A wait in the server's queue is three statements of one transaction. The first notes the key
// in a setting, the second waits for it, and the third reads the outcome. The second is a DO,
// as the server does not log an error that PL/pgSQL catches, and a DO takes no arguments and
// returns nothing. (PostgreSQL documentation, 43.6.8 Trapping Errors.)
const (
	noteName = "lockstore_note"
	noteSQL  = "SELECT FROM (VALUES ($1::bigint)) AS one (key) WHERE set_config('lockstore.wait', key::text, true) IS NULL"

	waited = "current_setting('lockstore.wait')::bigint" // 1: granted, 0: guarded
)

// waitEnded is the outcome of a wait that ended without the key, by lock_timeout or a
// cancellation.
const waitEnded = 2

// The key may be granted just when its wait ends. Then it is given back.
var (
	queueSQL       = inQueue("pg_advisory_lock(key)", "pg_advisory_unlock(key)", dropped, guardedAlone)
	queueSharedSQL = inQueue("pg_advisory_lock_shared(key)", "pg_advisory_unlock_shared(key)", droppedShared, guarded)
)

func inQueue(lock, unlock, dropped, guarded string) string {
	return `DO $$ DECLARE key bigint := current_setting('lockstore.wait'); BEGIN
	PERFORM ` + lock + `;
	PERFORM set_config('lockstore.wait', CASE WHEN ` + guarded + ` THEN '1' ELSE (NOT ` + unlock + `)::int::text END, true);
EXCEPTION WHEN lock_not_available OR query_canceled THEN
	PERFORM ` + dropped + `;
	PERFORM set_config('lockstore.wait', '2', true);
END $$`
}

// canQueueSQL reports whether the role can use PL/pgSQL.
const canQueueSQL = "SELECT EXISTS (SELECT FROM pg_language AS l WHERE l.lanname = 'plpgsql' AND has_language_privilege(l.oid, 'USAGE'))"

// errNoQueue means that keys cannot be waited for at the server.
var errNoQueue = fmt.Errorf("%w: without PL/pgSQL, keys are polled for", ErrUnsupported)

// prepareWaits makes a connection a wait connection.
func prepareWaits(ctx context.Context, conn *pgx.Conn) error {
	can := false
	if err := conn.QueryRow(ctx, canQueueSQL, pgx.QueryExecModeExec).Scan(&can); err != nil {
		return pgdb.Clean(err)
	}
	if !can {
		return errNoQueue
	}
	return prepareStatements(ctx, conn, [][2]string{
		{noteName, noteSQL}, {operations[opWait].queue, queueSQL}, {operations[opWaitShared].queue, queueSharedSQL},
	})
}
