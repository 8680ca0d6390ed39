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
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		program, err = exec.LookPath("/usr/sbin/pgbouncer")
	}
	if err != nil {
		lacks(w, "pgbouncer (Debian: apt-get install pgbouncer)", err)
	}
	listen, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(w, err)
	port := listen.Addr().(*net.TCPAddr).Port
	require.NoError(w, listen.Close())
	target, err := pgx.ParseConfig(w.db.URL())
	require.NoError(w, err)
	dir, err := os.MkdirTemp("/tmp", "faults-")
	require.NoError(w, err)
	w.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(w, os.Chmod(dir, 0o755))
	file := filepath.Join(dir, "pgbouncer.ini")
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
	var log bytes.Buffer
	cmd := exec.Command(program, file)
	cmd.Stdout, cmd.Stderr = &log, &log
	_, cmd.SysProcAttr, _, _ = w.owner() // PgBouncer does not run as root, either
	require.NoError(w, cmd.Start())
	w.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGINT)
		_ = cmd.Wait()
		if w.Failed() {
			w.Log(log.String())
		}
	})
	address := (&url.URL{
		Scheme: "postgres", User: url.User(target.User), Host: fmt.Sprintf("127.0.0.1:%d", port), Path: target.Database, RawQuery: "sslmode=disable&default_query_exec_mode=exec",
	}).String()
	w.soon(func() bool {
		conn, err := pgx.Connect(w.ctx, address)
		if err == nil {
			err = conn.Close(w.ctx)
		}
		return err == nil
	}, "PgBouncer")
	return address
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
