package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"hash/fnv"
	"maps"
	"time"

	"example.com/lockstore/backoff"
)

// The algorithms with which two releases of a memory service protected its users' metadata: a
// session-level lock, taken and released through the pool. The unlock may run on another session
// than the lock did, its result is ignored, and a session that has a lock gets it again.

var zep24 = lockKind{
	name: "zep-v0.24",
	how:  "pg_try_advisory_lock through a pool of 8; 3 retries, 200 ms apart",
	open: openZep(zepRule24),
}

var zep25 = lockKind{
	name: "zep-v0.25",
	how:  "pg_try_advisory_lock through a pool of 8; 7 retries, 200 ms doubling to 10 s, no jitter",
	open: openZep(zepRule25),
}

var (
	zepRule24 = backoff.Limit(backoff.Constant{Base: 200 * time.Millisecond, Jitter: backoff.NoJitter}, 1+3)
	zepRule25 = backoff.Limit(backoff.Exponential{Base: 200 * time.Millisecond, Cap: 10 * time.Second, Jitter: backoff.NoJitter}, 1+7)
)

const zepPool = 8

type zepLocks struct {
	db   *sql.DB
	rule backoff.Policy
}

func openZep(rule backoff.Policy) func(context.Context, *arena, lockSetup) (locker, error) {
	return func(ctx context.Context, in *arena, s lockSetup) (locker, error) {
		db, err := in.sql(zepPool)
		return &zepLocks{db, rule}, err
	}
}

func (a *zepLocks) lock(ctx context.Context, key int) (func() error, error) {
	err := backoff.Retry(ctx, a.rule, func(ctx context.Context) error {
		var granted bool
		err := a.db.QueryRowContext(ctx, tryLockSQL, keyID(key)).Scan(&granted)
		if err == nil && !granted {
			err = errBusy
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return func() error {
		_, err := a.db.ExecContext(ctx, unlockSQL, keyID(key))
		return err
	}, nil
}

func (a *zepLocks) close() error { return a.db.Close() }

var zepMerge24 = zepMerge("zep-v0.24", zep24.how, zepRule24)
var zepMerge25 = zepMerge("zep-v0.25", zep25.how, zepRule25)

// zepMerge reads, merges in Go and writes, through the pool, under that lock.
func zepMerge(name, how string, rule backoff.Policy) mergeKind {
	return mergeKind{
		name:  name,
		how:   how + "; SELECT, merge in Go, UPDATE, unlock",
		total: versions,
		open: func(ctx context.Context, in *arena, conns int) (merger, error) {
			db, err := in.sql(zepPool)
			return &zepMerges{zepLocks{db, rule}}, err
		},
	}
}

type zepMerges struct{ zepLocks }

func (a *zepMerges) merge(ctx context.Context, id string, patch json.RawMessage) (err error) {
	hash := fnv.New32a()
	hash.Write([]byte(id))
	unlock, err := a.lock(ctx, int(hash.Sum32()))
	if err != nil {
		return err
	}
	defer unlock() // its result is ignored
	var stored []byte
	var version int64
	if err := a.db.QueryRowContext(ctx, readSQL, id).Scan(&stored, &version); err != nil {
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
	_, err = a.db.ExecContext(ctx, writeSQL, id, merged, version)
	return err
}
