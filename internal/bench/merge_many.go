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

const (
	manyIDs = 1000

	// setSQL merges many documents at once. Unlike a store, it merges one level only and does
	// not report the result of each document.
	setSQL = "UPDATE " + metadata.DefaultTable + ` AS d SET metadata = d.metadata || p.patch
		FROM unnest($1::text[], $2::jsonb[]) AS p(id, patch) WHERE d.id = p.id`

	// The documents without the patch of that number.
	unseenSQL = "SELECT count(*) FROM " + metadata.DefaultTable + " WHERE id LIKE 'user-%' AND metadata->'seen' IS DISTINCT FROM to_jsonb($1::int)"
)

// mergeManyCase merges into a thousand documents at a time.
func mergeManyCase() testCase {
	single := func(open func(ctx context.Context, in *arena, conns int) (merger, error)) runFunc {
		return mergeManyRun(func(ctx context.Context, in *arena) (manyMerger, error) {
			one, err := open(ctx, in, 1)
			return manyMerger{func(ctx context.Context, patches []metadata.Patch) error {
				for _, p := range patches {
					if err := one.merge(ctx, p.ID, p.Patch); err != nil {
						return err
					}
				}
				return nil
			}, one.close}, err
		})
	}
	return testCase{
		name:  "merge/many/1000",
		asks:  "one writer merges into 1 000 documents of 1.5 KB together; ops are documents, times are of all 1 000",
		floor: "floor: || in a pgx.Batch", by: byRate, far: true,
		subjects: []subject{
			{"lockstore (pgx)", "metadata.Postgres.MergeMany", mergeManyRun(openMergeMany)},
			{"lockstore one by one", "metadata.Postgres.Merge, 1 000 times", single(storePgx.open)},
			{"floor: || in a pgx.Batch", concat.how + ", 1 000 of them pipelined and in one transaction", mergeManyRun(openBatch)},
			{"|| one by one", concat.how + ", 1 000 times", single(concat.open)},
			{"|| FROM unnest", "one UPDATE … FROM unnest", mergeManyRun(openSet)},
		},
	}
}

type manyMerger struct {
	merge func(ctx context.Context, patches []metadata.Patch) error
	close func() error
}

func openMergeMany(ctx context.Context, in *arena) (manyMerger, error) {
	s, err := openStore(ctx, in, 1, nil)
	if err != nil {
		return manyMerger{}, err
	}
	return manyMerger{func(ctx context.Context, patches []metadata.Patch) error {
		_, err := s.MergeMany(ctx, patches)
		return err
	}, s.close}, nil
}

func openBatch(ctx context.Context, in *arena) (manyMerger, error) {
	return openMany(ctx, in, func(ctx context.Context, pool *pgxpool.Pool, patches []metadata.Patch) error {
		var b pgx.Batch
		for _, p := range patches {
			b.Queue(concatSQL, p.ID, p.Patch).QueryRow(func(row pgx.Row) error {
				var document []byte
				return row.Scan(&document)
			})
		}
		return pool.SendBatch(ctx, &b).Close()
	})
}

func openSet(ctx context.Context, in *arena) (manyMerger, error) {
	return openMany(ctx, in, func(ctx context.Context, pool *pgxpool.Pool, patches []metadata.Patch) error {
		ids, texts := make([]string, len(patches)), make([]string, len(patches))
		for i, p := range patches {
			ids[i], texts[i] = p.ID, string(p.Patch)
		}
		_, err := pool.Exec(ctx, setSQL, ids, texts)
		return err
	})
}

func openMany(ctx context.Context, in *arena, merge func(context.Context, *pgxpool.Pool, []metadata.Patch) error) (manyMerger, error) {
	pool, err := in.pool(ctx, 1)
	if err != nil {
		return manyMerger{}, err
	}
	return manyMerger{
		func(ctx context.Context, patches []metadata.Patch) error { return merge(ctx, pool, patches) },
		closing(pool),
	}, nil
}

func mergeManyRun(open func(ctx context.Context, in *arena) (manyMerger, error)) runFunc {
	return func(ctx context.Context, in *arena, p pace) (m *measurement, err error) {
		if err := in.fill(ctx, manyIDs, 1500); err != nil {
			return nil, err
		}
		opened, err := open(ctx, in)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, opened.close()) }()
		patches, seen := make([]metadata.Patch, manyIDs), 0
		connections := in.watch(ctx)
		m = repeat(ctx, p.times(2), func() error {
			seen++
			for i := range patches {
				patches[i] = metadata.Patch{ID: documentID(i), Patch: json.RawMessage(fmt.Sprintf(`{"seen":%d,"by":"worker"}`, seen))}
			}
			return opened.merge(ctx, patches)
		})
		m.Conns = connections()
		m.Ops *= manyIDs
		if m.Errors > 0 {
			return m, nil // the outcome of the last one is unknown
		}
		return m, in.monitor.QueryRow(ctx, unseenSQL, seen).Scan(&m.Violations)
	}
}
