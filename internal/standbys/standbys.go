// Package standbys makes a test's server wait for standbys, as with synchronous replication
// (PostgreSQL documentation, 20.6.2 Primary Server).
package standbys

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

const patience = 20 * time.Second

// Require sets the standbys that each commit waits for from now on; "" means none. The
// server must be dedicated to the test. With a name, Require cancels the waits of other
// sessions' commits until it returns.
func Require(t testing.TB, pool *pgxpool.Pool, names string) {
	t.Helper()
	for _, sql := range []string{"ALTER SYSTEM SET synchronous_standby_names = '" + names + "'", "SELECT pg_reload_conf()"} {
		if _, err := pool.Exec(context.Background(), sql); err != nil {
			t.Fatal(err)
		}
	}
	for until := time.Now().Add(patience); ; {
		if row[string](t, pool, "SELECT current_setting('synchronous_standby_names')") == names && (names == "" || commitWaits(t, pool)) {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("commits do not wait for %q yet", names)
		}
	}
}

// commitWaits reports whether a commit waits, and cancels the wait. The checkpointer applies
// the setting some time after sessions show it.
func commitWaits(t testing.TB, pool *pgxpool.Pool) bool {
	t.Helper()
	committed := make(chan error, 1)
	go func() {
		_, err := pool.Exec(context.Background(), "SELECT pg_logical_emit_message(true, 'standbys', '')")
		committed <- err
	}()
	waits := false
	for !waits && len(committed) == 0 {
		waits = row[bool](t, pool, `SELECT count(pg_cancel_backend(pid)) > 0
			FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'SyncRep'`)
	}
	if err := <-committed; err != nil {
		t.Fatal(err)
	}
	return waits
}

func row[T any](t testing.TB, pool *pgxpool.Pool, query string) (v T) {
	t.Helper()
	if err := pool.QueryRow(context.Background(), query).Scan(&v); err != nil {
		t.Fatal(err)
	}
	return v
}
