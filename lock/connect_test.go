package lock_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/pgtest"
)

func openSQL(t *testing.T, config *pgx.ConnConfig) *sql.DB {
	db := stdlib.OpenDB(*config)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	return db
}

// hostConnector is a connector of the host's own, around that of pgx.
type hostConnector struct {
	driver.Connector
	connects *atomic.Int64
}

func (c hostConnector) Connect(ctx context.Context) (driver.Conn, error) {
	c.connects.Add(1)
	return c.Connector.Connect(ctx)
}

// Each connection of a locker is opened as the host's are, with all that the host has
// configured, and does not count towards a pool that has but one.
func TestLockerConnectsAsTheHostDoes(t *testing.T) {
	admin := pgtest.New(t, pgtest.Dedicated())
	_, err := admin.Pool().Exec(t.Context(), "CREATE ROLE app LOGIN PASSWORD '0'")
	require.NoError(t, err)
	config, err := pgx.ParseConfig(admin.URL())
	require.NoError(t, err)
	config.User = "app"
	var password, connects atomic.Int64
	before := func(_ context.Context, c *pgx.ConnConfig) error {
		connects.Add(1)
		c.Password = fmt.Sprint(password.Load())
		return nil
	}
	after := func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "SET application_name = 'by hook'")
		return err
	}
	hostPool := func() *pgxpool.Pool {
		c, err := pgxpool.ParseConfig("")
		require.NoError(t, err)
		c.ConnConfig, c.MaxConns, c.BeforeConnect, c.AfterConnect = config.Copy(), 1, before, after
		return newPool(t, c)
	}
	options := []stdlib.OptionOpenDB{stdlib.OptionBeforeConnect(before), stdlib.OptionAfterConnect(after)}
	own := &atomic.Int64{}
	for name, db := range map[string]any{
		"pgxpool":        hostPool(),
		"OpenDB":         stdlib.OpenDB(*config, options...),
		"OpenDBFromPool": stdlib.OpenDBFromPool(hostPool()),
		"own connector":  sql.OpenDB(hostConnector{stdlib.GetConnector(*config, options...), own}),
		"wrapped":        sql.OpenDB(wrapped{stdlib.GetConnector(*config, options...), true}),
	} {
		t.Run(name, func(t *testing.T) {
			ping := func() {
				ctx, cancel := context.WithTimeout(t.Context(), patience/4)
				defer cancel()
				switch db := db.(type) {
				case *pgxpool.Pool:
					assert.NoError(t, db.Ping(ctx))
				case *sql.DB:
					assert.NoError(t, db.PingContext(ctx))
					assert.LessOrEqual(t, db.Stats().OpenConnections, 1)
				}
			}
			var locker *lock.Postgres
			switch db := db.(type) {
			case *pgxpool.Pool:
				locker = newPostgres(t, db, nil)
			case *sql.DB:
				db.SetMaxOpenConns(1)
				ping() // an idle connection, whose password will be that of long ago
				locker = newPostgres(t, db, nil)
			}
			for range 3 {
				ping()
				held := take(t, locker, lock.Name("k"))
				backend, _ := held.Backend(held.Key())
				assert.Equal(t, "by hook", query[string](t, admin.Pool(), "SELECT application_name FROM pg_stat_activity WHERE pid = $1", backend.PID))
				before := connects.Load()
				_, err := admin.Pool().Exec(t.Context(), fmt.Sprintf("ALTER ROLE app PASSWORD '%d'", password.Add(1)))
				require.NoError(t, err)
				require.NoError(t, admin.Terminate(backend.PID))
				await(t, held.Context().Done(), "loss")
				assert.NoError(t, take(t, locker, lock.Name("k")).Unlock())
				ping()
				assert.Greater(t, connects.Load(), before)
			}
		})
	}
	assert.GreaterOrEqual(t, own.Load(), int64(3))
}

// A pool without a connection to spare does not keep locks from being served. A connection
// that has locks of the host's is not taken.
func TestLockerReconnectsBesideABusyPool(t *testing.T) {
	for name, use := range map[string]func(*sql.DB) func(){
		"in use": func(db *sql.DB) func() {
			conn, err := db.Conn(t.Context())
			require.NoError(t, err)
			return func() { assert.NoError(t, conn.Close()) }
		},
		"has locks": func(db *sql.DB) func() {
			_, err := db.Exec("SELECT pg_advisory_lock(7)")
			require.NoError(t, err)
			return func() {
				var known bool
				require.NoError(t, db.QueryRow("SELECT pg_advisory_unlock(7)").Scan(&known))
				assert.True(t, known, "the host's connection, and its lock, are still the host's")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := pgtest.New(t)
			db, err := sql.Open("pgx", server.URL())
			require.NoError(t, err)
			defer db.Close()
			db.SetMaxOpenConns(1)
			locker := newPostgres(t, db, nil)
			done := use(db)
			held := take(t, locker, lock.Name("k"))
			terminate(t, server.Pool(), held)
			await(t, held.Context().Done(), "loss")
			ctx, cancel := context.WithTimeout(t.Context(), patience/4)
			defer cancel()
			again, err := locker.Lock(ctx, lock.Name("k"))
			require.NoError(t, err)
			assert.NoError(t, again.Unlock())
			done()
		})
	}
}

// Idle connections that are closed do not keep a locker from connecting.
func TestLockerConnectsPastDeadConnections(t *testing.T) {
	server := pgtest.New(t)
	db, err := sql.Open("pgx", server.URL())
	require.NoError(t, err)
	defer db.Close()
	db.SetMaxIdleConns(4)
	var conns []*sql.Conn
	for range 4 {
		conn, err := db.Conn(t.Context())
		require.NoError(t, err)
		conns = append(conns, conn)
	}
	for _, conn := range conns {
		var pid uint32
		require.NoError(t, conn.QueryRowContext(t.Context(), "SELECT pg_backend_pid()").Scan(&pid))
		require.NoError(t, conn.Close())
		require.NoError(t, server.Terminate(pid))
	}
	assert.NoError(t, take(t, newPostgres(t, db, nil), lock.Name("k")).Unlock())
}

// A pool can be closed as soon as its locker is, without waiting.
func TestPoolOfALockerCloses(t *testing.T) {
	pool, err := pgxpool.New(t.Context(), pgtest.New(t).URL())
	require.NoError(t, err)
	db := stdlib.OpenDBFromPool(pool)
	locker, err := lock.NewPostgres(t.Context(), db, nil)
	require.NoError(t, err)
	require.NoError(t, locker.Close(t.Context()))
	require.NoError(t, db.Close())
	closed := make(chan struct{})
	begun := time.Now()
	go func() { pool.Close(); close(closed) }()
	await(t, closed, "the pool")
	assert.Less(t, time.Since(begun), 10*time.Second)
}

// Connect opens each connection, also the wait connections.
func TestConnectMakesEveryConnection(t *testing.T) {
	db := pgtest.New(t)
	connect := lock.ConnectTo(db.URL())
	var connects atomic.Int64
	opts := &lock.PostgresOptions{Connect: func(ctx context.Context) (*pgx.Conn, error) {
		conn, err := connect(ctx)
		if err != nil {
			return nil, err
		}
		_, err = conn.Exec(ctx, fmt.Sprintf("SET application_name = 'connection %d'", connects.Add(1)))
		return conn, err
	}}
	application := func(h *lock.Held) string {
		backend, _ := h.Backend(h.Key())
		return query[string](t, db.Pool(), "SELECT application_name FROM pg_stat_activity WHERE pid = $1", backend.PID)
	}
	locker, other := newPostgres(t, db.Pool(), opts), newPostgres(t, db.Pool(), nil)
	held := take(t, locker, lock.Name("k"))
	assert.Equal(t, "connection 1", application(held))
	terminate(t, db.Pool(), held)
	await(t, held.Context().Done(), "loss")
	held = take(t, locker, lock.Name("k"))
	assert.Equal(t, "connection 2", application(held))
	require.NoError(t, held.Unlock())

	held = take(t, other, lock.Name("k"))
	got := make(chan *lock.Held, 1)
	go func() {
		held, _ := locker.Lock(t.Context(), lock.Name("k"))
		got <- held
	}()
	awaitServerWaits(t, db, 1)
	require.NoError(t, held.Unlock())
	if held = <-got; assert.NotNil(t, held) {
		assert.Equal(t, "connection 3", application(held))
		assert.NoError(t, held.Unlock())
	}
}

func TestConnectFails(t *testing.T) {
	db := pgtest.New(t)
	for name, c := range map[string]struct {
		connect func(context.Context) (*pgx.Conn, error)
		want    string
	}{
		"with its own error": {func(context.Context) (*pgx.Conn, error) { return nil, fmt.Errorf("no password today") }, "no password today"},
		"with nothing":       {func(context.Context) (*pgx.Conn, error) { return nil, nil }, "neither"},
		"by its URL":         {lock.ConnectTo("postgres://:x:"), "cannot parse"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := lock.NewPostgres(t.Context(), db.Pool(), &lock.PostgresOptions{Connect: c.connect})
			assert.ErrorContains(t, err, c.want)
		})
	}
}

// Locks in another database than the pool's could not be seen, evicted or written under.
func TestConnectToAnotherDatabase(t *testing.T) {
	db, other := pgtest.New(t), pgtest.New(t)
	var elsewhere atomic.Bool
	opts := &lock.PostgresOptions{Connect: func(ctx context.Context) (*pgx.Conn, error) {
		if elsewhere.Load() {
			return pgx.Connect(ctx, other.URL())
		}
		return pgx.Connect(ctx, db.URL())
	}}
	finds := func(locker *lock.Postgres) bool {
		findings, err := locker.Check(t.Context())
		require.NoError(t, err)
		return slices.ContainsFunc(findings, func(f lock.Finding) bool { return f.Setting == "Connect" })
	}
	hidden := sql.OpenDB(wrapped{stdlib.GetConnector(*db.Pool().Config().ConnConfig), false})
	defer hidden.Close()
	for name, pool := range map[string]*sql.DB{"pgx": db.SQLX().DB, "a driver that hides it": hidden} {
		t.Run(name, func(t *testing.T) {
			elsewhere.Store(true)
			_, err := lock.NewPostgres(t.Context(), pool, opts)
			require.ErrorIs(t, err, lock.ErrUnsupported)
			assert.ErrorContains(t, err, "another database")
			require.Eventually(t, func() bool { return query[int](t, other.Pool(), sessionsSQL) == 0 }, patience, time.Millisecond, "nothing is left of it")

			elsewhere.Store(false)
			locker := newPostgres(t, pool, opts)
			assert.False(t, finds(locker))
			elsewhere.Store(true) // the one, but not the other, follows a failover, say
			held := take(t, locker, lock.Name("k"))
			terminate(t, db.Pool(), held)
			await(t, held.Context().Done(), "loss")
			assert.NoError(t, take(t, locker, lock.Name("k")).Unlock())
			assert.True(t, finds(locker))
		})
	}
}

// sessionsSQL counts the sessions of the database other than the one that asks.
const sessionsSQL = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name <> 'pgtest'"
