package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"
)

// dedicated boots a server for one user, who alone has a lease on it.
func dedicated(ctx context.Context, o options) (*Server, error) {
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	bin, err := find(ctx, o.major)
	if err != nil {
		return nil, err
	}
	if o.settings["listen_addresses"] != "" && o.settings["port"] == "" {
		if o.settings["port"], err = freePort(); err != nil {
			return nil, err
		}
	}
	lock, err := lockFile(ctx, filepath.Join(cache, "lock"))
	if err != nil {
		return nil, err
	}
	in, err := prepare(ctx, cache, bin, o)
	if err := errors.Join(err, lock.Close()); err != nil {
		return nil, err
	}
	owned, err := in.own()
	if err != nil {
		return nil, errors.Join(err, in.making.remove())
	}
	// Long enough for the keeper to come back after a test has ended all backends.
	s, err := boot(ctx, in, 2*time.Second)
	if err != nil {
		return nil, errors.Join(err, owned.Close())
	}
	keeping, stop := context.WithCancel(context.Background())
	s.own = &ownership{lock: owned, stopKeeping: stop}
	s.own.keeper.Go(func() { s.keep(keeping) })
	return s, nil
}

// freePort returns a TCP port that nobody uses now. Another may take it before
// the server does: then the start fails, and says so.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		return "", fmt.Errorf("pgtest: find a port: %w", err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

// boot starts a prepared server and takes a lease on it.
func boot(ctx context.Context, in *instance, linger time.Duration) (s *Server, err error) {
	err = in.start(ctx, in.making.alive, func() (err error) {
		s, err = attach(ctx, in, linger)
		return err
	})
	if err != nil {
		return nil, errors.Join(err, in.end(context.WithoutCancel(ctx)))
	}
	return s, nil
}

// attach takes a lease on a running server.
func attach(ctx context.Context, in *instance, linger time.Duration) (*Server, error) {
	s, err := newServer(in.url("postgres"))
	if err != nil {
		return nil, err
	}
	s.in, s.linger = in, linger
	if shares {
		// A dead process must not hold a lease by a statement that takes long. (Windows has no such check.)
		s.admin.RuntimeParams["client_connection_check_interval"] = "500ms"
	}
	conn, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	s.put(conn)
	return s, nil
}
