package lock_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/lock/locktest"
	"example.com/lockstore/pgtest"
)

func TestEvictAsksFirst(t *testing.T) {
	db := pgtest.New(t)
	operator, owner := newPostgres(t, db.Pool(), nil), newPostgres(t, db.Pool(), nil)
	stuck, fine := take(t, owner, lock.Name("stuck")), take(t, owner, lock.Name("fine"))
	waiter := locktest.Arriving(t.Context())
	next := make(chan *lock.Held, 1)
	go func() {
		held, err := owner.Lock(waiter, stuck.Key())
		assert.NoError(t, err)
		next <- held
	}()
	await(t, waiter.Arrived(), "waiter")

	require.NoError(t, operator.Evict(t.Context(), stuck.Key(), time.Hour))
	await(t, stuck.Context().Done(), "the evicted holder")
	assert.ErrorIs(t, context.Cause(stuck.Context()), lock.ErrEvicted)
	assert.ErrorIs(t, stuck.Unlock(), lock.ErrEvicted)
	assert.ErrorIs(t, stuck.Unlock(), lock.ErrLost)
	successor := <-next
	assert.NoError(t, successor.Context().Err(), "the successor is not evicted")
	assert.NoError(t, successor.Unlock())
	assert.NoError(t, fine.Context().Err(), "other locks of the session are not touched")
	assert.NoError(t, fine.Unlock())
	assert.EqualValues(t, 1, owner.Stats().Evicted)
	assert.NoError(t, operator.Evict(t.Context(), stuck.Key(), time.Hour), "a free key")
}

func TestEvictedHolderIsToldBeforeTheNextIsGranted(t *testing.T) {
	t.Parallel() // it mostly waits
	db := pgtest.New(t)
	operator, owner := newPostgres(t, db.Pool(), nil), newPostgres(t, db.Pool(), nil)
	key := lock.Name("k")
	for range 20 {
		held := take(t, owner, key)
		ctx := held.Context()
		waiter := locktest.Arriving(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			next, err := owner.Lock(waiter, key)
			if assert.NoError(t, err) {
				assert.Error(t, ctx.Err(), "two at a time")
				assert.NoError(t, next.Unlock())
			}
		}()
		await(t, waiter.Arrived(), "waiter")
		require.NoError(t, operator.Evict(t.Context(), key, time.Hour))
		await(t, done, "the next holder")
	}
}

// If a key goes from holder to holder, an eviction has nothing to free. Holders look for
// requests ten times a second.
func TestEvictSparesWhoComesAfterIt(t *testing.T) {
	db := pgtest.New(t)
	operator, owner := newPostgres(t, db.Pool(), nil), newPostgres(t, db.Pool(), &lock.PostgresOptions{HandOff: time.Minute})
	key, stop := lock.Name("busy"), make(chan struct{})
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				asked := time.Now()
				if err := take(t, owner, key).Unlock(); err != nil {
					assert.ErrorIs(t, err, lock.ErrEvicted)
					assert.Greater(t, time.Since(asked), 100*time.Millisecond, "it was there for two looks")
				}
			}
		})
	}
	for range 5 {
		assert.NoError(t, operator.Evict(t.Context(), key, time.Hour))
	}
	close(stop)
	group.Wait()
	assert.Zero(t, owner.Stats().Lost)
}

func TestEvictTerminatesWhoDoesNotAnswer(t *testing.T) {
	db := pgtest.New(t)
	locker := newPostgres(t, db.Pool(), nil)
	conn, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	_, err = conn.Exec(t.Context(), "SELECT pg_advisory_lock(7)")
	require.NoError(t, err)
	require.NoError(t, locker.Evict(t.Context(), lock.ID(7), 10*time.Millisecond))
	assert.NoError(t, take(t, locker, lock.ID(7)).Unlock())
	_, err = conn.Exec(t.Context(), "SELECT 1")
	assert.Error(t, err, "the session that held the key is gone")
}

// roles creates roles, for these databases only, although roles belong to the server. Each is
// given by what follows CREATE ROLE, where %s ends the names of others. It returns lockers of
// these roles, whose pools have one connection.
func roles(t *testing.T, db *pgtest.DB, said ...string) func(role string) *lock.Postgres {
	t.Helper()
	suffix := fmt.Sprintf("_%d", query[uint32](t, db.Pool(), "SELECT oid FROM pg_database WHERE datname = current_database()"))
	for _, role := range said {
		name, attributes, _ := strings.Cut(role, " ")
		_, err := db.Pool().Exec(t.Context(), "CREATE ROLE "+name+suffix+" LOGIN PASSWORD 'x' "+strings.ReplaceAll(attributes, "%s", suffix))
		require.NoError(t, err)
		t.Cleanup(func() {
			_, err := db.Pool().Exec(context.Background(), "DROP ROLE "+name+suffix)
			assert.NoError(t, err)
		})
	}
	return func(role string) *lock.Postgres {
		config := db.Pool().Config()
		config.ConnConfig.User, config.ConnConfig.Password, config.MaxConns = role+suffix, "x", 1
		pool, err := pgxpool.NewWithConfig(t.Context(), config)
		require.NoError(t, err)
		t.Cleanup(pool.Close)
		return newPostgres(t, pool, nil)
	}
}

func TestHolderGivesUpForWhoMayTerminateItOnly(t *testing.T) {
	db := pgtest.New(t)
	as := roles(t, db, "app", "stranger", "root SUPERUSER", "signaller IN ROLE pg_signal_backend",
		"member IN ROLE app%s", "reluctant NOINHERIT IN ROLE app%s", "heir IN ROLE root%s")
	for _, c := range []struct {
		holder, evictor string
		may             bool
	}{
		{"app", "app", true}, {"app", "root", true}, {"app", "member", true}, {"app", "signaller", true}, {"root", "root", true},
		{"app", "stranger", false}, {"app", "reluctant", false}, {"root", "app", false}, {"root", "signaller", false}, {"root", "heir", false},
	} {
		t.Run(c.evictor+" from "+c.holder, func(t *testing.T) {
			owner, evictor := as(c.holder), as(c.evictor)
			held := take(t, owner, lock.Name("k"))
			if c.may {
				require.NoError(t, evictor.Evict(t.Context(), held.Key(), time.Hour))
				assert.ErrorIs(t, held.Unlock(), lock.ErrEvicted)
				return
			}
			require.ErrorIs(t, evictor.Evict(t.Context(), held.Key(), 0), lock.ErrNotPermitted)
			assert.NoError(t, held.Context().Err())
			assert.NoError(t, held.Unlock())
		})
	}
}

// A key counts as held as long as the server says so, whatever its holder says.
func TestForgedAnswersToAnEvictionAreNotBelieved(t *testing.T) {
	t.Parallel() // it mostly waits
	db := pgtest.New(t)
	locker, connect := newPostgres(t, db.Pool(), nil), connector(t, db)
	holder, listener := connect(), connect()
	_, err := holder.Exec(t.Context(), "SELECT pg_advisory_lock(7)")
	require.NoError(t, err)
	_, err = listener.Exec(t.Context(), "LISTEN lockstore_evict")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	evicted := make(chan error, 1)
	go func() { evicted <- locker.Evict(ctx, lock.ID(7), time.Hour) }()
	forged := 0
	for ctx.Err() == nil {
		brief, stop := context.WithTimeout(ctx, 10*time.Millisecond)
		if n, err := listener.WaitForNotification(brief); err == nil {
			forged++
			_, err := listener.Exec(t.Context(), "SELECT pg_notify('lockstore_evicted', split_part($1, ' ', 3))", n.Payload)
			require.NoError(t, err)
		}
		stop()
		var read int
		require.NoError(t, holder.QueryRow(t.Context(), `SELECT count(*) FROM (
			SELECT set_config('application_name', application_name, false), pg_notify('lockstore_evicted', token::text),
				pg_advisory_lock_shared(token), pg_advisory_lock_shared(token << 32), pg_try_advisory_lock_shared((token >> 1)::int, 1)
			FROM pg_stat_activity, CAST(split_part(application_name, ' ', 4) AS bigint) token
			WHERE application_name LIKE 'lockstore_evict %' AND datname = current_database() AND pid <> pg_backend_pid()) answers`).Scan(&read))
		forged += read
	}
	require.ErrorIs(t, <-evicted, context.DeadlineExceeded)
	assert.Positive(t, forged, "answers")
	require.NoError(t, locker.Evict(t.Context(), lock.ID(7), 0))
	_, err = holder.Exec(t.Context(), "SELECT 1")
	assert.Error(t, err, "its session has ended")
}

func TestEvictNeedsThePrivilege(t *testing.T) {
	db := pgtest.New(t)
	// Roles belong to the server, not to the database: this one is for this database only.
	role := fmt.Sprintf("lowly_%d", query[uint32](t, db.Pool(), "SELECT oid FROM pg_database WHERE datname = current_database()"))
	_, err := db.Pool().Exec(t.Context(), "CREATE ROLE "+role)
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := db.Pool().Exec(context.Background(), "DROP ROLE "+role)
		assert.NoError(t, err)
	})
	conn, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	_, err = conn.Exec(t.Context(), "SELECT pg_advisory_lock(7)")
	require.NoError(t, err)

	config, err := pgxpool.ParseConfig(db.URL())
	require.NoError(t, err)
	config.ConnConfig.RuntimeParams["role"] = role
	lowly, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	defer lowly.Close()
	locker := newPostgres(t, lowly, nil)
	assert.ErrorIs(t, locker.Evict(t.Context(), lock.ID(7), time.Millisecond), lock.ErrNotPermitted)
	assert.NoError(t, conn.Conn().Ping(t.Context()))
}
