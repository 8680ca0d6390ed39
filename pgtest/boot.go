package pgtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"
)

// dedicated starts a server that only the caller has a lease on.
func dedicated(ctx context.Context, o options) (*Server, error) {
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	p, err := find(ctx, o.major)
	if err != nil {
		return nil, err
	}
	if p.broken(ctx, cache) {
		return dedicated(ctx, o)
	}
	if o.settings["listen_addresses"] != "" && o.settings["port"] == "" {
		if o.settings["port"], err = freePort(); err != nil {
			return nil, err
		}
	}
	lock, err := lockFile(ctx, filepath.Join(cache, lockName))
	if err != nil {
		return nil, err
	}
	in, err := prepare(ctx, cache, p, o)
	if err := errors.Join(err, lock.Close()); err != nil {
		return nil, err
	}
	// Long enough for the keeper to reconnect after a test has terminated all backends.
	s, err := boot(ctx, in, 2*time.Second)
	if err != nil {
		return nil, errors.Join(err, in.owned.Close())
	}
	keeping, stop := context.WithCancel(context.Background())
	s.own = &ownership{lock: in.owned, stopKeeping: stop}
	s.own.keeper.Go(func() { s.keep(keeping) })
	return s, nil
}

// freePort returns a free TCP port. If another process takes it before the server does,
// the start fails with the server's message.
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
		if s, err = attach(ctx, in, linger); err == nil {
			err = s.setPassword(ctx)
		}
		return err
	})
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTimeout)
		defer cancel()
		return nil, errors.Join(err, in.end(ctx)) // fails if the program hangs: the next sweep removes the directory
	}
	return s, nil
}

// setPassword gives a new server its own password. Until then it has that of the cluster
// it was copied from.
func (s *Server) setPassword(ctx context.Context) error {
	// The password must survive a crash, whatever the test's settings are.
	err := s.exec(ctx, "SET synchronous_commit = local; ALTER ROLE postgres PASSWORD '"+scramVerifier(s.in.Password)+"'")
	if err != nil {
		return fmt.Errorf("pgtest: set the password: %w", err)
	}
	s.admin.Password = s.in.Password
	return nil
}

// attach takes a lease on a running server.
func attach(ctx context.Context, in *instance, linger time.Duration) (*Server, error) {
	cfg, err := in.config()
	if err != nil {
		return nil, err
	}
	s := newServer(in.url("postgres"), cfg)
	s.in, s.linger = in, linger
	s.admin.Password = cmp.Or(in.initial, in.Password)
	if shares {
		// A killed process's lease must not outlive it in a long statement. (Windows has no such
		// check.)
		s.admin.RuntimeParams["client_connection_check_interval"] = "500ms"
	}
	conn, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	s.put(conn)
	return s, nil
}
