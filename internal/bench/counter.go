package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"example.com/lockstore/metadata"
)

// A counter gives each caller a unique number, which it stores before.

const counterWriters = 256

func counterCase() testCase {
	load := mergeLoad{Writers: counterWriters, Documents: 1, Bytes: 1500, Conns: mergeConns, Long: true, Counter: true}
	return testCase{
		name:  fmt.Sprintf("counter/%d", counterWriters),
		asks:  fmt.Sprintf("%d callers draw numbers, each its own, from one durable counter", counterWriters),
		floor: countByHand.name, by: byRate, far: true,
		prepare: prepareCounters,
		subjects: append(mergeSubjects(load, storeCounter, countByHand, redisCounter),
			latencyBound(counterWriters, 1, true)),
	}
}

const (
	countSQL    = "UPDATE bench_counters SET n = n + 1 WHERE id = $1 RETURNING n"
	countersSQL = `CREATE TABLE bench_counters (id text PRIMARY KEY, n bigint NOT NULL);
		INSERT INTO bench_counters SELECT 'user-' || n, 0 FROM generate_series(0, 999) AS n; ANALYZE bench_counters`
)

// prepareCounters creates a table of counters, and makes Redis store each write before it
// answers.
func prepareCounters(ctx context.Context, in *arena, _ pace) (undo func() error, err error) {
	if err := in.redis.durable(ctx, true); err != nil {
		return nil, err
	}
	_, err = in.monitor.Exec(ctx, countersSQL)
	return func() error {
		_, err := in.monitor.Exec(context.Background(), "DROP TABLE bench_counters")
		return errors.Join(err, in.redis.durable(context.Background(), false))
	}, err
}

// drawn has the numbers that callers got.
type drawn [1 << 18]atomic.Uint64

func (d *drawn) draw(n int64) error {
	at, bit := n/64%int64(len(d)), uint64(1)<<(n%64)
	if d[at].Or(bit)&bit != 0 {
		return fmt.Errorf("two callers got %d", n)
	}
	return nil
}

var storeCounter = mergeKind{
	name: "lockstore (pgx)", how: "Update on a store, whose decide counts and keeps its number", total: counted,
	open: byStore(func(s *metadata.Postgres, _ *pgxpool.Pool) writeFunc {
		var all drawn
		return func(ctx context.Context, id string, patch json.RawMessage) error {
			var own int64
			_, err := s.Update(ctx, id, func(d metadata.Document) (more json.RawMessage, err error) {
				own, more, err = countOn(d.Metadata, patch)
				return more, err
			})
			if err != nil {
				return err
			}
			return all.draw(own)
		}
	}),
}

var countByHand = mergeKind{
	name: "floor: SET n = n + 1", how: "pgx: UPDATE … SET n = n + 1 … RETURNING n, prepared",
	total: func(ctx context.Context, in *arena) (n int64, err error) {
		err = in.monitor.QueryRow(ctx, "SELECT sum(n)::bigint FROM bench_counters").Scan(&n)
		return n, err
	},
	open: byHand(func(pool *pgxpool.Pool) writeFunc {
		var all drawn
		return func(ctx context.Context, id string, _ json.RawMessage) error {
			var own int64
			if err := pool.QueryRow(ctx, countSQL, id).Scan(&own); err != nil {
				return err
			}
			return all.draw(own)
		}
	}),
}

var redisCounter = mergeKind{
	name: "Redis INCR", how: "go-redis: Incr, with appendfsync always and a connection for each caller",
	total: func(ctx context.Context, in *arena) (int64, error) {
		if in.redis == nil {
			return 0, errNoRedis
		}
		n, err := in.redis.monitor.Get(ctx, documentID(0)).Int64()
		if errors.Is(err, redis.Nil) {
			err = nil
		}
		return n, err
	},
	open: func(ctx context.Context, in *arena, _ int) (merger, error) {
		client, err := in.redisClient(ctx, counterWriters)
		if err != nil {
			return nil, err
		}
		var all drawn
		return opened{func(ctx context.Context, id string, _ json.RawMessage) error {
			own, err := client.Incr(ctx, id).Result()
			if err != nil {
				return err
			}
			return all.draw(own)
		}, client.Close}, nil
	},
}
