package pgtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// join takes a lease on the server that all processes of this user share: the running
// one, or else one that it starts. Only starting takes the cache's lock.
func join(ctx context.Context, o options) (*Server, error) {
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	p, err := find(ctx, o.major)
	if err != nil {
		return nil, err
	}
	linger, err := durationEnv("PGTEST_LINGER", 30*time.Second)
	if err != nil {
		return nil, err
	}
	host, _ := os.Hostname() // the cache may be on a network drive
	state := filepath.Join(cache, "server-"+fingerprint(p.bin, strconv.Itoa(p.major), host, o.configuration(), hba, passFile, watchdogSQL, endProgram, strconv.Itoa(iterations))+".json")
	as, err := serverAccount()
	if err != nil {
		return nil, err
	}
	tried, _ := os.ReadFile(state)
	if s, err := rejoin(ctx, state, as, linger); err == nil {
		return s, nil
	}
	if p.broken(ctx, cache) {
		return join(ctx, o)
	}
	lock, err := lockFile(ctx, filepath.Join(cache, lockName))
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if now, _ := os.ReadFile(state); !bytes.Equal(now, tried) { // another process started it while we waited
		if s, err := rejoin(ctx, state, as, linger); err == nil {
			return s, nil
		}
	}
	in, err := prepare(ctx, cache, p, o)
	if err != nil {
		return nil, err
	}
	s, err := boot(ctx, in, linger)
	if err != nil {
		return nil, err
	}
	if err := writeState(state, in); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// joinWait limits the wait for a server that the state file names: it may be stopped.
var joinWait = busyWait

// rejoin takes a lease on the server that the state file names.
func rejoin(ctx context.Context, state string, as *account, linger time.Duration) (*Server, error) {
	if !shares {
		return nil, errors.ErrUnsupported
	}
	in, err := readState(state, as)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, joinWait)
	defer cancel()
	s, err := attach(ctx, in, linger)
	if err != nil {
		in.dir.root.Close()
	}
	return s, err
}

// readState reads a state file and opens the server's directory, which may be gone.
func readState(path string, as *account) (*instance, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	in := new(instance)
	if err := json.Unmarshal(text, in); err != nil {
		return nil, err
	}
	in.dir, err = openDirectory(in.Dir, as)
	return in, err
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
	return os.Rename(fresh, path) // readers take no lock: they see the old file or the new one
}
