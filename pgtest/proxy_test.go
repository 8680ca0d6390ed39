package pgtest_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/pgtest"
)

// through connects to a database through a new proxy.
func through(t *testing.T, db *pgtest.DB) (*pgtest.Proxy, *pgx.Conn) {
	t.Helper()
	proxy := pgtest.NewProxy(t, db)
	conn, err := pgx.Connect(t.Context(), proxy.URL())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close(context.Background()) })
	return proxy, conn
}

// await returns the next value of the channel, or fails the test after a while.
func await[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(soon):
		require.FailNow(t, "nothing came")
		panic("unreachable")
	}
}

func TestProxyPassesAllBytes(t *testing.T) {
	db := pgtest.New(t)
	for name, set := range map[string]func(*pgtest.Proxy){
		"as they come": func(*pgtest.Proxy) {},
		"slices":       func(p *pgtest.Proxy) { p.Slice(7) },
		"late":         func(p *pgtest.Proxy) { p.Delay(time.Millisecond, 2*time.Millisecond) },
		"late slices":  func(p *pgtest.Proxy) { p.Slice(100); p.Delay(time.Millisecond, time.Millisecond) },
	} {
		t.Run(name, func(t *testing.T) {
			proxy, conn := through(t, db)
			set(proxy)
			want := strings.Repeat("0123456789", 5_000)
			var got string
			require.NoError(t, conn.QueryRow(t.Context(), "SELECT $1", want).Scan(&got))
			assert.Equal(t, want, got)
		})
	}
}

func TestProxyDelaysEachWay(t *testing.T) {
	proxy, conn := through(t, pgtest.New(t))
	proxy.Delay(20*time.Millisecond, 0)
	begin := time.Now()
	require.NoError(t, conn.Ping(t.Context()))
	assert.GreaterOrEqual(t, time.Since(begin), 40*time.Millisecond)
}

func TestBlackholeHoldsBackUntilRestored(t *testing.T) {
	for name, way := range map[string]pgtest.Direction{"to server": pgtest.ToServer, "to client": pgtest.ToClient, "both": pgtest.Both} {
		t.Run(name, func(t *testing.T) {
			db := pgtest.New(t)
			query(t, db, "CREATE TABLE arrived ()")
			proxy, conn := through(t, db)
			proxy.Blackhole(way)
			done := make(chan error, 1)
			go func() {
				_, err := conn.Exec(context.Background(), "INSERT INTO arrived DEFAULT VALUES")
				done <- err
			}()
			if way == pgtest.ToClient {
				require.Eventually(t, func() bool { return value[int](t, db, "SELECT count(*) FROM arrived") == 1 },
					soon, time.Millisecond)
			}
			select {
			case <-done:
				t.Fatal("an answer came through")
			case <-time.After(30 * time.Millisecond): // long for an insert of 100 µs
			}
			if way != pgtest.ToClient {
				assert.Zero(t, value[int](t, db, "SELECT count(*) FROM arrived"))
			}
			proxy.Restore()
			require.NoError(t, await(t, done))
			assert.Equal(t, 1, value[int](t, db, "SELECT count(*) FROM arrived"))
		})
	}
}

func TestDiscardedReplyLeavesTheStatementDone(t *testing.T) {
	db := pgtest.New(t)
	query(t, db, "CREATE TABLE arrived ()")
	proxy, conn := through(t, db)
	proxy.Discard(pgtest.ToClient)
	done := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "INSERT INTO arrived DEFAULT VALUES")
		done <- err
	}()
	require.Eventually(t, func() bool { return value[int](t, db, "SELECT count(*) FROM arrived") == 1 },
		soon, time.Millisecond)
	proxy.Cut()
	assert.Error(t, await(t, done))
}

func TestEndedConnectionsSayHow(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(*pgtest.Proxy)
		want error
	}{
		"cut":   {(*pgtest.Proxy).Cut, io.ErrUnexpectedEOF},
		"reset": {(*pgtest.Proxy).Reset, syscall.ECONNRESET},
	} {
		t.Run(name, func(t *testing.T) {
			proxy, conn := through(t, pgtest.New(t))
			done := make(chan error, 1)
			go func() {
				_, err := conn.WaitForNotification(context.Background())
				done <- err
			}()
			c.end(proxy)
			err := await(t, done)
			assert.True(t, errors.Is(err, c.want) || errors.Is(err, io.EOF) && c.want == io.ErrUnexpectedEOF, "%v", err)
		})
	}
}

func TestCutRefusesUntilRestored(t *testing.T) {
	proxy, _ := through(t, pgtest.New(t))
	proxy.Cut()
	_, err := pgx.Connect(t.Context(), proxy.URL())
	require.Error(t, err)
	proxy.Restore()
	conn, err := pgx.Connect(t.Context(), proxy.URL())
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
}
