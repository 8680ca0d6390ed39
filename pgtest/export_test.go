package pgtest

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"
)

// Settle waits until what is made ahead is made and what is to be dropped is dropped.
func (s *Server) Settle() { s.work.Wait() }

// Abandon ends a lease as the death of its process would.
func (s *Server) Abandon() {
	s.Settle()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing, s.closed = true, true
	for _, conn := range s.idle {
		conn.Close(context.Background())
	}
}

// BootHalfway starts a server and calls then when it runs but has no watchdog.
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

// Dir is the directory of a server of ours.
func (s *Server) Dir() string { return s.in.Dir }

// Bin is the directory of its programs.
func (s *Server) Bin() string { return s.in.Bin }

// Download looks for a major version at the last resort only.
func Download(ctx context.Context, major int) (bin string, looked []string, ok bool) {
	s := &search{major: major, tried: map[string]bool{}}
	ok = s.download(ctx)
	return s.found.bin, s.looked, ok
}

// SetReleaseWait changes how long connections may stay in use when a test ends.
func SetReleaseWait(t *testing.T, d time.Duration) {
	was := releaseWait
	releaseWait = d
	t.Cleanup(func() { releaseWait = was })
}

// SweepDir removes a server's directory unless it is in use.
func SweepDir(path string) {
	as, _ := serverAccount()
	sweepDir(path, as, true)
}

// SetJoinWait changes how long a server that is named may take to let us in.
func SetJoinWait(t *testing.T, d time.Duration) {
	was := joinWait
	joinWait = d
	t.Cleanup(func() { joinWait = was })
}

// SetRunRoots changes where the directories of servers are made.
func SetRunRoots(t *testing.T, roots ...string) {
	was := runRoots
	runRoots = func(bool) []string { return roots }
	t.Cleanup(func() { runRoots = was })
}

// Resolve is the path of a directory without links, if it is a safe place.
var Resolve = resolve

// ServerLog is what a failed test shows of the server's log.
func ServerLog(db *DB) []string { return db.serverLog() }

// Keep sets a database aside and returns the command that opens it.
func Keep(db *DB) (string, error) {
	kept, err := db.keep("kept")
	if err != nil {
		return "", err
	}
	return kept.psql(), nil
}

// Finish ends a test's database.
var Finish = finish
