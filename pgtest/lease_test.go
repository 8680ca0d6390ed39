package pgtest_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/pgtest"
)

func TestDatabasesOfADeadProcessAreSweptUp(t *testing.T) {
	all := leases(t, 2)
	dead, alive := all[0], all[1]
	orphan, err := dead.New(t.Context())
	require.NoError(t, err)
	theirs, err := alive.New(t.Context())
	require.NoError(t, err)
	dead.Abandon()

	next := leases(t, 1)[0]
	require.Eventually(t, func() bool { // until the backend of the ended lease is gone
		_, err := next.New(t.Context())
		require.NoError(t, err)
		next.Settle()
		if !exists(t, alive, orphan.Name()) {
			return true
		}
		next = leases(t, 1)[0]
		return false
	}, soon, time.Millisecond)
	assert.True(t, exists(t, alive, theirs.Name()))
}

func TestClosedServerMakesNoDatabases(t *testing.T) {
	s := leases(t, 1)[0]
	db, err := s.New(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.NoError(t, s.Close(), "a second time")
	_, err = s.New(t.Context())
	assert.Error(t, err)
	assert.Error(t, db.Pool().Ping(t.Context()))
	assert.False(t, exists(t, leases(t, 1)[0], db.Name()))
}

// watchdog returns the process id of the server's watchdog, 0 if there is none or no lease.
func watchdog(t *testing.T, s *pgtest.Server) (pid int) {
	conn, err := pgx.Connect(t.Context(), s.URL())
	if err != nil {
		return 0 // it is recovering
	}
	defer conn.Close(t.Context())
	conn.QueryRow(t.Context(), `SELECT w.pid FROM pg_stat_activity w, pg_stat_activity l
		WHERE w.application_name = 'pgtest watchdog' AND l.application_name LIKE 'pgtest lease %'`).Scan(&pid)
	return pid
}

func TestLeaseAndWatchdogComeBack(t *testing.T) {
	for name, hurt := range map[string]func(*testing.T, *pgtest.Server, *pgx.Conn){
		"all backends terminated": func(t *testing.T, _ *pgtest.Server, conn *pgx.Conn) {
			_, err := conn.Exec(t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
			require.NoError(t, err)
		},
		"a watchdog ends that the new lease has seen": func(t *testing.T, s *pgtest.Server, conn *pgx.Conn) {
			config := conn.Config().Copy()
			config.RuntimeParams["application_name"] = "pgtest watchdog"
			old, err := pgx.ConnectConfig(t.Context(), config)
			require.NoError(t, err)
			pid := old.PgConn().PID()
			_, err = conn.Exec(t.Context(), "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE pid NOT IN (pg_backend_pid(), $1) AND backend_type = 'client backend'", pid)
			require.NoError(t, err)
			exists := func(where string) (found bool) {
				require.NoError(t, conn.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE "+where+")").Scan(&found))
				return found
			}
			require.Eventually(t, func() bool {
				return exists("application_name LIKE 'pgtest lease %' AND state = 'idle' AND query LIKE '%pg_stat_activity%'")
			}, soon, time.Millisecond)
			require.NoError(t, old.Close(t.Context()))
			require.Eventually(t, func() bool { return !exists(fmt.Sprint("pid = ", pid)) }, soon, time.Millisecond)
		},
		"backend killed": func(t *testing.T, _ *pgtest.Server, conn *pgx.Conn) {
			backend, err := os.FindProcess(int(conn.PgConn().PID()))
			require.NoError(t, err)
			require.NoError(t, backend.Kill())
		},
		"restarted": func(t *testing.T, s *pgtest.Server, _ *pgx.Conn) {
			require.NoError(t, s.Restart(t.Context()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			db := pgtest.New(t, pgtest.Dedicated())
			s := db.Server()
			before := watchdog(t, s)
			require.NotZero(t, before)
			conn, err := pgx.Connect(t.Context(), s.URL())
			require.NoError(t, err)
			defer conn.Close(t.Context())
			hurt(t, s, conn)
			require.Eventually(t, func() bool { now := watchdog(t, s); return now != 0 && now != before },
				soon, 5*time.Millisecond)
			again, err := s.New(t.Context())
			require.NoError(t, err)
			query(t, again, "CREATE TABLE here ()")
		})
	}
}

func TestDedicatedServerLeavesNothing(t *testing.T) {
	s, err := pgtest.Start(t.Context(), pgtest.Dedicated())
	require.NoError(t, err)
	pid, dir := s.PID(), s.Dir()
	require.NotZero(t, pid)
	require.DirExists(t, dir)
	require.NoError(t, s.Pause(t.Context()))
	require.NoError(t, s.Close())
	require.NoError(t, s.Close(), "a second time")
	assert.Zero(t, s.PID())
	assert.Error(t, s.Restart(t.Context()), "there is nothing left")
	_, err = os.Lstat(dir)
	assert.ErrorIs(t, err, os.ErrNotExist)
}
