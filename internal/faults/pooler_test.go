package faults_test

import (
	"bytes"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/pgtest"
)

// pooler starts a PgBouncer and returns the database's address through it.
func (w *world) pooler(mode string) string {
	w.Helper()
	target, port := w.db.Pool().Config().ConnConfig, w.freePort()
	file := filepath.Join(w.ownersDir(), "pgbouncer.ini")
	require.NoError(w, os.WriteFile(file, fmt.Appendf(nil, `[databases]
%s = host=%s port=%d dbname=%[1]s user=%[4]s password=%[5]s pool_size=8
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %[6]d
unix_socket_dir =
auth_type = any
pool_mode = %[7]s
ignore_startup_parameters = extra_float_digits
`, target.Database, target.Host, target.Port, target.User, target.Password, port, mode), 0o644))
	address := (&url.URL{
		Scheme: "postgres", User: url.User(target.User), Host: fmt.Sprintf("127.0.0.1:%d", port), Path: target.Database, RawQuery: "sslmode=disable&default_query_exec_mode=exec",
	}).String()
	w.serve(address, "pgbouncer", file)
	return address
}

// freePort returns a port that nothing listens to.
func (w *world) freePort() int {
	w.Helper()
	listen, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(w, err)
	require.NoError(w, listen.Close())
	return listen.Addr().(*net.TCPAddr).Port
}

// ownersDir returns a new directory of the server's user.
func (w *world) ownersDir() string {
	w.Helper()
	dir := shortDir(w.T)
	_, _, uid, gid := w.owner()
	require.NoError(w, os.Chown(dir, uid, gid))
	return dir
}

// serve runs a program until the test ends, as the server's user: poolers do not run as root,
// either. It returns when the program accepts connections.
func (w *world) serve(address, program string, args ...string) {
	w.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + program)
	}
	if err != nil {
		lacks(w, program+" (Debian: apt-get install pgbouncer pgpool2)", err)
	}
	var log bytes.Buffer
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = &log, &log
	_, cmd.SysProcAttr, _, _ = w.owner()
	require.NoError(w, cmd.Start())
	w.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGINT)
		_ = cmd.Wait()
		if w.Failed() {
			w.Log(log.String())
		}
	})
	w.accepts(address)
}

// accepts waits until connections to an address are accepted.
func (w *world) accepts(address string) {
	w.Helper()
	w.soon(func() bool {
		conn, err := pgx.Connect(w.ctx, address)
		if err == nil {
			err = conn.Close(w.ctx)
		}
		return err == nil
	}, "connections to be accepted")
}

func Test37TransactionPooler(t *testing.T) {
	w := newWorld(t, pgtest.Dedicated())
	address := w.pooler("transaction")
	_, err := lock.NewPostgres(w.ctx, w.pool(address, 2), nil)
	assert.ErrorIs(t, err, lock.ErrUnsupported)
	assert.ErrorContains(t, err, "pooler")
	store := w.store(w.pool(address, 8), nil)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 20 {
				_, err := w.merge(w.ctx, store, "a")
				assert.NoError(t, err)
			}
		})
	}
	group.Wait()
	assert.Empty(t, w.db.Locks(t))
}

func Test37SessionPooler(t *testing.T) {
	w := newWorld(t, pgtest.Dedicated())
	pool := w.pool(w.pooler("session"), 2)
	_, err := lock.NewPostgres(w.ctx, pool, nil)
	assert.ErrorIs(t, err, lock.ErrUnsupported, "it does not know which mode it is")
	locker := w.locker(pool, &lock.PostgresOptions{SessionPooler: true})
	held := w.lock(locker, key)
	assert.Len(t, w.db.Locks(t), 1)
	require.NoError(t, w.db.Terminate(pidOf(held)))
	w.lost(held)
	w.unlocked(locker, key)
}
