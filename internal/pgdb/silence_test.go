package pgdb_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/internal/pgdb"
	"example.com/lockstore/pgtest"
)

// A connection whose caller timed out leaves the pool, so that there is room for one to a
// server that works. The silent server may work, too, so it has at most one connection more
// than the pool.
func TestSilentConnectionLeavesItsPlace(t *testing.T) {
	for name, size := range map[string]int{"the only one": 1, "one of several": 4} {
		t.Run(name, func(t *testing.T) {
			db, host, silence := silenced(t, func(c *pgxpool.Config) { c.MaxConns = int32(size) })
			fill(t, db, size)
			silence()
			each := func(patience time.Duration, want error) {
				var group sync.WaitGroup
				for range size {
					group.Go(func() {
						ctx, cancel := context.WithTimeout(t.Context(), patience)
						defer cancel()
						_, err := db.Exec(ctx, "SELECT pg_sleep(0.1)")
						assert.ErrorIs(t, err, want)
					})
				}
				group.Wait()
			}
			each(200*time.Millisecond, context.DeadlineExceeded)
			each(10*time.Second, nil) // pgx: after 15 seconds
			var n int
			require.NoError(t, host.Pool().QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'silenced'").Scan(&n))
			assert.LessOrEqual(t, n, size+1)
		})
	}
}

// With a host's PingTimeout, a caller without a deadline skips an idle connection that has
// fallen silent.
func TestPingTimeoutFindsSilentConnections(t *testing.T) {
	db, _, silence := silenced(t, func(c *pgxpool.Config) {
		c.MaxConns = 4
		c.PingTimeout = 200 * time.Millisecond
		c.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return true } // not only after a second
	})
	fill(t, db, 2)
	silence()
	done := make(chan error, 1)
	go func() { _, err := db.Exec(t.Context(), "SELECT 1"); done <- err }()
	select {
	case err := <-done:
		assert.NoError(t, err)
	case <-time.After(10 * time.Second):
		t.Error("it waits for a silent connection")
	}
}

// silenced is a pool whose connections fall silent, while new ones work.
func silenced(t *testing.T, configure func(*pgxpool.Config)) (db pgdb.DB, host *pgtest.DB, silence func()) {
	host = pgtest.New(t)
	proxy := pgtest.NewProxy(t, host)
	config, err := pgxpool.ParseConfig(proxy.URL())
	require.NoError(t, err)
	config.ConnConfig.RuntimeParams["application_name"] = "silenced"
	configure(config)
	direct := host.Pool().Config().ConnConfig
	silent := make(chan struct{})
	config.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
		select {
		case <-silent:
			c.Host, c.Port, c.Fallbacks = direct.Host, direct.Port, nil
		default:
		}
		return nil
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { proxy.Restore(); pool.Close() })
	db, err = pgdb.Open(pool)
	require.NoError(t, err)
	return db, host, func() { close(silent); proxy.Blackhole(pgtest.Both) }
}
