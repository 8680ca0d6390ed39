package faults_test

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/pgtest"
)

// pgpool starts a Pgpool-II and returns the database's addresses through it: over TCP,
// and over a unix socket.
func (w *world) pgpool() (tcp, unix string) {
	w.Helper()
	target, port, dir := w.db.Pool().Config().ConnConfig, w.freePort(), w.ownersDir()
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
`, port, dir, target.Host, target.Port, w.freePort()), 0o644))
	address := func(host string) string {
		return (&url.URL{
			Scheme: "postgres", User: url.UserPassword(target.User, target.Password), Path: target.Database,
			RawQuery: url.Values{"sslmode": {"disable"}, "host": {host}, "port": {fmt.Sprint(port)}}.Encode(),
		}).String()
	}
	tcp, unix = address("127.0.0.1"), address(dir)
	w.serve(tcp, "pgpool", "-n", "-f", file, "-F", filepath.Join(dir, "pcp"), "-a", filepath.Join(dir, "hba"))
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
