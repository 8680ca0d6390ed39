package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/bsm/redislock"
	"github.com/redis/go-redis/v9"
)

// A redisServer is the Redis server. Nil means that there is none.
type redisServer struct {
	socket  string
	version string // "Redis 7.0.15"
	monitor *redis.Client
	stop    func() error
}

var errNoRedis = errors.New("there is no redis-server on the PATH (Debian: apt-get install redis-server)")

// startRedis starts this machine's redis-server on a socket in dir, without persistence, as
// usual for locks. If there is none, the error is errNoRedis.
func startRedis(ctx context.Context, dir string) (*redisServer, error) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, errNoRedis
	}
	// The server ends with this process, however that ends.
	s := &redisServer{socket: filepath.Join(dir, "redis")}
	cmd := exec.Command(program, "--port", "0", "--unixsocket", s.socket, "--save", "", "--dir", dir, "--maxclients", "2000")
	cmd.SysProcAttr = dieWithParent()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s.monitor = redis.NewClient(&redis.Options{Network: "unix", Addr: s.socket, PoolSize: 1})
	s.stop = func() error {
		err := s.monitor.Close()
		cmd.Process.Kill()
		cmd.Wait() // its error says that it was killed
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for s.monitor.Ping(ctx).Err() != nil {
		if ctx.Err() != nil {
			return nil, errors.Join(fmt.Errorf("redis-server does not answer: %w", ctx.Err()), s.stop())
		}
		time.Sleep(5 * time.Millisecond)
	}
	s.version = "Redis " + s.info(ctx, "server", "redis_version")
	return s, nil
}

// durable makes Redis store every write before it answers, or nothing at all.
func (s *redisServer) durable(ctx context.Context, on bool) error {
	if s == nil {
		return nil
	}
	if !on {
		return s.monitor.ConfigSet(ctx, "appendonly", "no").Err()
	}
	err := errors.Join(s.monitor.ConfigSet(ctx, "appendfsync", "always").Err(), s.monitor.ConfigSet(ctx, "appendonly", "yes").Err())
	for err == nil && s.info(ctx, "persistence", "aof_rewrite_in_progress") != "0" {
		time.Sleep(5 * time.Millisecond)
		err = ctx.Err()
	}
	return err
}

// connections returns the number of connections besides our own, 0 if it is unknown.
func (s *redisServer) connections(ctx context.Context) int {
	if s == nil {
		return 0
	}
	n, _ := strconv.Atoi(s.info(ctx, "clients", "connected_clients"))
	return max(0, n-1)
}

func (s *redisServer) info(ctx context.Context, section, field string) string {
	_, value, _ := strings.Cut(s.monitor.Info(ctx, section).Val(), field+":")
	value, _, _ = strings.Cut(value, "\r\n")
	return value
}

// forget removes all keys.
func (s *redisServer) forget(ctx context.Context) error {
	if s == nil {
		return nil
	}
	return s.monitor.FlushAll(ctx).Err()
}

// redisClient returns a client with at most conns connections.
func (in *arena) redisClient(ctx context.Context, conns int) (*redis.Client, error) {
	if in.Redis == "" {
		return nil, errNoRedis
	}
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: in.Redis, PoolSize: conns})
	if err := client.Ping(ctx).Err(); err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return client, nil
}

// redisTTL is so long that no lock expires, which these cases do not measure.
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
