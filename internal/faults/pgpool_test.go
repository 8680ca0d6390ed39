package faults_test

import (
	"bytes"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/pgtest"
)

// pgpool starts a Pgpool-II and returns the database's addresses through it: over TCP,
// and over a unix socket.
func (w *world) pgpool() (tcp, unix string) {
	w.Helper()
	program, err := exec.LookPath("pgpool")
	if err != nil {
		program, err = exec.LookPath("/usr/sbin/pgpool")
	}
	if err != nil {
		lacks(w, "pgpool (Debian: apt-get install pgpool2)", err)
	}
	var ports []int
	for range 2 {
		listen, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(w, err)
		ports = append(ports, listen.Addr().(*net.TCPAddr).Port)
		require.NoError(w, listen.Close())
	}
	target, err := pgx.ParseConfig(w.db.URL())
	require.NoError(w, err)
	dir, err := os.MkdirTemp("/tmp", "faults-")
	require.NoError(w, err)
	w.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(w, os.Chmod(dir, 0o777))
	file := filepath.Join(dir, "pgpool.conf")
	require.NoError(w, os.WriteFile(file, fmt.Appendf(nil, `backend_clustering_mode = 'raw'
listen_addresses = '127.0.0.1'
port = %d
pcp_port = %[5]d
pcp_listen_addresses = ''
socket_dir = '%[2]s'
pcp_socket_dir = '%[2]s'
pid_file_name = '%[2]s/pid'
work_dir = '%[2]s'
logdir = '%[2]s'
backend_hostname0 = '%[3]s'
backend_port0 = %[4]d
num_init_children = 4
enable_pool_hba = off
allow_clear_text_frontend_auth = on
sr_check_period = 0
`, ports[0], dir, target.Host, target.Port, ports[1]), 0o644))
	var log bytes.Buffer
	cmd := exec.Command(program, "-n", "-f", file, "-F", filepath.Join(dir, "pcp"), "-a", filepath.Join(dir, "hba"))
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
	address := func(host string) string {
		return (&url.URL{
			Scheme: "postgres", User: url.UserPassword(target.User, target.Password), Path: target.Database,
			RawQuery: url.Values{"sslmode": {"disable"}, "host": {host}, "port": {fmt.Sprint(ports[0])}}.Encode(),
		}).String()
	}
	tcp, unix = address("127.0.0.1"), address(dir)
	w.soon(func() bool {
		conn, err := pgx.Connect(w.ctx, tcp)
		if err == nil {
			err = conn.Close(w.ctx)
		}
		return err == nil
	}, "Pgpool-II")
	return tcp, unix
}

// Pgpool reports the process id of one of its servers, so that its session looks like a direct
// one.
func Test37Pgpool(t *testing.T) {
	w := newWorld(t, pgtest.Dedicated())
	tcp, unix := w.pgpool()
	for _, address := range []string{tcp, unix} {
		for _, opts := range []*lock.PostgresOptions{nil, {SessionPooler: true}} {
			_, err := lock.NewPostgres(w.ctx, w.pool(address, 2), opts)
			assert.ErrorIs(t, err, lock.ErrUnsupported)
			assert.ErrorContains(t, err, "pgpool-II")
		}
	}
}
