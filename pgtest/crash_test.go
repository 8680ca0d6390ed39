//go:build darwin || dragonfly || freebsd || linux

package pgtest_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/pgtest"
)

// program is the path of this test program, which every user can run.
var program string

// TestMain can also run as one of the child processes that tests kill.
func TestMain(m *testing.M) {
	if kind := os.Getenv("PGTEST_TEST_CHILD"); kind != "" {
		fmt.Println("failed:", child(kind))
		os.Exit(1)
	}
	flag.Parse()
	flag.Set("test.parallel", "16") // these tests mostly wait
	code, err := run(m)
	if err != nil {
		fmt.Println(err)
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	if program, err = os.Executable(); err != nil {
		return 1, err
	}
	if os.Geteuid() == 0 { // other users cannot enter its directory
		dir, err := os.MkdirTemp("/tmp", "pgtest-test-")
		if err != nil {
			return 1, err
		}
		defer os.RemoveAll(dir)
		copied := filepath.Join(dir, "pgtest.test")
		// By another process: a child forked while this one writes would inherit the open file
		// (ETXTBSY).
		err = errors.Join(os.Chmod(dir, 0o755), exec.Command("cp", program, copied).Run())
		if err != nil {
			return 1, err
		}
		program = copied
	}
	return m.Run(), nil
}

// child uses a database, prints where, and runs a query until it is killed.
func child(kind string) error {
	ctx := context.Background()
	if kind == "stranger" {
		return stranger()
	}
	if kind == "booting" {
		return pgtest.BootHalfway(ctx, func(dir string, pid int) error {
			fmt.Println("ready", pid, dir)
			select {}
		})
	}
	var opts []pgtest.Option
	if kind != "shared" {
		opts = append(opts, pgtest.Dedicated())
	}
	s, err := pgtest.Start(ctx, opts...)
	if err != nil {
		return err
	}
	db, err := s.New(ctx)
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, db.URL())
	if err != nil {
		return err
	}
	dir, pid := s.Dir(), s.PID()
	if kind == "paused" {
		if err := s.Pause(ctx); err != nil {
			return err
		}
	}
	fmt.Println("ready", pid, dir)
	_, err = conn.Exec(ctx, "SELECT pg_sleep(3600)")
	return fmt.Errorf("the query ended: %w", err)
}

// process is a child process and, once it is ready, its server.
type process struct {
	*exec.Cmd
	out     *bufio.Reader
	pid     int // of the postmaster
	dir     string
	segment string // of System V shared memory
}

func startChild(t *testing.T, kind, cache string, as *syscall.Credential) *process {
	t.Helper()
	bin, err := binDir()
	require.NoError(t, err)
	cmd := exec.Command(program)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "PGTEST_TEST_CHILD="+kind, "PGTEST_BINDIR="+bin, "PGTEST_CACHE="+cache, "PGTEST_LINGER=500ms")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return &process{Cmd: cmd, out: bufio.NewReader(out)}
}

// ready waits until the child runs its query.
func (p *process) ready(t *testing.T) *process {
	t.Helper()
	line, err := p.out.ReadString('\n')
	require.NoError(t, err)
	_, err = fmt.Sscanf(line, "ready %d %s", &p.pid, &p.dir)
	require.NoError(t, err, line)
	text, err := os.ReadFile(filepath.Join(p.dir, "data", "postmaster.pid"))
	require.NoError(t, err)
	fields := strings.Fields(strings.Split(string(text), "\n")[6])
	require.Len(t, fields, 2)
	p.segment = fields[1]
	return p
}

func (p *process) kill(t *testing.T) {
	t.Helper()
	require.NoError(t, p.Process.Kill())
}

// users returns the users to run as: the current one and, if that is root, nobody.
func users(t *testing.T) map[string]*syscall.Credential {
	t.Helper()
	all := map[string]*syscall.Credential{"as we are": nil}
	if os.Geteuid() == 0 {
		all["as nobody"] = userNamed(t, "nobody")
	}
	return all
}

func userNamed(t *testing.T, name string) *syscall.Credential {
	t.Helper()
	u, err := user.Lookup(name)
	require.NoError(t, err)
	uid, err := strconv.ParseInt(u.Uid, 10, 64)
	require.NoError(t, err)
	gid, err := strconv.ParseInt(u.Gid, 10, 64)
	require.NoError(t, err)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// binDir returns the directory of the server programs that this process uses.
var binDir = sync.OnceValues(func() (dir string, err error) {
	ctx := context.Background()
	s, err := pgtest.Start(ctx)
	if err != nil {
		return "", err
	}
	defer s.Close()
	conn, err := pgx.Connect(ctx, s.URL())
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	err = conn.QueryRow(ctx, "SELECT setting FROM pg_config WHERE name = 'BINDIR'").Scan(&dir)
	return dir, err
})

// cacheFor returns an empty cache directory for a user.
func cacheFor(t *testing.T, as *syscall.Credential) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "pgtest-test-")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	if as != nil {
		require.NoError(t, os.Chown(dir, int(as.Uid), int(as.Gid)))
	}
	return dir
}

// requireGone waits until a server's directory, processes and shared memory are gone.
func requireGone(t *testing.T, server *process) {
	t.Helper()
	require.Eventually(t, func() bool { _, err := os.Lstat(server.dir); return os.IsNotExist(err) },
		soon, 10*time.Millisecond, "its directory stays")
	require.Eventually(t, func() bool { return syscall.Kill(server.pid, 0) == syscall.ESRCH },
		soon, 10*time.Millisecond, "it runs on")
	running, err := exec.Command("ps", "-A", "-o", "args=").Output()
	require.NoError(t, err)
	assert.NotContains(t, string(running), server.dir)
	segments, err := exec.Command("ipcs", "-m").Output()
	require.NoError(t, err)
	for line := range strings.Lines(string(segments)) {
		if fields := strings.Fields(line); len(fields) > 1 {
			assert.NotEqual(t, server.segment, fields[1], line)
		}
	}
}

func TestNothingIsLeftWhenAllProcessesAreKilled(t *testing.T) {
	t.Parallel() // it mostly waits
	for who, as := range users(t) {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			cache := cacheFor(t, as)
			children := make([]*process, 4)
			for i := range children {
				children[i] = startChild(t, "shared", cache, as)
			}
			children[0].ready(t)
			for _, c := range children[1:] {
				assert.Equal(t, children[0].dir, c.ready(t).dir, "one server for all")
			}
			for _, c := range children {
				c.kill(t)
			}
			requireGone(t, children[0])
		})
	}
}

func TestServerOfOneProcessEndsWithIt(t *testing.T) {
	t.Parallel() // it mostly waits
	for who, as := range users(t) {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			cache := cacheFor(t, as)
			var children []*process
			for _, kind := range []string{"dedicated", "paused", "booting"} {
				children = append(children, startChild(t, kind, cache, as))
			}
			for _, child := range children {
				child.ready(t).kill(t)
			}
			for _, child := range children {
				requireGone(t, child)
			}
		})
	}
}

// TestNothingIsLeftWhereverAProcessIsKilled kills processes at all points of
// their start. It needs root, to run servers as a user of which no other process does.
func TestNothingIsLeftWhereverAProcessIsKilled(t *testing.T) {
	if os.Geteuid() != 0 {
		return
	}
	t.Parallel()
	as := userNamed(t, "daemon")
	cache := cacheFor(t, as)
	first := startChild(t, "shared", cache, as).ready(t) // creates the cache
	first.kill(t)
	requireGone(t, first)
	for i := range 16 {
		child := startChild(t, []string{"shared", "dedicated"}[i%2], cache, as)
		<-time.After(time.Duration(i) * 15 * time.Millisecond)
		child.kill(t)
	}
	require.Eventually(t, func() bool {
		left, err := filepath.Glob(fmt.Sprintf("/*/*/pgtest-%d-*", as.Uid))
		require.NoError(t, err)
		more, err := filepath.Glob(fmt.Sprintf("/tmp/pgtest-%d-*", as.Uid))
		require.NoError(t, err)
		return len(left)+len(more) == 0
	}, soon, 10*time.Millisecond)
}

func TestServerStaysWhileOneProcessUsesIt(t *testing.T) {
	t.Parallel() // it mostly waits
	cache := cacheFor(t, nil)
	one := startChild(t, "shared", cache, nil).ready(t)
	other := startChild(t, "shared", cache, nil).ready(t)
	require.Equal(t, one.dir, other.dir)
	one.kill(t)
	assert.Never(t, func() bool { _, err := os.Lstat(one.dir); return err != nil },
		1500*time.Millisecond, 50*time.Millisecond) // three times the linger
}

func TestNextServerRemovesWhatAKilledOneLeft(t *testing.T) {
	cache := cacheFor(t, nil)
	child := startChild(t, "shared", cache, nil).ready(t)
	child.kill(t)
	require.NoError(t, syscall.Kill(child.pid, syscall.SIGKILL))
	t.Setenv("PGTEST_CACHE", cache)
	require.Eventually(t, func() bool { return !pgtest.InUse(child.dir) }, soon, 10*time.Millisecond,
		"not even the last backend notices")
	s, err := pgtest.Start(t.Context(), pgtest.Dedicated())
	require.NoError(t, err)
	require.NoError(t, s.Close())
	requireGone(t, child)
}

// TestAsOrdinaryUser runs the tests of the other files as an ordinary user if this one is root.
func TestAsOrdinaryUser(t *testing.T) {
	as := users(t)["as nobody"]
	if as == nil {
		return // they do that anyway
	}
	bin, err := binDir()
	require.NoError(t, err)
	const here = "TestNothingIsLeft|TestServerOfOne|TestServerStays|TestNextServer|TestAsOrdinaryUser"
	cmd := exec.Command(program, "-test.run", "^Test", "-test.skip", here)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "PGTEST_BINDIR="+bin, "PGTEST_CACHE="+cacheFor(t, as), "PGTEST_LINGER=0s", "PGTEST_KEEP=0s", "TMPDIR=/tmp")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, cmd.Start())
	t.Parallel() // also with the tests that are not parallel: it is another process
	require.NoError(t, cmd.Wait(), "%s", &out)
}
