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

var article24 = lockKind{
	name: "article v0.24",
	how:  "pg_try_advisory_lock through a pool of 8; 3 retries, 200 ms apart",
	open: openArticle(rule24),
}

var article25 = lockKind{
	name: "article v0.25",
	how:  "pg_try_advisory_lock through a pool of 8; 7 retries, 200 ms doubling to 10 s, no jitter",
	open: openArticle(rule25),
}

var (
	rule24 = backoff.Limit(backoff.Constant{Base: 200 * time.Millisecond, Jitter: backoff.NoJitter}, 1+3)
	rule25 = backoff.Limit(backoff.Exponential{Base: 200 * time.Millisecond, Cap: 10 * time.Second, Jitter: backoff.NoJitter}, 1+7)
)

const articlePool = 8

type articleLocks struct {
	db   *sql.DB
	rule backoff.Policy
}

func openArticle(rule backoff.Policy) func(context.Context, *arena, lockSetup) (locker, error) {
	return func(ctx context.Context, in *arena, s lockSetup) (locker, error) {
		db, err := in.sql(articlePool)
		return &articleLocks{db, rule}, err
	}
}

func (a *articleLocks) lock(ctx context.Context, key int) (func() error, error) {
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

func (a *articleLocks) close() error { return a.db.Close() }

var articleMerge24 = articleMerge("article v0.24", article24.how, rule24)
var articleMerge25 = articleMerge("article v0.25", article25.how, rule25)

// articleMerge reads, merges in Go and writes, through the pool, under the article's lock.
func articleMerge(name, how string, rule backoff.Policy) mergeKind {
	return mergeKind{
		name:  name,
		how:   how + "; SELECT, merge in Go, UPDATE, unlock",
		total: versions,
		open: func(ctx context.Context, in *arena, conns int) (merger, error) {
			db, err := in.sql(articlePool)
			return &articleMerges{articleLocks{db, rule}}, err
		},
	}
}

type articleMerges struct{ articleLocks }

func (a *articleMerges) merge(ctx context.Context, id string, patch json.RawMessage) (err error) {
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
