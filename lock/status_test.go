package lock_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/lock/locktest"
	"example.com/lockstore/pgtest"
)

func TestStatusTellsWhoHoldsAndWaits(t *testing.T) {
	db := pgtest.New(t)
	mine, other := newPostgres(t, db.Pool(), nil), newPostgres(t, db.SQLX(), nil)
	key := lock.Namespace("shop").Name("cart", "7")

	status, err := mine.Status(t.Context(), key)
	require.NoError(t, err)
	assert.Equal(t, lock.Status{Key: key}, status, "a free key")

	start := time.Now()
	held := take(t, mine, key)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	waiter := locktest.Arriving(ctx)
	left := make(chan struct{})
	go func() {
		defer close(left)
		_, err := mine.Lock(waiter, key)
		assert.ErrorIs(t, err, context.Canceled)
	}()
	await(t, waiter.Arrived(), "waiter")

	status, err = mine.Status(t.Context(), key)
	require.NoError(t, err)
	require.Len(t, status.Holders, 1)
	backend, _ := held.Backend(key)
	h := status.Holders[0]
	assert.Equal(t, key, status.Key)
	assert.Equal(t, backend.PID, h.PID)
	assert.WithinDuration(t, backend.Start, h.Start, 0)
	assert.NotEmpty(t, h.User)
	assert.False(t, h.Shared)
	assert.True(t, h.InThisLocker)
	assert.WithinRange(t, h.Since, start, time.Now())
	assert.Equal(t, 1, status.HoldersHere)
	assert.Equal(t, 1, status.WaitersHere)

	status, err = other.Status(t.Context(), key)
	require.NoError(t, err)
	require.Len(t, status.Holders, 1)
	assert.Equal(t, backend.PID, status.Holders[0].PID)
	assert.False(t, status.Holders[0].InThisLocker)
	assert.Zero(t, status.HoldersHere)

	cancel()
	await(t, left, "waiter")
	assert.NoError(t, held.Unlock())
}

func TestListTellsTheLocksOfANamespace(t *testing.T) {
	db := pgtest.New(t)
	mine, other := newPostgres(t, db.Pool(), nil), newPostgres(t, db.Pool(), nil)
	shop := lock.Namespace("shop")
	a, b := take(t, mine, shop.Name("a")), take(t, other, shop.Name("b"))
	c := take(t, mine, lock.Namespace("else").Name("a"))
	r, err := other.RLock(t.Context(), shop.Name("r"))
	require.NoError(t, err)

	list, err := mine.List(t.Context(), shop)
	require.NoError(t, err)
	require.Len(t, list, 3)
	found := make(map[int64]lock.Status)
	for _, s := range list {
		require.Len(t, s.Holders, 1)
		found[s.Key.Int64()] = s
	}
	assert.Equal(t, a.Key(), found[a.Key().Int64()].Key, "a name that this process knows")
	assert.Equal(t, lock.ID(b.Key().Int64()), found[b.Key().Int64()].Key, "one that it does not")
	assert.True(t, found[r.Key().Int64()].Holders[0].Shared)
	for _, held := range []*lock.Held{a, b, c, r} {
		assert.NoError(t, held.Unlock())
	}
}

func TestBusyTellsTheHolderWhereAskedFor(t *testing.T) {
	db := pgtest.New(t)
	other := newPostgres(t, db.Pool(), nil)
	locker := newPostgres(t, db.Pool(), &lock.PostgresOptions{DescribeBusy: true})
	held := take(t, other, lock.Name("k"))
	backend, _ := held.Backend(held.Key())
	_, err := locker.TryLock(t.Context(), lock.Name("k"))
	var busy *lock.BusyError
	require.ErrorAs(t, err, &busy)
	require.NotNil(t, busy.Status)
	require.Len(t, busy.Status.Holders, 1)
	assert.Equal(t, backend.PID, busy.Status.Holders[0].PID)
	assert.Equal(t, 1, busy.Attempts)

	brief, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, err = locker.LockAll(brief, lock.Name("free"), lock.Name("k"))
	require.ErrorAs(t, err, &busy)
	require.NotNil(t, busy.Status)
	assert.Equal(t, lock.Name("k"), busy.Status.Key)
	require.Len(t, busy.Status.Holders, 1)
	assert.Equal(t, backend.PID, busy.Status.Holders[0].PID)
	assert.NoError(t, held.Unlock())
}

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
	db := pgtest.New(t)
	operator, owner := newPostgres(t, db.Pool(), nil), newPostgres(t, db.Pool(), nil)
	key := lock.Name("k")
	for range 100 {
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

func TestEvictNeedsThePrivilege(t *testing.T) {
	db := pgtest.New(t)
	// Roles are the server's, not the database's: this one is for this database only.
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

func TestCheckFindsWhatDoesNotSuit(t *testing.T) {
	db := pgtest.New(t)
	locker := newPostgres(t, db.Pool(), &lock.PostgresOptions{MaxKeys: 1_000_000})
	findings, err := locker.Check(t.Context())
	require.NoError(t, err)
	settings := make(map[string]lock.Finding)
	for _, f := range findings {
		settings[f.Setting] = f
		assert.NotEmpty(t, f.Want, f.Setting)
		assert.NotEmpty(t, f.Why, f.Setting)
	}
	assert.Contains(t, settings, "max_locks_per_transaction")
	assert.NotContains(t, settings, "SessionPooler")

	modest := newPostgres(t, db.Pool(), &lock.PostgresOptions{MaxKeys: 10})
	findings, err = modest.Check(t.Context())
	require.NoError(t, err)
	for _, f := range findings {
		assert.NotEqual(t, "max_locks_per_transaction", f.Setting)
	}
}

type observed struct {
	acquired, failed, released chan lock.Key
}

func (o observed) Acquired(_ context.Context, key lock.Key, waited time.Duration, err error) {
	if err != nil {
		o.failed <- key
		return
	}
	o.acquired <- key
}
func (o observed) Released(key lock.Key, _ time.Duration, _ error) { o.released <- key }

func TestObserverAndStatsTellWhatHappened(t *testing.T) {
	db := pgtest.New(t)
	o := observed{make(chan lock.Key, 9), make(chan lock.Key, 9), make(chan lock.Key, 9)}
	locker := newPostgres(t, db.Pool(), &lock.PostgresOptions{Observer: o})
	held := take(t, locker, lock.Name("k"))
	_, err := locker.TryLock(t.Context(), lock.Name("k"))
	require.ErrorIs(t, err, lock.ErrBusy)
	stats := locker.Stats()
	assert.Equal(t, 1, stats.Keys)
	assert.Equal(t, 1, stats.Holders)
	assert.EqualValues(t, 1, stats.Acquired)
	assert.EqualValues(t, 1, stats.Busy)
	assert.EqualValues(t, 1, stats.Sessions)
	assert.Positive(t, stats.Batches)
	require.NoError(t, held.Unlock())
	for _, told := range []chan lock.Key{o.acquired, o.failed, o.released} {
		assert.Equal(t, lock.Name("k"), <-told)
	}
	stats = locker.Stats()
	assert.Zero(t, stats.Keys)
	assert.Zero(t, stats.Holders)
}
