package main

import (
	"context"
	"encoding/json"
	"errors"
	"hash/fnv"
	"maps"

	"example.com/lockstore/backoff"
)

var articleMerge24 = articleMerge("article v0.24", article24.how, rule24)
var articleMerge25 = articleMerge("article v0.25", article25.how, rule25)

// articleMerge reads, merges in Go and writes, by way of the pool, under the
// article's lock.
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
	defer unlock() // nobody looks
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
