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

// A network is a distance between clients and servers, in a process of its own,
// whose time is not counted with anybody's. See delayLine.
type network struct {
	*worker
	delay time.Duration // each way
}

// A route is a way through a network: from a Unix socket to a server.
type route struct{ Entrance, Network, Address string }

// networkUse is how a network did since the use before.
type networkUse struct {
	Late      *measurement  // how late pieces were that it wrote
	Processor time.Duration // time that it used
}

// away is the arena as clients see it who are so far from its servers.
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
	crew, err := hire(ctx, 1, job{Role: "network", Routes: routes})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("a network of %v: %w", rtt, err), os.RemoveAll(dir))
	}
	far.network = &network{worker: crew[0]}
	in.undo = append(in.undo, func() error { return errors.Join(crew.dismiss(), os.RemoveAll(dir)) })
	return far, far.calibrate(ctx, rtt)
}

// quoted is a value in a connection string.
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

// networkOf is the network of a server's address: the path of a socket, or host
// and port.
func networkOf(address string) string {
	if _, _, err := net.SplitHostPort(address); err == nil && !filepath.IsAbs(address) {
		return "tcp"
	}
	return "unix"
}

// use tells how the network did since it was asked last. Its delay is so long from
// now on.
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

// calibrate makes a round trip take as much longer than over the socket as was asked
// for: being carried takes a moment, too.
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
