package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/version"
	etcd "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

var etcdVersion = "etcd " + version.Version

// startEtcd starts an etcd of one member in a separate process, on a socket in dir.
func startEtcd(ctx context.Context, dir string) (socket string, stop func() error, err error) {
	socket = filepath.Join(dir, "etcd.socket")
	all, err := startWorkers(ctx, 1, job{Role: "etcd", Directory: dir})
	return socket, all.stop, err
}

// etcdRole is the server, durable as by default.
func etcdRole(_ context.Context, j job, coordinator *wire) error {
	at := func(name string) []url.URL {
		return []url.URL{{Scheme: "unix", Path: filepath.Join(j.Directory, name)}}
	}
	config := embed.NewConfig()
	config.Dir = filepath.Join(j.Directory, "etcd")
	config.ListenClientUrls, config.ListenPeerUrls = at("etcd.socket"), at("etcd.peer")
	config.AdvertiseClientUrls, config.AdvertisePeerUrls = config.ListenClientUrls, config.ListenPeerUrls
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	config.LogLevel = "panic"
	server, err := embed.StartEtcd(config)
	if err != nil {
		return err
	}
	defer server.Close()
	<-server.Server.ReadyNotify()
	if err := coordinator.send(answer{}); err != nil {
		return err
	}
	coordinator.receive(new(string)) // blocks until the end
	return nil
}

func dialEtcd(ctx context.Context, socket string) (*etcd.Client, error) {
	return etcd.New(etcd.Config{Endpoints: []string{"unix:" + socket}, Context: ctx, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
}

// etcdConnections returns the number of clients besides our own, from the kernel's list of
// sockets; 0 if there is no such list.
func etcdConnections(socket string) int {
	const connected = " 03 "
	sockets, _ := os.ReadFile("/proc/net/unix")
	n := 0
	for line := range strings.Lines(string(sockets)) {
		if strings.HasSuffix(line, " "+socket+"\n") && strings.Contains(line, connected) {
			n++
		}
	}
	return max(0, n-1)
}

var etcdLock = lockKind{
	name: "etcd",
	how:  "go.etcd.io/etcd/client/v3/concurrency on one member: Mutex.Lock, Unlock; one client, and a session for each holder and waiter, kept",
	open: func(ctx context.Context, in *arena, s lockSetup) (locker, error) {
		client, err := dialEtcd(context.WithoutCancel(ctx), in.Etcd)
		if err != nil {
			return nil, err
		}
		return &etcdLocks{client: client}, nil
	},
}

// etcdLocks are mutexes with a session for each, because a session gets a key again that it
// holds.
type etcdLocks struct {
	client *etcd.Client
	mu     sync.Mutex
	idle   []*concurrency.Session
}

func (e *etcdLocks) lock(ctx context.Context, key int) (func() error, error) {
	return e.take(ctx, key, (*concurrency.Mutex).Lock)
}

func (e *etcdLocks) try(ctx context.Context, key int) (func() error, error) {
	return e.take(ctx, key, (*concurrency.Mutex).TryLock)
}

func (e *etcdLocks) take(ctx context.Context, key int, how func(*concurrency.Mutex, context.Context) error) (func() error, error) {
	session, err := e.session(ctx)
	if err != nil {
		return nil, err
	}
	m := concurrency.NewMutex(session, fmt.Sprint("/key/", key))
	if err := how(m, ctx); err != nil {
		if errors.Is(err, concurrency.ErrLocked) {
			err = errBusy
		}
		e.keep(session)
		return nil, err
	}
	return func() error {
		defer e.keep(session)
		return m.Unlock(context.WithoutCancel(ctx))
	}, nil
}

func (e *etcdLocks) session(ctx context.Context) (*concurrency.Session, error) {
	e.mu.Lock()
	if last := len(e.idle) - 1; last >= 0 {
		defer e.mu.Unlock()
		session := e.idle[last]
		e.idle = e.idle[:last]
		return session, nil
	}
	e.mu.Unlock()
	lease, err := e.client.Grant(ctx, 60)
	if err != nil {
		return nil, err
	}
	return concurrency.NewSession(e.client, concurrency.WithLease(lease.ID))
}

func (e *etcdLocks) keep(session *concurrency.Session) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.idle = append(e.idle, session)
}

// close ends the sessions, and with them the locks that they still hold.
func (e *etcdLocks) close() error {
	var group sync.WaitGroup
	for _, s := range e.idle {
		group.Go(func() { s.Close() })
	}
	group.Wait()
	return e.client.Close()
}
