package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// A redisServer is what the locks of redislock are kept in.
type redisServer struct {
	address string
	name    string // "Redis 7.0.15", or what stands in for it
	monitor *redis.Client
	stop    func() error
}

// connections is how many there are, but for our own; 0 if that cannot be told.
func (s *redisServer) connections(ctx context.Context) int {
	n, _ := strconv.Atoi(s.info(ctx, "clients", "connected_clients"))
	return max(0, n-1)
}

func (s *redisServer) info(ctx context.Context, section, field string) string {
	_, value, _ := strings.Cut(s.monitor.Info(ctx, section).Val(), field+":")
	value, _, _ = strings.Cut(value, "\r\n")
	return value
}

// startRedis starts the redis-server of this machine, on a loopback port and
// without persistence, as Redis is mostly run for locks. Where there is none,
// a miniredis in this process stands in, and says so by its name.
func startRedis(ctx context.Context) (*redisServer, error) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		mini, err := miniredis.Run()
		if err != nil {
			return nil, err
		}
		s := &redisServer{address: mini.Addr(), name: "miniredis in this process (no redis-server was found)"}
		s.monitor = redis.NewClient(&redis.Options{Addr: s.address, PoolSize: 1})
		s.stop = func() error {
			err := s.monitor.Close()
			mini.Close()
			return err
		}
		return s, nil
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "bench-redis-*")
	if err != nil {
		return nil, err
	}
	// The server ends with this process, whatever ends that.
	cmd := exec.Command(program, "--bind", "127.0.0.1", "--port", fmt.Sprint(port), "--save", "", "--dir", dir)
	cmd.SysProcAttr = dieWithParent()
	if err := cmd.Start(); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	s := &redisServer{address: fmt.Sprintf("127.0.0.1:%d", port)}
	s.monitor = redis.NewClient(&redis.Options{Addr: s.address, PoolSize: 1})
	s.stop = func() error {
		err := s.monitor.Close()
		cmd.Process.Kill()
		cmd.Wait() // says that it was killed
		return errors.Join(err, os.RemoveAll(dir))
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for s.monitor.Ping(ctx).Err() != nil {
		if ctx.Err() != nil {
			return nil, errors.Join(fmt.Errorf("redis-server does not answer: %w", ctx.Err()), s.stop())
		}
		time.Sleep(5 * time.Millisecond)
	}
	s.name = "Redis " + s.info(ctx, "server", "redis_version")
	return s, nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
