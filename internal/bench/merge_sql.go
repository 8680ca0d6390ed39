package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/lockstore/backoff"
	"example.com/lockstore/metadata"
)

const (
	// concatSQL is the least work of a merge: one level only, nulls are stored, only the row is
	// locked, and no version is counted.
	concatSQL = "UPDATE " + metadata.DefaultTable + " SET metadata = metadata || $2 WHERE id = $1 RETURNING metadata"

	readSQL          = "SELECT metadata, version FROM " + metadata.DefaultTable + " WHERE id = $1"
	readForUpdateSQL = readSQL + " FOR UPDATE"
	writeSQL         = "UPDATE " + metadata.DefaultTable + " SET metadata = $2, version = $3 + 1, updated_at = now() WHERE id = $1"
	swapSQL          = writeSQL + " AND version = $3"
)

var concat = mergeKind{
	name: "floor: metadata || patch",
	how:  "pgx: UPDATE … SET metadata = metadata || $2 … RETURNING metadata, prepared",
	open: byHand(func(pool *pgxpool.Pool) writeFunc {
		return func(ctx context.Context, id string, patch json.RawMessage) error {
			var document []byte
			return pool.QueryRow(ctx, concatSQL, id, patch).Scan(&document)
		}
	}),
}

var forUpdate = mergeKind{
	name:  "SELECT … FOR UPDATE",
	how:   "pgx: BEGIN, SELECT … FOR UPDATE, merge in Go (evanphx/json-patch), UPDATE, COMMIT",
	total: versions,
	open: byHand(func(pool *pgxpool.Pool) writeFunc {
		return func(ctx context.Context, id string, patch json.RawMessage) error {
			return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
				var document []byte
				var version int64
				if err := tx.QueryRow(ctx, readForUpdateSQL, id).Scan(&document, &version); err != nil {
					return err
				}
				merged, err := jsonpatch.MergePatch(document, patch)
				if err != nil {
					return err
				}
				_, err = tx.Exec(ctx, writeSQL, id, merged, version)
				return err
			})
		}
	}),
}

var compareAndSwap = mergeKind{
	name:  "compare-and-swap",
	how:   "pgx: SELECT, merge in Go (evanphx/json-patch), UPDATE … WHERE version = $3; again after full jitter, 5 to 100 ms, until it fits",
	total: versions,
	open: byHand(func(pool *pgxpool.Pool) writeFunc {
		return func(ctx context.Context, id string, patch json.RawMessage) error {
			return backoff.Retry(ctx, backoff.Default(), func(ctx context.Context) error { return swap(ctx, pool, id, patch) })
		}
	}),
}

var errChanged = errors.New("changed by another")

// swap merges once. Only errChanged is worth another attempt.
func swap(ctx context.Context, pool *pgxpool.Pool, id string, patch json.RawMessage) error {
	var document []byte
	var version int64
	if err := pool.QueryRow(ctx, readSQL, id).Scan(&document, &version); err != nil {
		return backoff.Permanent(err)
	}
	merged, err := jsonpatch.MergePatch(document, patch)
	if err != nil {
		return backoff.Permanent(err)
	}
	tag, err := pool.Exec(ctx, swapSQL, id, merged, version)
	if err != nil {
		return backoff.Permanent(fmt.Errorf("swap: %w", err))
	}
	if tag.RowsAffected() == 0 {
		return errChanged
	}
	return nil
}
