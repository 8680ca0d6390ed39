package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A network is a distance between clients and servers, in a separate process, whose processor
// time is counted separately. See delayLine.
type network struct {
	*worker
	delay time.Duration // each way
}

// A route leads through a network, from a Unix socket to a server.
type route struct{ Entrance, Network, Address string }

// networkUse has a network's measurements since the previous use.
type networkUse struct {
	Late      *measurement  // how late it wrote pieces
	Processor time.Duration // processor time
}

// away returns the arena for clients at this distance from its servers.
func (in *arena) away(ctx context.Context, rtt time.Duration) (far *arena, err error) {
	if rtt == 0 {
		return in, nil
	}
	dir, err := os.MkdirTemp("", "bench-net-*")
	if err != nil {
		return nil, err
	}
	config, err := pgx.ParseConfig(in.DSN)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	const port = 5432
	kind, address := pgconn.NetworkAddress(config.Host, config.Port)
	routes := []route{{filepath.Join(dir, fmt.Sprint(".s.PGSQL.", port)), kind, address}}
	copied := *in
	far = &copied
	far.near = in
	far.DSN = fmt.Sprintf("host=%s port=%d user=%s password=%s dbname=%s sslmode=disable",
		dir, port, quoted(config.User), quoted(config.Password), quoted(config.Database))
	for _, server := range []*string{&far.Redis, &far.Etcd} {
		if *server != "" {
			entrance := filepath.Join(dir, fmt.Sprint("server", len(routes)))
			routes = append(routes, route{entrance, networkOf(*server), *server})
			*server = entrance
		}
	}
	all, err := startWorkers(ctx, 1, job{Role: "network", Routes: routes})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("a network of %v: %w", rtt, err), os.RemoveAll(dir))
	}
	far.network = &network{worker: all[0]}
	in.undo = append(in.undo, func() error { return errors.Join(all.stop(), os.RemoveAll(dir)) })
	return far, far.calibrate(ctx, rtt)
}

// quoted quotes a value for a connection string.
func quoted(value string) string {
	escaped := []rune{'\''}
	for _, c := range value {
		if c == '\'' || c == '\\' {
			escaped = append(escaped, '\\')
		}
		escaped = append(escaped, c)
	}
	return string(append(escaped, '\''))
}

// networkOf returns the network of a server's address, which is a socket's path, or host and
// port.
func networkOf(address string) string {
	if _, _, err := net.SplitHostPort(address); err == nil && !filepath.IsAbs(address) {
		return "tcp"
	}
	return "unix"
}

// use returns the network's measurements since the last call, and sets its delay.
func (n *network) use() (use networkUse, err error) {
	if err := n.send(n.delay); err != nil {
		return use, err
	}
	text, err := n.answer()
	if err != nil {
		return use, err
	}
	return use, json.Unmarshal(text, &use)
}

// calibrate adjusts the delay so that a round trip takes as much longer than over the socket
// as was requested: forwarding takes time, too.
func (in *arena) calibrate(ctx context.Context, rtt time.Duration) error {
	at := pace{Warm: 50 * time.Millisecond, Count: 200 * time.Millisecond}
	in.network.delay = rtt / 2
	if _, err := in.network.use(); err != nil {
		return err
	}
	near, err := in.near.roundTrip(ctx, at, ping)
	if err != nil {
		return err
	}
	far, err := in.roundTrip(ctx, at, ping)
	if err != nil {
		return err
	}
	in.network.delay -= min(max(0, far-near-rtt), rtt) / 2
	_, err = in.network.use()
	return err
}
