package main

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/lockstore/backoff"
)

// lost counts the merges that were acknowledged, but whose value is not in the
// user's document.
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

// leaked counts the advisory locks of this database that are still held although
// no writer is at work. A server process that was cut off ends by itself a moment
// later, and its lock with it, so a lock counts when it stays for a second.
func leaked(ctx context.Context, conn *pgx.Conn) (n int, err error) {
	const held = `
		SELECT count(*) FROM pg_locks
		WHERE locktype = 'advisory' AND granted
		  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`
	patience := backoff.Within(backoff.Constant{Base: 20 * time.Millisecond}, time.Second)
	for _, over := range backoff.Attempts(ctx, patience) {
		if errors.Is(over, backoff.ErrExhausted) {
			return n, nil
		}
		if over != nil {
			return n, over
		}
		if err := conn.QueryRow(ctx, held).Scan(&n); err != nil || n == 0 {
			return n, err
		}
	}
	return n, nil
}
