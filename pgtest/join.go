package pgtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"
)

// join returns a lease on the server that all processes of this user share: the
// one that runs, or else one that it boots. Only booting takes the lock.
func join(ctx context.Context, o options) (*Server, error) {
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	bin, err := find(ctx, o.major)
	if err != nil {
		return nil, err
	}
	linger, err := durationEnv("PGTEST_LINGER", 30*time.Second)
	if err != nil {
		return nil, err
	}
	host, _ := os.Hostname() // the cache may be on a network drive
	state := filepath.Join(cache, "server-"+fingerprint(bin, host, o.configuration(), hba, watchdogSQL, endProgram)+".json")

	if s, err := rejoin(ctx, state, linger); err == nil {
		return s, nil
	}
	lock, err := lockFile(ctx, filepath.Join(cache, "lock"))
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if s, err := rejoin(ctx, state, linger); err == nil {
		return s, nil // booted by another while we waited
	}
	in, alive, err := prepare(ctx, cache, bin, o)
	if err != nil {
		return nil, err
	}
	s, err := boot(ctx, in, alive, linger)
	if err != nil {
		return nil, err
	}
	return s, writeState(state, in)
}

// rejoin takes a lease on the server that the state file names.
func rejoin(ctx context.Context, state string, linger time.Duration) (*Server, error) {
	if !shares {
		return nil, errors.ErrUnsupported
	}
	in, err := readState(state)
	if err != nil {
		return nil, err
	}
	return attach(ctx, in, linger)
}

func readState(path string) (*instance, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	in := new(instance)
	return in, json.Unmarshal(text, in)
}

func writeState(path string, in *instance) error {
	text, err := json.Marshal(in)
	if err != nil {
		return err
	}
	fresh := path + ".new"
	if err := os.WriteFile(fresh, text, 0o600); err != nil {
		return err
	}
	return os.Rename(fresh, path) // readers, who take no lock, see the old or the new
}

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
	in, alive, err := prepare(ctx, cache, bin, o)
	if err := errors.Join(err, lock.Close()); err != nil {
		return nil, err
	}
	owned, err := in.own()
	if err != nil {
		return nil, errors.Join(err, alive.Close())
	}
	// Long enough for the keeper to come back after a test has ended all backends.
	s, err := boot(ctx, in, alive, 2*time.Second)
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
func boot(ctx context.Context, in *instance, alive *os.File, linger time.Duration) (*Server, error) {
	if err := in.start(ctx, alive); err != nil {
		return nil, errors.Join(err, in.end(ctx))
	}
	s, err := attach(ctx, in, linger)
	if err != nil {
		return nil, errors.Join(err, in.end(ctx))
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
	conn, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	s.put(conn)
	return s, nil
}

func durationEnv(name string, otherwise time.Duration) (time.Duration, error) {
	text := os.Getenv(name)
	if text == "" {
		return otherwise, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("pgtest: %s=%q is not a duration such as 30s", name, text)
	}
	return d, nil
}
