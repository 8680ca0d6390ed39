// Package standbys has a test's server wait for standbys, as one does whose replication is
// synchronous (PostgreSQL documentation, 20.6.2 Primary Server).
package standbys

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
)

const patience = 20 * time.Second

// Require names those that each commit waits for from now on, on a server of the test's
// own; with "", none. It cancels the waits of others meanwhile, if there is a name.
func Require(t testing.TB, pool *pgxpool.Pool, names string) {
	t.Helper()
	for _, sql := range []string{"ALTER SYSTEM SET synchronous_standby_names = '" + names + "'", "SELECT pg_reload_conf()"} {
		_, err := pool.Exec(context.Background(), sql)
		require.NoError(t, err)
	}
	for until := time.Now().Add(patience); ; {
		var set string
		require.NoError(t, pool.QueryRow(context.Background(), "SELECT current_setting('synchronous_standby_names')").Scan(&set))
		if set == names && (names == "" || commitWaits(t, pool)) {
			return
		}
		require.True(t, time.Now().Before(until), "commits do not wait for %q yet", names)
	}
}

// commitWaits reports whether a commit waits, and cancels that. The checkpointer passes on
// the setting, some time after sessions show it.
func commitWaits(t testing.TB, pool *pgxpool.Pool) bool {
	t.Helper()
	committed := make(chan error, 1)
	go func() {
		_, err := pool.Exec(context.Background(), "SELECT pg_logical_emit_message(true, 'standbys', '')")
		committed <- err
	}()
	for waits := false; ; {
		select {
		case err := <-committed:
			require.NoError(t, err)
			return false
		default:
			require.NoError(t, pool.QueryRow(context.Background(), `SELECT count(pg_cancel_backend(pid)) > 0
				FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'SyncRep'`).Scan(&waits))
		}
		if waits {
			require.NoError(t, <-committed)
			return true
		}
	}
}
