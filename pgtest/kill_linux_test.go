package pgtest_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/pgtest"
)

// TestKillSparesNoBackend has a backend that is not in pg_stat_activity, because its client
// sends nothing, and that does not notice the end of the postmaster.
func TestKillSparesNoBackend(t *testing.T) {
	srv := pgtest.New(t, pgtest.Dedicated()).Server()
	sockets, err := filepath.Glob(filepath.Join(srv.Dir(), ".s.PGSQL.*[0-9]"))
	require.NoError(t, err)
	require.Len(t, sockets, 1)
	before := pgtest.Children(srv.PID())
	client, err := net.Dial("unix", sockets[0])
	require.NoError(t, err)
	defer client.Close()
	var started []int
	require.Eventually(t, func() bool {
		started = slices.DeleteFunc(pgtest.Children(srv.PID()), func(pid int) bool { return slices.Contains(before, pid) })
		return len(started) > 0
	}, soon, time.Millisecond)
	for _, pid := range started {
		require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	}
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	if !assert.NoError(t, srv.Kill(ctx)) { // which returns when no process is left
		for _, pid := range started {
			assert.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
		}
	}
}

func TestPeerIsWhoItIsSaidToBe(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "socket"))
	require.NoError(t, err)
	defer l.Close()
	conn, err := net.Dial("unix", l.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	us := uint32(os.Geteuid())
	assert.NoError(t, pgtest.CheckPeer(conn, us))
	assert.Error(t, pgtest.CheckPeer(conn, us+1))
}
