package main

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/lockstore/backoff"
)

// lost counts the acknowledged merges whose value is not in the user's document.
func lost(ctx context.Context, conn *pgx.Conn, j *job, outcomes []outcome) (int, error) {
	var stored []byte
	if err := conn.QueryRow(ctx, "SELECT metadata FROM users WHERE id = $1", j.User).Scan(&stored); err != nil {
		return 0, err
	}
	var document map[string]any
	if err := json.Unmarshal(stored, &document); err != nil {
		return 0, err
	}
	n := 0
	for _, o := range outcomes {
		if o.Error == "" && document[key(o.Writer)] != value(o.Writer, j.Run) {
			n++
		}
	}
	return n, nil
}

// leaked counts the advisory locks of this database that are still held when no writer runs,
// and describes their holders. Only locks that stay for a second count: a server process whose
// client was cut off takes a moment to end and release its lock.
func leaked(ctx context.Context, conn *pgx.Conn) (n int, holders string, err error) {
	const held = `
		SELECT count(*), coalesce(string_agg(format(
			'key %s by process %s of %s since %s, last statement: %s',
			l.classid::bigint << 32 | l.objid::bigint, l.pid, a.usename, a.state_change, a.query), '; '), '')
		FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
		WHERE l.locktype = 'advisory' AND l.granted
		  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())`
	patience := backoff.Within(backoff.Constant{Base: 20 * time.Millisecond}, time.Second)
	for _, over := range backoff.Attempts(ctx, patience) {
		if errors.Is(over, backoff.ErrExhausted) {
			break
		}
		if over != nil {
			return n, holders, over
		}
		if err := conn.QueryRow(ctx, held).Scan(&n, &holders); err != nil || n == 0 {
			return n, holders, err
		}
	}
	return n, holders, nil
}
