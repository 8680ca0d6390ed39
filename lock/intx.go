package lock

import (
	"context"
	"fmt"
	"time"

	"example.com/lockstore/backoff"
	"example.com/lockstore/internal/pgdb"
)

// InTx takes key in the host's own transaction, with which the lock ends, however that ends.
// It excludes holders of the key through a [Locker], and they exclude it. Within one session
// it is re-entrant, as the server's locks are.
//
// tx is a pgx.Tx, a *sql.Tx of any driver, a type that embeds one, such as *sqlx.Tx or bun.Tx,
// or one that has its methods ExecContext, QueryContext, Commit and Rollback. Otherwise the
// error matches [ErrUnsupported].
//
// InTx blocks until the key is free or ctx ends, and asks again as [backoff.Default] says. The
// connection of the transaction is in use meanwhile. If ctx ends,
//
//   - the error is a [*BusyError] that also matches the context's cause;
//   - the transaction remains usable, since no statement is interrupted. But database/sql
//     ends a transaction that was begun with the same context;
//   - the transaction can have the key all the same, until it ends, if it waited for the last
//     write of a holder who had lost the key. Roll back if that is not wanted.
//
// (PostgreSQL documentation, 13.3.5 Advisory Locks.)
func InTx(ctx context.Context, tx any, key Key) error {
	if err := key.Err(); err != nil {
		return err
	}
	q, err := pgdb.Tx(tx)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	since, polls := time.Now(), backoff.Start(nil)
	for attempt := 0; ; attempt++ {
		if ctx.Err() != nil {
			return &BusyError{Key: key, Waited: time.Since(since), Attempts: attempt, Cause: causeOf(ctx)}
		}
		var granted bool
		err := tryInTx(ctx, q, key, &granted)
		if code := pgdb.Code(err); err != nil && ctx.Err() != nil && (code == "" || code == queryCanceled) {
			continue // the transaction has ended with the context, which each driver reports in its own way
		}
		if err != nil {
			return fmt.Errorf("lock: %s: %w", key, ofServer(err))
		}
		if granted {
			return nil
		}
		wait, _ := polls.Next()
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// tryInTx asks once, and gets its answer even if ctx ends meanwhile: canceling a statement
// would end the transaction.
func tryInTx(ctx context.Context, q pgdb.Querier, key Key, granted *bool) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tryTimeout)
	defer cancel()
	return q.QueryRow(ctx, []any{granted}, tryInTxSQL, key.id, key.Guard(), key.SharedGuard())
}

// tryInTxSQL takes the key, and reports whether its guards are free. It runs under the host's
// search_path: see statusSQL.
const tryInTxSQL = "SELECT CASE WHEN pg_catalog.pg_try_advisory_xact_lock($1::bigint)" +
	" THEN pg_catalog.pg_try_advisory_xact_lock_shared($2::bigint) AND pg_catalog.pg_try_advisory_xact_lock($3::bigint) ELSE false END"

// tryTimeout bounds a statement that waits for no lock.
const tryTimeout = 10 * time.Second
