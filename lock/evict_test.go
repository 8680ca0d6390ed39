package lock_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
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

// createRole creates a role with the password "x", for this database only, although roles belong
// to the server. The role is given by what follows CREATE ROLE, where %s ends the names of others.
func createRole(t testing.TB, db *pgtest.DB, said string) (role string) {
	t.Helper()
	suffix := fmt.Sprintf("_%d", query[uint32](t, db.Pool(), "SELECT oid FROM pg_database WHERE datname = current_database()"))
	name, attributes, _ := strings.Cut(said, " ")
	role = name + suffix
	_, err := db.Pool().Exec(t.Context(), "CREATE ROLE "+role+" LOGIN PASSWORD 'x' "+strings.ReplaceAll(attributes, "%s", suffix))
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := db.Pool().Exec(context.Background(), "DROP ROLE "+role)
		assert.NoError(t, err)
	})
	return role
}

// roles creates roles, and returns lockers of them, whose pools have one connection.
func roles(t *testing.T, db *pgtest.DB, said ...string) func(name string) *lock.Postgres {
	t.Helper()
	created := make(map[string]string)
	for _, role := range said {
		name, _, _ := strings.Cut(role, " ")
		created[name] = createRole(t, db, role)
	}
	return func(name string) *lock.Postgres {
		config := db.Pool().Config()
		config.ConnConfig.User, config.ConnConfig.Password, config.MaxConns = created[name], "x", 1
		return newPostgres(t, newPool(t, config), nil)
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

// A writer that does not end keeps the key from all others, until Evict ends it.
func TestEvictEndsAWriter(t *testing.T) {
	db := pgtest.New(t)
	locker := newPostgres(t, db.Pool(), nil)
	key := lock.Namespace("app").Name("k")
	writer, err := pgx.Connect(t.Context(), db.URL())
	require.NoError(t, err)
	defer writer.Close(context.Background())
	_, err = writer.Exec(t.Context(), "SELECT pg_advisory_lock($1)", key.Guard())
	require.NoError(t, err)
	list, err := locker.List(t.Context(), "app")
	require.NoError(t, err)
	if assert.Len(t, list, 1) {
		assert.Equal(t, key.Int64(), list[0].Key.Int64())
	}
	got := make(chan error)
	go func() {
		held, err := locker.Lock(t.Context(), key)
		if err == nil {
			err = held.Unlock()
		}
		got <- err
	}()
	require.NoError(t, locker.Evict(t.Context(), key, time.Millisecond))
	assert.NoError(t, <-got)
	assert.Error(t, writer.Ping(t.Context()))
}
