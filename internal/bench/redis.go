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

	"github.com/redis/go-redis/v9"
)

// A redisServer is what the locks of redislock are kept in. Nil is none.
type redisServer struct {
	socket  string
	version string // "Redis 7.0.15"
	monitor *redis.Client
	stop    func() error
}

var errNoRedis = errors.New("there is no redis-server on the PATH (Debian: apt-get install redis-server)")

// startRedis starts the redis-server of this machine on a socket in dir, without
// persistence, as Redis is mostly run for locks. Where there is none, it fails with
// errNoRedis.
func startRedis(ctx context.Context, dir string) (*redisServer, error) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, errNoRedis
	}
	// The server ends with this process, whatever ends that.
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
		cmd.Wait() // says that it was killed
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

// durable has every write stored before it is answered, or nothing stored at all.
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

// connections is how many there are, but for our own; 0 if that cannot be told.
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

// forget removes all that is kept.
func (s *redisServer) forget(ctx context.Context) error {
	if s == nil {
		return nil
	}
	return s.monitor.FlushAll(ctx).Err()
}

// redisClient is a client of at most conns connections.
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
