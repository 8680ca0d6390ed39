package lock_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/pgtest"
)

// The first of several hosts, or of the addresses of one, accepts connections and says
// nothing. Each has a share of the time, so that the locker reaches the one that works.
func TestSilentHostLeavesTimeForTheOthers(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { silent.Close() })
	proxy := pgtest.NewProxy(t, pgtest.New(t))
	for name, change := range map[string]func(*pgx.ConnConfig){
		"hosts": func(c *pgx.ConnConfig) {
			c.Fallbacks = []*pgconn.FallbackConfig{{Host: c.Host, Port: c.Port}}
			c.Port = uint16(silent.Addr().(*net.TCPAddr).Port)
		},
		"the primary among hosts": func(c *pgx.ConnConfig) {
			c.Fallbacks = []*pgconn.FallbackConfig{{Host: c.Host, Port: c.Port}}
			c.Port = uint16(silent.Addr().(*net.TCPAddr).Port)
			c.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
		},
		"addresses": func(c *pgx.ConnConfig) {
			works := net.JoinHostPort(c.Host, fmt.Sprint(c.Port))
			c.Host = "cluster"
			c.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"192.0.2.1", "192.0.2.2"}, nil }
			c.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
				if address[:9] == "192.0.2.1" {
					address = silent.Addr().String()
				} else {
					address = works
				}
				return (&net.Dialer{}).DialContext(ctx, network, address)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config, err := pgxpool.ParseConfig(proxy.URL())
			require.NoError(t, err)
			change(config.ConnConfig)
			pool := newPool(t, config)
			begun := time.Now()
			locker, err := lock.NewPostgres(t.Context(), pool, &lock.PostgresOptions{ConnectTimeout: 3 * patience})
			require.NoError(t, err)
			assert.Less(t, time.Since(begun), patience, "the share of the one that is silent")
			require.NoError(t, locker.Close(t.Context()))
		})
	}
}

// A standby that has refused becomes the primary while another host is silent. The locker does
// not wait for that one's timeout, whether it comes first or last.
func TestPrimaryIsFoundBesideASilentHost(t *testing.T) {
	for name, silentFirst := range map[string]bool{"the silent host is the first": true, "the silent host is the last": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			silent, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			t.Cleanup(func() { silent.Close() })
			config, err := pgxpool.ParseConfig(pgtest.NewProxy(t, pgtest.New(t)).URL())
			require.NoError(t, err)
			c := config.ConnConfig
			works, mute := c.Port, uint16(silent.Addr().(*net.TCPAddr).Port)
			c.Port, c.Fallbacks = works, []*pgconn.FallbackConfig{{Host: c.Host, Port: mute}}
			if silentFirst {
				c.Port, c.Fallbacks = mute, []*pgconn.FallbackConfig{{Host: c.Host, Port: works}}
			}
			var promoted atomic.Bool
			refused := make(chan struct{}, 100)
			c.ValidateConnect = func(context.Context, *pgconn.PgConn) error {
				if promoted.Load() {
					return nil
				}
				refused <- struct{}{}
				return errors.New("read only connection")
			}
			var opened atomic.Int32 // to the host that works
			dial := c.DialFunc
			c.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := dial(ctx, network, address)
				if err != nil || !strings.HasSuffix(address, fmt.Sprint(":", works)) {
					return conn, err
				}
				assert.EqualValues(t, 1, opened.Add(1), "connections at a time")
				return &closing{conn, sync.OnceFunc(func() { opened.Add(-1) })}, nil
			}
			pool := newPool(t, config)
			var at time.Time
			go func() {
				for range 2 { // at once, and once more
					<-refused
				}
				at = time.Now()
				promoted.Store(true)
			}()
			locker, err := lock.NewPostgres(t.Context(), pool, &lock.PostgresOptions{ConnectTimeout: 3 * patience})
			require.NoError(t, err)
			assert.Less(t, time.Since(at), patience/2, "half of the share of the one that is silent")
			require.NoError(t, locker.Close(t.Context()))
		})
	}
}

// Of two hosts that work the first is used. If it is slow the other is, and no connection to
// the first is left.
func TestHostsAreTriedInTheirOrder(t *testing.T) {
	for name, slow := range map[string]bool{"the first is well": false, "the first is slow": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			first, second := pgtest.NewProxy(t, db), pgtest.NewProxy(t, db)
			if slow {
				first.Delay(time.Second, 0)
			}
			config, err := pgxpool.ParseConfig(first.URL() + "&application_name=hosts")
			require.NoError(t, err)
			other, err := pgx.ParseConfig(second.URL())
			require.NoError(t, err)
			c := config.ConnConfig
			c.Fallbacks = []*pgconn.FallbackConfig{{Host: other.Host, Port: other.Port}}
			var begun time.Time
			var early, others atomic.Int32
			dial := c.DialFunc
			c.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
				if strings.HasSuffix(address, fmt.Sprint(":", other.Port)) {
					others.Add(1)
					if time.Since(begun) < 200*time.Millisecond {
						early.Add(1)
					}
				}
				return dial(ctx, network, address)
			}
			pool := newPool(t, config)
			begun = time.Now()
			locker, err := lock.NewPostgres(t.Context(), pool, nil)
			require.NoError(t, err)
			assert.Zero(t, early.Load(), "the first has had no time to answer")
			if slow {
				assert.Positive(t, others.Load())
			}
			assert.Eventually(t, func() bool {
				return query[int](t, db.Pool(), "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'hosts'") == 1
			}, patience, 5*time.Millisecond)
			require.NoError(t, locker.Close(t.Context()))
		})
	}
}

// closing is a connection that reports when it is closed.
type closing struct {
	net.Conn
	closed func()
}

func (c *closing) Close() error {
	c.closed()
	return c.Conn.Close()
}
