package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bsm/redislock"
	"github.com/redis/go-redis/v9"
)

// redisTTL is so long that no lock runs out: what redislock does then is not asked.
const redisTTL = 30 * time.Second

var redisLock = lockKind{
	name: "redislock",
	how:  "github.com/bsm/redislock: Obtain (ExponentialBackoff from its recommended 16 ms to 128 ms, a new one for each lock), Release",
	open: func(ctx context.Context, in *arena, s lockSetup) (locker, error) {
		client, err := in.redisClient(ctx, s.Conns)
		if err != nil {
			return nil, err
		}
		return &redisLocks{client, redislock.New(client)}, nil
	},
}

type redisLocks struct {
	client *redis.Client
	*redislock.Client
}

func (r *redisLocks) lock(ctx context.Context, key int) (func() error, error) {
	return r.obtain(ctx, key, redislock.ExponentialBackoff(16*time.Millisecond, 128*time.Millisecond))
}

func (r *redisLocks) try(ctx context.Context, key int) (func() error, error) {
	return r.obtain(ctx, key, redislock.NoRetry())
}

func (r *redisLocks) obtain(ctx context.Context, key int, retry redislock.RetryStrategy) (func() error, error) {
	l, err := r.Obtain(ctx, fmt.Sprint("key ", key), redisTTL, &redislock.Options{RetryStrategy: retry})
	if errors.Is(err, redislock.ErrNotObtained) && ctx.Err() == nil {
		return nil, errBusy
	}
	if err != nil {
		return nil, err
	}
	return func() error { return l.Release(context.WithoutCancel(ctx)) }, nil
}

func (r *redisLocks) close() error { return r.client.Close() }
