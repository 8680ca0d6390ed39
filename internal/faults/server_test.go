package faults_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/lock/locktest"
	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// sqlState returns the SQLSTATE in an error.
func sqlState(err error) string {
	var state interface{ SQLState() string }
	if errors.As(err, &state) {
		return state.SQLState()
	}
	return ""
}

// The host's transaction is idle after its merge until the server ends it. Over TCP the driver
// reads the server's reason; on a unix socket it finds the connection closed.
func Test33IdleInTransactionTimeout(t *testing.T) {
	w := newWorld(t)
	pool := w.pool(pgtest.NewProxy(t, w.db).URL()+"&idle_in_transaction_session_timeout=1s", 1)
	store, other := w.store(pool, nil), w.store(nil, nil)
	before := w.merged(other, "a")
	tx, err := pool.Begin(w.ctx)
	require.NoError(t, err)
	_, err = store.In(tx).Merge(w.ctx, "a", raw(`{"idle":1}`))
	require.NoError(t, err)
	w.merged(other, "a") // as soon as the server has ended the transaction
	_, err = store.In(tx).Merge(w.ctx, "a", raw(`{"late":1}`))
	assert.Equal(t, "25P03", sqlState(err), "%v", err)
	assert.Error(t, tx.Rollback(w.ctx))
	after := w.merged(store, "a")
	assert.Equal(t, before.Version+2, after.Version)
	assert.NotContains(t, string(after.Metadata), "idle")
}

// The session of a locker is idle while there are no calls. It is protected from the host's
// setting.
func Test34IdleSessionTimeout(t *testing.T) {
	w := newWorld(t)
	locker := w.locker(w.pool(w.db.URL()+"&idle_session_timeout=150ms", 1), &lock.PostgresOptions{Silence: time.Hour})
	held := w.lock(locker, key)
	require.Never(t, func() bool { return held.Context().Err() != nil }, 500*time.Millisecond, 50*time.Millisecond)
	assert.Len(t, w.db.Locks(t), 1)
	assert.NoError(t, held.Unlock())
}

func Test35LockTableFull(t *testing.T) {
	w := newWorld(t, pgtest.Setting("max_connections", "30"), pgtest.Setting("max_locks_per_transaction", "10"))
	store := w.store(nil, nil)
	modest := w.locker(nil, &lock.PostgresOptions{MaxKeys: 100})
	var held []*lock.Held
	for i := range int64(100) {
		held = append(held, w.lock(modest, lock.ID(i)))
	}
	_, err := modest.TryLock(w.ctx, lock.ID(1000))
	assert.ErrorIs(t, err, lock.ErrTooMany)
	w.merged(store, "a") // the server still works

	greedy := w.locker(nil, &lock.PostgresOptions{MaxKeys: 100_000})
	findings, err := greedy.Check(w.ctx)
	require.NoError(t, err)
	assert.Contains(t, fmt.Sprint(findings), "max_locks_per_transaction")
	for i := int64(2000); err == nil; i++ {
		var h *lock.Held
		if h, err = greedy.TryLock(w.ctx, lock.ID(i)); err == nil {
			held = append(held, h)
		}
	}
	assert.Equal(t, "53200", sqlState(err), "%v", err)
	for _, h := range held {
		assert.NoError(t, h.Context().Err(), "others keep what they have")
		assert.NoError(t, h.Unlock())
	}
	w.unlocked(greedy, lock.ID(1000))
	w.merged(store, "a")
}

func Test36NoConnectionLeft(t *testing.T) {
	w := newWorld(t, pgtest.Dedicated(), pgtest.Setting("max_connections", "12"))
	w.exec("CREATE ROLE app LOGIN PASSWORD 'app'; GRANT ALL ON SCHEMA public TO app; GRANT ALL ON ALL TABLES IN SCHEMA public TO app")
	app, err := url.Parse(w.db.URL())
	require.NoError(t, err)
	app.User = url.UserPassword("app", "app")
	locker := w.locker(w.pool(app.String(), 1), nil)
	store := w.store(w.pool(app.String(), 1), nil)
	held := w.lock(locker, key)
	var others []*pgx.Conn
	for err == nil {
		var conn *pgx.Conn
		if conn, err = pgx.Connect(w.ctx, app.String()); err == nil {
			others = append(others, conn)
		}
	}
	require.Equal(t, "53300", sqlState(err), "%v", err)
	w.exec("ALTER ROLE app CONNECTION LIMIT 0") // or the locker might connect first
	require.NoError(t, w.db.Terminate(pidOf(held)))
	w.lost(held)
	ctx, cancel := context.WithTimeout(w.ctx, 200*time.Millisecond)
	defer cancel()
	_, err = locker.Lock(ctx, lock.Name("other"))
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.ErrorIs(t, err, lock.ErrUnavailable)
	assert.Equal(t, "53300", sqlState(err), "%v", err)
	_, err = w.merge(ctx, store, "a")
	assert.Error(t, err)
	assert.NotErrorIs(t, err, metadata.ErrUnknownOutcome)
	for _, conn := range others {
		assert.NoError(t, conn.Close(w.ctx))
	}
	w.exec("ALTER ROLE app CONNECTION LIMIT -1")
	w.unlocked(locker, lock.Name("third"))
	w.soon(func() bool { _, err := w.merge(w.ctx, store, "a"); return err == nil }, "merges to be served")
}

// Each statement that the connection has prepared can fail once. A merge has one, or four where
// it also asks whether there are watchers, once a second.
func Test38PreparedStatementsGone(t *testing.T) {
	w := newWorld(t)
	pool := w.pool("", 1)
	store := w.store(pool, nil)
	w.merged(store, "a")
	failed := 0
	for discarded := 1; discarded <= 5; discarded++ {
		_, err := pool.Exec(w.ctx, "DISCARD ALL")
		require.NoError(t, err)
		for made := 0; made < 3; {
			if _, err = w.merge(w.ctx, store, "a"); err == nil {
				made++
				continue
			}
			failed++
			require.LessOrEqual(t, failed, 5*discarded)
			assert.Equal(t, "26000", sqlState(err), "%v", err)
			assert.NotErrorIs(t, err, metadata.ErrUnknownOutcome)
		}
	}
	assert.NotZero(t, failed)
}

func Test39ReadOnlyServer(t *testing.T) {
	w := newWorld(t)
	pool := w.pool(w.db.URL()+"&default_transaction_read_only=on", 1)
	_, err := lock.NewPostgres(w.ctx, pool, nil)
	assert.ErrorIs(t, err, lock.ErrUnsupported)
	store := w.store(pool, nil)
	_, err = w.merge(w.ctx, store, "a")
	assert.ErrorIs(t, err, metadata.ErrReadOnly)
	assert.Equal(t, "25006", sqlState(err), "%v", err)
	assert.Zero(t, store.Stats().Waits, "it is not tried again")
}

func Test45RowDeletedInMidMerge(t *testing.T) {
	w := newWorld(t)
	w.exec("CREATE TABLE users (id text PRIMARY KEY, metadata jsonb NOT NULL DEFAULT '{}'); INSERT INTO users VALUES ('a'), ('b')")
	store := w.store(nil, &metadata.Options{Table: metadata.Table{Name: "users"}})
	host, err := w.db.Pool().Begin(w.ctx)
	require.NoError(t, err)
	_, err = host.Exec(w.ctx, "DELETE FROM users WHERE id = 'a'")
	require.NoError(t, err)
	failed := make(chan error, 1)
	go func() {
		_, err := store.Merge(w.ctx, "a", raw(`{"n":1}`))
		failed <- err
	}()
	w.soon(func() bool { return w.blocked() == 1 }, "the merge to wait for the row")
	require.NoError(t, host.Commit(w.ctx))
	assert.ErrorIs(t, <-failed, metadata.ErrNotFound)
}

// Another application holds a lock with the document's 64 bits.
func Test46KeyCollision(t *testing.T) {
	w := newWorld(t)
	locker, store := w.locker(nil, nil), w.store(nil, nil)
	w.merged(store, "a")
	held := w.lock(locker, lock.ID(store.Key("a").Int64()))
	ctx, cancel := context.WithTimeout(w.ctx, 50*time.Millisecond)
	defer cancel()
	_, err := w.merge(ctx, store, "a")
	assert.ErrorIs(t, err, lock.ErrBusy)
	w.merged(store, "b")
	assert.NoError(t, held.Unlock())
	w.merged(store, "a")
}

func Test47BadPatchInBatch(t *testing.T) {
	w := newWorld(t)
	w.exec("ALTER TABLE lockstore_metadata ADD CONSTRAINT modest CHECK (NOT metadata ? 'bad')")
	store := w.store(nil, nil)
	w.merged(store, "a")
	first, unblock := w.blockedMerge(w.ctx, store, "a")
	var group sync.WaitGroup
	for i := range 64 {
		ctx := locktest.Arriving(w.ctx)
		group.Go(func() {
			if i == 13 {
				_, err := store.Merge(ctx, "a", raw(`{"bad":1}`))
				assert.ErrorIs(t, err, metadata.ErrRejected)
				return
			}
			_, err := w.merge(ctx, store, "a")
			assert.NoError(t, err)
		})
		w.await(ctx.Arrived(), "the merge to wait")
	}
	unblock()
	group.Wait()
	assert.NoError(t, <-first)
	assert.Greater(t, store.Stats().Largest, int64(1), "writes that shared a commit")
}

func Test48SchemaMissing(t *testing.T) {
	w := newWorld(t)
	store := w.store(nil, nil)
	w.merged(store, "a")
	w.exec("ALTER FUNCTION lockstore_merge_patch RENAME TO elsewhere")
	_, err := w.merge(w.ctx, store, "a")
	assert.ErrorIs(t, err, metadata.ErrSchema)
	assert.ErrorContains(t, err, "Migrate")
	w.exec("ALTER TABLE lockstore_metadata RENAME TO elsewhere")
	_, err = w.merge(w.ctx, store, "a")
	assert.ErrorIs(t, err, metadata.ErrSchema)
	assert.ErrorContains(t, err, "Migrate")
	assert.Zero(t, store.Stats().Waits, "it is not tried again")
	w.exec("ALTER TABLE elsewhere RENAME TO lockstore_metadata; ALTER FUNCTION elsewhere RENAME TO lockstore_merge_patch")
	w.merged(store, "a")
}
