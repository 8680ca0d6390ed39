package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	embedded "github.com/fergusstrange/embedded-postgres"
	"github.com/jackc/pgx/v5"
	"github.com/peterldowns/pgtestdb"
)

const binariesSQL = "SELECT setting FROM pg_config WHERE name = 'BINDIR'"

// bootEmbedded measures embedded-postgres in a separate process: it runs PostgreSQL as its own
// user, which must not be root.
func bootEmbedded(ctx context.Context, in *arena, p pace) (m *measurement, err error) {
	var bin string
	if err := in.monitor.QueryRow(ctx, binariesSQL).Scan(&bin); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(bin, "pg_ctl")); err != nil {
		return nil, fmt.Errorf("no programs of PostgreSQL that embedded-postgres could use: %w", err)
	}
	dir, err := os.MkdirTemp(memory(), "bench-embedded-*")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	asUser, err := notRoot(dir)
	if err != nil {
		return nil, err
	}
	all, err := startWorkers(ctx, 1, job{Role: "embedded", Directory: dir, Binaries: filepath.Dir(bin), Pace: p}, asUser)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, all.stop()) }()
	reports, err := work[*measurement](all)
	if err != nil {
		return nil, err
	}
	return reports[0], nil
}

// memory returns a directory in memory, if there is one; pgtest does the same.
func memory() string {
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		return "/dev/shm"
	}
	return ""
}

// notRoot makes a process run as another user, if this one runs as root, and gives that user the
// directory. It copies the program there, because other users may not reach its path.
func notRoot(dir string) (func(*exec.Cmd), error) {
	if os.Geteuid() != 0 {
		return func(*exec.Cmd) {}, nil
	}
	other, err := user.Lookup("postgres")
	if err != nil {
		if other, err = user.Lookup("nobody"); err != nil {
			return nil, err
		}
	}
	uid, err := strconv.Atoi(other.Uid)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.Atoi(other.Gid)
	if err != nil {
		return nil, err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	copied := filepath.Join(dir, "bench")
	if err := errors.Join(copyProgram(copied, program), os.Chown(dir, uid, gid)); err != nil {
		return nil, err
	}
	return func(cmd *exec.Cmd) {
		cmd.Path, cmd.Dir = copied, dir
		if cmd.SysProcAttr == nil {
			cmd.SysProcAttr = &syscall.SysProcAttr{}
		}
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		cmd.Env = append(cmd.Env, "HOME="+dir)
	}, nil
}

func copyProgram(to, from string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	return errors.Join(err, target.Close())
}

// embeddedRole starts and stops servers.
func embeddedRole(ctx context.Context, j job, coordinator *wire) error {
	if err := coordinator.ready(); err != nil {
		return err
	}
	n := 0
	return coordinator.report(timed(ctx, j.Pace, func() (time.Duration, error) {
		n++
		port, err := freePort()
		if err != nil {
			return 0, err
		}
		server := embedded.NewDatabase(embedded.DefaultConfig().
			BinariesPath(j.Binaries).
			RuntimePath(filepath.Join(j.Directory, fmt.Sprint("run", n))).
			Port(uint32(port)).
			Logger(io.Discard).
			Locale("C").
			StartParameters(map[string]string{"fsync": "off", "unix_socket_directories": j.Directory}))
		start := time.Now()
		if err := server.Start(); err != nil {
			return 0, err
		}
		took := time.Since(start)
		return took, server.Stop()
	}))
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// pgtestdb measures its New, or what it does when the test ends.
func (d *databases) pgtestdb(making bool) runFunc {
	return func(ctx context.Context, _ *arena, p pace) (*measurement, error) {
		address, err := pgx.ParseConfig(d.server.URL())
		if err != nil {
			return nil, err
		}
		config := pgtestdb.Config{
			DriverName: "pgx", User: address.User, Password: address.Password, Database: address.Database,
			Port:                      fmt.Sprint(address.Port),
			Options:                   url.Values{"host": {address.Host}, "sslmode": {"disable"}}.Encode(),
			ForceTerminateConnections: true,
		}
		once := func() (took time.Duration, err error) {
			var made time.Duration
			ended, err := asTest(func(t *fakeTest) {
				start := time.Now()
				db := pgtestdb.New(t, config, fiftyTables{})
				if _, err := db.ExecContext(ctx, useSQL); err != nil {
					t.Fatalf("%v", err)
				}
				made = time.Since(start)
			})
			if making {
				return made, err
			}
			return ended, err
		}
		if _, err := once(); err != nil { // builds the template
			return nil, err
		}
		return timed(ctx, p, once), nil
	}
}

// fiftyTables is the migrator of pgtestdb.
type fiftyTables struct{}

func (fiftyTables) Hash() (string, error) { return "bench1", nil }

func (fiftyTables) Migrate(ctx context.Context, db *sql.DB, _ pgtestdb.Config) error {
	_, err := db.ExecContext(ctx, schemaSQL)
	return err
}

// A fakeTest replaces *testing.T in a program.
type fakeTest struct {
	cleanups []func()
	failure  error
}

// asTest runs a test and then its cleanups, and returns how long these took.
func asTest(test func(t *fakeTest)) (ended time.Duration, err error) {
	t := &fakeTest{}
	t.alone(func() { test(t) })
	start := time.Now()
	for len(t.cleanups) > 0 {
		last := len(t.cleanups) - 1
		clean := t.cleanups[last]
		t.cleanups = t.cleanups[:last]
		t.alone(clean)
	}
	return time.Since(start), t.failure
}

// alone is for Fatalf, which ends the goroutine.
func (t *fakeTest) alone(do func()) {
	var group sync.WaitGroup
	group.Go(do)
	group.Wait()
}

func (t *fakeTest) Helper()             {}
func (t *fakeTest) Logf(string, ...any) {}
func (t *fakeTest) Failed() bool        { return t.failure != nil }
func (t *fakeTest) Cleanup(f func())    { t.cleanups = append(t.cleanups, f) }
func (t *fakeTest) Fatalf(format string, args ...any) {
	t.failure = fmt.Errorf(format, args...)
	runtime.Goexit()
}
