package pgtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
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
	conf := o.configuration()
	state := filepath.Join(cache, "server-"+fingerprint(bin, host, conf, hba, watchdogSQL, endProgram)+".json")

	if in, err := readState(state); err == nil {
		if s, err := attach(ctx, in, linger); err == nil {
			return s, nil
		}
	}
	lock, err := lockFile(ctx, filepath.Join(cache, "lock"))
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if in, err := readState(state); err == nil { // booted by another while we waited
		if s, err := attach(ctx, in, linger); err == nil {
			return s, nil
		}
	}
	in, alive, err := prepare(ctx, cache, bin, conf, o.durable)
	if err != nil {
		return nil, err
	}
	if err := in.start(ctx, alive); err != nil {
		return nil, err
	}
	s, err := attach(ctx, in, linger)
	if err != nil {
		return nil, errors.Join(err, in.kill(ctx), in.remove())
	}
	return s, writeState(state, in)
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

var errClosing = errors.New("pgtest: the server is about to end")

// attach takes a lease on a running server and sees to it that a watchdog is there.
func attach(ctx context.Context, in *instance, linger time.Duration) (*Server, error) {
	s, err := newServer(in.url("postgres"))
	if err != nil {
		return nil, err
	}
	s.in, s.linger = in, linger
	if err := s.watch(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// watch takes the lease, and then starts a watchdog where there is none.
func (s *Server) watch(ctx context.Context) error {
	conn, err := s.take(ctx)
	for alive := true; alive && busy(err); conn, err = s.take(ctx) {
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
		alive = !s.in.gone()
	}
	if err != nil {
		return err
	}
	defer s.put(conn)
	var watched, closing bool
	err = conn.QueryRow(ctx, `SELECT coalesce(bool_or(application_name = $1), false), coalesce(bool_or(application_name = $2), false)
		FROM pg_stat_activity`, watchdogName, closingName).Scan(&watched, &closing)
	switch {
	case err != nil:
		return err
	case closing:
		return errClosing
	case watched:
		return nil
	}
	return startWatchdog(ctx, s.admin, s.linger)
}

// busy says that a server is there and may well let us in later: it is starting
// or recovering, or has no connection left.
func busy(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && (pgErr.Code == "57P03" || pgErr.Code == "53300")
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
