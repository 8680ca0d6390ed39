package lock_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

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
	assert.Equal(t, b.Key(), found[b.Key().Int64()].Key, "one that another one tells")
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

// A keeper keeps the last error that it was told of.
type keeper struct{ err error }

func (*keeper) AcquireStart(ctx context.Context, _ lock.AcquireStart) context.Context { return ctx }
func (k *keeper) AcquireEnd(_ context.Context, a lock.AcquireEnd)                     { k.err = a.Err }

// An observer may read an error later, so the one that it was given does not change.
func TestErrorThatAnObserverWasToldOfStaysAsItIs(t *testing.T) {
	db := pgtest.New(t)
	var kept keeper
	locker := newPostgres(t, db.Pool(), &lock.PostgresOptions{DescribeBusy: true, Observers: []lock.Observer{&kept}})
	held := take(t, locker, lock.Name("k"))
	_, err := locker.TryLock(t.Context(), lock.Name("k"))
	var busy, told *lock.BusyError
	require.ErrorAs(t, err, &busy)
	assert.NotNil(t, busy.Status)
	require.ErrorAs(t, kept.err, &told)
	assert.Nil(t, told.Status)
	assert.NoError(t, held.Unlock())
}

func TestStatsTellWhatHappened(t *testing.T) {
	db := pgtest.New(t)
	locker := newPostgres(t, db.Pool(), nil)
	held := take(t, locker, lock.Name("k"))
	_, err := locker.TryLock(t.Context(), lock.Name("k"))
	require.ErrorIs(t, err, lock.ErrBusy)
	stats := locker.Stats()
	assert.Equal(t, 1, stats.Keys)
	assert.Equal(t, 1, stats.Holders)
	assert.EqualValues(t, 1, stats.Acquired)
	assert.EqualValues(t, 1, stats.Busy)
	assert.EqualValues(t, 1, stats.Sessions)
	assert.Equal(t, 1, stats.Connections)
	assert.Positive(t, stats.Batches)
	require.NoError(t, held.Unlock())
	stats = locker.Stats()
	assert.Zero(t, stats.Keys)
	assert.Zero(t, stats.Holders)
}

func TestStatusAsJSON(t *testing.T) {
	db := pgtest.New(t)
	locker := newPostgres(t, db.Pool(), nil)
	_, err := db.Pool().Exec(t.Context(), "SELECT pg_advisory_lock(7)")
	require.NoError(t, err)
	held := take(t, locker, lock.Name("user", "42"))
	for key, name := range map[lock.Key]string{held.Key(): "user/42", lock.ID(7): "#7"} {
		status, err := locker.Status(t.Context(), key)
		require.NoError(t, err)
		text, err := json.Marshal(status)
		require.NoError(t, err)
		var read struct {
			Key     string
			Holders []map[string]any
		}
		require.NoError(t, json.Unmarshal(text, &read), "%s", text)
		assert.Equal(t, name, read.Key)
		if assert.Len(t, read.Holders, 1, "%s", text) {
			assert.EqualValues(t, status.Holders[0].PID, read.Holders[0]["pid"])
			assert.Contains(t, read.Holders[0], "start")
			assert.Equal(t, key == held.Key(), read.Holders[0]["since"] != nil, "%s", text)
			assert.Contains(t, status.String(), fmt.Sprintf("%s is held by process %d (", name, status.Holders[0].PID))
		}
	}
	assert.NoError(t, held.Unlock())
}

func TestStatusIsOneLine(t *testing.T) {
	at := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	for want, status := range map[string]lock.Status{
		"#7 is free":                           {Key: lock.ID(7)},
		"#7 is free; 0 wait elsewhere, 1 here": {Key: lock.ID(7), WaitersHere: 1},
		`#7 is held by process 4 ("a\n", u, 10.0.0.7) since 2026-05-04T03:02:01Z, process 5, shared, process 6, writing; 2 wait elsewhere, 3 here: process 8 (a) for 3s, process 9, shared; no answer from process 10; in a circle process 4 waits for process 8 waits for process 4`: {
			Key: lock.ID(7), Waiters: 2, WaitersHere: 3,
			Holders: []lock.Holder{
				{Backend: lock.Backend{PID: 4}, Application: "a\n", User: "u", Address: "10.0.0.7", Since: at},
				{Backend: lock.Backend{PID: 5}, Shared: true}, {Backend: lock.Backend{PID: 6}, Writing: true},
			},
			Waiting: []lock.Waiter{
				{Backend: lock.Backend{PID: 8}, Application: "a", Waited: 3 * time.Second}, {Backend: lock.Backend{PID: 8}, Waited: time.Second},
				{Backend: lock.Backend{PID: 9}, Shared: true},
			},
			Unanswered: []lock.Waiter{{Backend: lock.Backend{PID: 10}}},
			Cycle:      []lock.Backend{{PID: 4}, {PID: 8}},
		},
	} {
		assert.Equal(t, want, status.String())
	}
}

// The log says what a lost session held, also if it got the key by waiting in the server's
// queue, on a connection of its own.
func TestLostLocksAreLogged(t *testing.T) {
	db := pgtest.New(t)
	var log lockedBuffer
	mine, other := newPostgres(t, db.Pool(), nil), newPostgres(t, db.Pool(), &lock.PostgresOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	held := take(t, mine, lock.Name("k"))
	got := make(chan *lock.Held, 1)
	go func() { got <- take(t, other, lock.Name("k")) }()
	awaitServerWaits(t, db, 1)
	require.NoError(t, held.Unlock())
	waited := <-got
	terminate(t, db.Pool(), waited)
	await(t, waited.Context().Done(), "loss")
	require.Eventually(t, func() bool { return strings.Contains(log.String(), "session lost") }, patience, time.Millisecond)
	assert.Contains(t, log.String(), "locks=1 error=")
	assert.NotContains(t, log.String(), " pid=", "which is the host's")
}

// A lockedBuffer is a buffer for several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
