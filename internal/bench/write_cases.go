package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/lockstore/metadata"
)

// writeCases are the other ways to write one document: read it first, on condition of a
// version, or in a transaction of the host.
func writeCases() []testCase {
	var cases []testCase
	for _, way := range []struct {
		name, asks string
		kinds      []mergeKind
	}{
		{"update/one-document", "read one document of 1.5 KB, decide by it, and change it", []mergeKind{storeUpdate, updateByHand}},
		{"if-version", "get one document of 1.5 KB and merge into it if it is still of that version, again and again; ops are successes", []mergeKind{storeIfVersion, concat, compareAndSwap}},
		{"in-transaction", "merge into one document of 1.5 KB, each in a transaction of its own", []mergeKind{storeInTx, concatInTx, concatBehindSavepoint}},
	} {
		for _, writers := range []int{16, 64, 256} {
			c := testCase{
				name:  fmt.Sprintf("%s/%d", way.name, writers),
				asks:  fmt.Sprintf("%d writers %s", writers, way.asks),
				floor: way.kinds[1].name, by: byRate, far: true,
				subjects: mergeSubjects(mergeLoad{Writers: writers, Documents: 1, Bytes: 1500, Conns: mergeConns, Long: writers >= 256}, way.kinds...),
			}
			if way.name == "update/one-document" { // the others do not share commits
				c.subjects = append(c.subjects, latencyBound(writers, 1, true))
			}
			cases = append(cases, c)
		}
	}
	return append(cases, counterCase())
}

// Updates increment a counter in the document, so that decisions on an outdated document show.

func counted(ctx context.Context, in *arena) (n int64, err error) {
	err = in.monitor.QueryRow(ctx, "SELECT coalesce(sum((metadata->>'count')::bigint), 0)::bigint FROM "+metadata.DefaultTable).Scan(&n)
	return n, err
}

// countOn returns a patch that increments the document's counter, merged with another.
func countOn(document []byte, patch json.RawMessage) (n int64, more json.RawMessage, err error) {
	var d struct{ Count int64 }
	if err := json.Unmarshal(document, &d); err != nil {
		return 0, nil, err
	}
	n = d.Count + 1
	return n, fmt.Appendf(nil, `{"count":%d,%s`, n, patch[1:]), nil
}

var storeUpdate = mergeKind{
	name: "lockstore (pgx)", how: "Update on a store, whose decide counts", total: counted,
	open: byStore(func(s *metadata.Postgres, _ *pgxpool.Pool) writeFunc {
		return func(ctx context.Context, id string, patch json.RawMessage) error {
			_, err := s.Update(ctx, id, func(d metadata.Document) (json.RawMessage, error) {
				_, more, err := countOn(d.Metadata, patch)
				return more, err
			})
			return err
		}
	}),
}

var updateByHand = mergeKind{
	name: "floor: FOR UPDATE by hand", total: counted,
	how: "pgx: BEGIN, SELECT … FOR UPDATE, count in Go, UPDATE … SET metadata = metadata || $2, COMMIT",
	open: byHand(func(pool *pgxpool.Pool) writeFunc {
		return func(ctx context.Context, id string, patch json.RawMessage) error {
			return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
				var document []byte
				var version int64
				if err := tx.QueryRow(ctx, readForUpdateSQL, id).Scan(&document, &version); err != nil {
					return err
				}
				_, more, err := countOn(document, patch)
				if err != nil {
					return err
				}
				return tx.QueryRow(ctx, concatSQL, id, more).Scan(&document)
			})
		}
	}),
}

var storeIfVersion = mergeKind{
	name: "lockstore (pgx)", how: "Get, IfVersion(version).Merge, and again at once on ErrConflict, with what that was told with", total: versions,
	open: byStore(func(s *metadata.Postgres, _ *pgxpool.Pool) writeFunc {
		return func(ctx context.Context, id string, patch json.RawMessage) error {
			d, err := s.Get(ctx, id)
			for again := err == nil; again; again = errors.Is(err, metadata.ErrConflict) {
				d, err = s.IfVersion(d.Version).Merge(ctx, id, patch)
			}
			return err
		}
	}),
}

var storeInTx = mergeKind{
	name: "lockstore (pgx)", how: "BEGIN, In(tx).Merge, COMMIT", total: versions,
	open: byStore(func(s *metadata.Postgres, pool *pgxpool.Pool) writeFunc {
		return func(ctx context.Context, id string, patch json.RawMessage) error {
			return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
				_, err := s.In(tx).Merge(ctx, id, patch)
				return err
			})
		}
	}),
}

var concatInTx = mergeKind{
	name: "floor: || in a transaction", how: "pgx: BEGIN, UPDATE … SET metadata = metadata || $2 … RETURNING metadata, COMMIT",
	open: byHand(func(pool *pgxpool.Pool) writeFunc {
		return func(ctx context.Context, id string, patch json.RawMessage) error {
			return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
				var document []byte
				return tx.QueryRow(ctx, concatSQL, id, patch).Scan(&document)
			})
		}
	}),
}

// concatBehindSavepoint keeps one more of the store's promises than concatInTx: the
// transaction survives a failed merge.
var concatBehindSavepoint = mergeKind{
	name: "|| behind a savepoint", how: "the same between SAVEPOINT and RELEASE SAVEPOINT",
	open: byHand(func(pool *pgxpool.Pool) writeFunc {
		return func(ctx context.Context, id string, patch json.RawMessage) error {
			return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
				return pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
					var document []byte
					return tx.QueryRow(ctx, concatSQL, id, patch).Scan(&document)
				})
			})
		}
	}),
}
