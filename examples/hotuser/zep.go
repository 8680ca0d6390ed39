package main

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"maps"
	"time"

	"example.com/lockstore/backoff"
)

// zep reads, merges in Go and writes under a session-level advisory lock, which it takes and
// releases through a pool. It is wrong in three ways:
//
//   - The unlock may run on another connection than the lock did. The server then returns
//     false, which is ignored, and a pooled connection keeps the lock.
//   - A session that has a lock gets it again. Two writers that get the same connection, one
//     after the other, both believe that they hold the lock.
//   - The end of the writer's context cancels the unlock.
type zep struct {
	db      *sql.DB
	acquire func(ctx context.Context, db *sql.DB, key int64) error
}

func openZep(acquire func(context.Context, *sql.DB, int64) error) func(context.Context, database) (merger, error) {
	return func(ctx context.Context, db database) (merger, error) {
		pool, err := db.sql(ctx)
		return zep{pool, acquire}, err
	}
}

// waiting waits in the server, on a connection of the pool. Once all connections wait, the
// holder gets none for its work.
func waiting(ctx context.Context, db *sql.DB, key int64) error {
	_, err := db.ExecContext(ctx, "SELECT pg_advisory_lock($1)", key)
	return err
}

var zep24 = backoff.Limit(backoff.Constant{
	Base:   200 * time.Millisecond,
	Jitter: backoff.NoJitter,
}, 1+3)

var zep25 = backoff.Limit(backoff.Exponential{
	Base:   200 * time.Millisecond,
	Cap:    10 * time.Second,
	Jitter: backoff.NoJitter,
}, 1+7)

var errNotAcquired = errors.New("lock not acquired")

func retrying(policy backoff.Policy) func(context.Context, *sql.DB, int64) error {
	return func(ctx context.Context, db *sql.DB, key int64) error {
		return backoff.Retry(ctx, policy, func(ctx context.Context) error {
			var acquired bool
			err := db.QueryRowContext(ctx, "SELECT pg_try_advisory_lock($1)", key).Scan(&acquired)
			if err == nil && !acquired {
				err = errNotAcquired
			}
			return err
		})
	}
}

func (z zep) merge(ctx context.Context, user string, patch json.RawMessage) error {
	hash := sha256.Sum256([]byte(user))
	key := int64(binary.BigEndian.Uint64(hash[:]))
	if err := z.acquire(ctx, z.db, key); err != nil {
		return err
	}
	defer z.db.ExecContext(ctx, "SELECT pg_advisory_unlock($1)", key)
	return readMergeWrite(ctx, z.db, user, patch)
}

func (z zep) close() error { return z.db.Close() }

// readMergeWrite changes metadata in three steps. It loses what another writer does between
// the first and the last step, so it must run under a lock.
func readMergeWrite(ctx context.Context, db *sql.DB, user string, patch json.RawMessage) error {
	var stored []byte
	if err := db.QueryRowContext(ctx, "SELECT metadata FROM users WHERE id = $1", user).Scan(&stored); err != nil {
		return err
	}
	var document, changes map[string]any
	if err := errors.Join(json.Unmarshal(stored, &document), json.Unmarshal(patch, &changes)); err != nil {
		return err
	}
	maps.Copy(document, changes)
	merged, err := json.Marshal(document)
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, "UPDATE users SET metadata = $2 WHERE id = $1", user, merged)
	return err
}
