//go:build unix

// Package pgbouncer starts a real PgBouncer for tests, a connection pooler between an
// application and PostgreSQL.
package pgbouncer

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/lockstore/pgtest"
)

// Mode is a pool_mode: when a server connection returns to the pool.
type Mode string

const (
	Transaction Mode = "transaction"
	Session     Mode = "session"
)

const patience = 20 * time.Second

// Start runs a PgBouncer in front of db until the test ends, and returns the URL of the
// database through it. If PgBouncer is not installed, Start installs it (as root on Debian).
// If that fails, the test is skipped, or fails in CI.
func Start(tb testing.TB, db *pgtest.DB, mode Mode) (url string) {
	tb.Helper()
	program, err := find()
	if err != nil && os.Getenv("CI") == "" {
		tb.Skipf("no PgBouncer, and none to be installed: %v", err)
	}
	if err != nil {
		tb.Fatalf("no PgBouncer, and none to be installed: %v", err)
	}
	server, err := pgx.ParseConfig(db.URL())
	if err != nil {
		tb.Fatal(err)
	}
	port := freePort(tb)
	dir, err := os.MkdirTemp("", "pgbouncer") // not TempDir, which only root could enter
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	config := filepath.Join(dir, "pgbouncer.ini")
	text := fmt.Sprintf(`[databases]
%s = host=%s port=%d user=%s password=%s pool_size=8
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = %s
max_client_conn = 500
ignore_startup_parameters = extra_float_digits
`, server.Database, server.Host, server.Port, server.User, server.Password, port, mode)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	who := unprivileged(tb)
	if who != nil {
		for _, path := range []string{dir, config} {
			if err := os.Chown(path, int(who.Uid), int(who.Gid)); err != nil {
				tb.Fatal(err)
			}
		}
	}
	var log bytes.Buffer
	cmd := exec.Command(program, config)
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGQUIT) // at once
		_ = cmd.Wait()
		if tb.Failed() {
			tb.Log(log.String())
		}
	})
	url = fmt.Sprintf("postgres://%s@127.0.0.1:%d/%s?sslmode=disable", server.User, port, server.Database)
	for deadline := time.Now().Add(patience); ; {
		conn, err := pgx.Connect(tb.Context(), url)
		if err == nil {
			_ = conn.Close(context.Background())
			return url
		}
		if time.Now().After(deadline) {
			tb.Fatalf("PgBouncer does not answer: %v", err)
		}
	}
}

// find returns the program and installs it if it can, once per process.
var find = sync.OnceValues(func() (string, error) {
	program, err := lookPath()
	if err == nil || os.Geteuid() != 0 {
		return program, err
	}
	for _, args := range [][]string{{"update"}, {"install", "-y", "--no-install-recommends", "pgbouncer"}} {
		cmd := exec.Command("apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%v: %w: %s", cmd.Args, err, out)
		}
	}
	return lookPath()
})

func lookPath() (program string, err error) {
	for _, name := range []string{"pgbouncer", "/usr/sbin/pgbouncer", "/usr/local/sbin/pgbouncer", "/opt/homebrew/bin/pgbouncer"} {
		if program, err = exec.LookPath(name); err == nil {
			return program, nil
		}
	}
	return "", err
}

// freePort returns a free TCP port.
func freePort(tb testing.TB) int {
	tb.Helper()
	listen, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer listen.Close()
	return listen.Addr().(*net.TCPAddr).Port
}

// unprivileged returns the user that root runs PgBouncer as, which refuses to run as root.
func unprivileged(tb testing.TB) *syscall.Credential {
	tb.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			uid, _ := strconv.ParseUint(u.Uid, 10, 32)
			gid, _ := strconv.ParseUint(u.Gid, 10, 32)
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		}
	}
	tb.Fatal("no user postgres or nobody to run PgBouncer as")
	return nil
}
