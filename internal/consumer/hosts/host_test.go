// Package hosts has a small application for each library with which hosts use their
// database. The application hands the open database to lockstore, and writes metadata in its
// own transactions. [run] has each do what applications do, on a real server.
package hosts

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// schema is what the applications have had for years.
//
//go:embed schema.sql
var schema string

// users has the metadata in that table.
var users = &metadata.Options{Table: metadata.Table{Name: "users", Version: "revision"}}

// A host is an application that keeps users.
type host interface {
	// signUp adds a user, with metadata, in one transaction of the host's, in which it
	// also locks the email address.
	signUp(ctx context.Context, id, email string, meta json.RawMessage) error

	// email reads a column of the host's own.
	email(ctx context.Context, id string) (string, error)
}

// run has a host do what it is for. open opens its database, and gives that to lockstore.
func run(t *testing.T, open func(t *testing.T, db *pgtest.DB) (host, *metadata.Postgres, *lock.Postgres)) {
	t.Parallel()
	db := pgtest.New(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, err := db.Pool().Exec(ctx, schema)
	require.NoError(t, err)
	h, store, locker := open(t, db)
	t.Cleanup(func() {
		store.Close()
		assert.NoError(t, locker.Close(context.Background()))
	})

	require.NoError(t, store.Migrate(ctx))
	require.NoError(t, h.signUp(ctx, "ann", "ann@example.com", json.RawMessage(`{"plan": "free", "name": "Änn"}`)))
	require.NoError(t, h.signUp(ctx, "bob", "bob@example.com", json.RawMessage(`{"plan": "pro"}`)))
	for _, step := range []struct {
		name string
		do   func(*testing.T, context.Context, host, *metadata.Postgres, *lock.Postgres)
	}{
		{"merges", merges}, {"transacts", transacts}, {"locks", locks}, {"finds", finds}, {"is refused", isRefused},
	} {
		t.Run(step.name, func(t *testing.T) { step.do(t, ctx, h, store, locker) })
	}
	t.Run("loses its connections", func(t *testing.T) { losesConnections(t, ctx, db, store, locker) })
}

// merges: many at once, none of which is lost.
func merges(t *testing.T, ctx context.Context, _ host, store *metadata.Postgres, _ *lock.Postgres) {
	const writers = 32
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			_, err := store.Merge(ctx, "ann", json.RawMessage(fmt.Sprintf(`{"clicks": {"%d": 1}}`, i)))
			assert.NoError(t, err)
		})
	}
	wg.Wait()
	doc, err := store.Get(ctx, "ann")
	require.NoError(t, err)
	assert.EqualValues(t, writers+1, doc.Version)
	kept, err := metadata.Decode[struct {
		Name   string
		Clicks map[string]int
	}](doc)
	require.NoError(t, err)
	assert.Equal(t, "Änn", kept.Name)
	assert.Len(t, kept.Clicks, writers)
}

// transacts: what is written in the host's transaction is committed with it, or not at all.
func transacts(t *testing.T, ctx context.Context, h host, store *metadata.Postgres, _ *lock.Postgres) {
	email, err := h.email(ctx, "bob")
	require.NoError(t, err)
	assert.Equal(t, "bob@example.com", email)
	doc, err := store.Get(ctx, "bob")
	require.NoError(t, err)
	assert.JSONEq(t, `{"plan": "pro"}`, string(doc.Metadata))

	assert.ErrorIs(t, h.signUp(ctx, "cid", "cid@example.com", json.RawMessage(`{"plan": 1e`)), metadata.ErrInvalidPatch)
	_, err = store.Get(ctx, "cid")
	assert.ErrorIs(t, err, metadata.ErrNotFound)
}

// locks: while the lock is held, no other caller writes, and Status names the holder.
func locks(t *testing.T, ctx context.Context, h host, store *metadata.Postgres, locker *lock.Postgres) {
	err := lock.Do(ctx, locker, store.Key("ann"), func(held context.Context) error {
		brief, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		_, err := store.Merge(brief, "ann", json.RawMessage(`{"late": true}`))
		assert.ErrorIs(t, err, lock.ErrBusy)

		status, err := locker.Status(ctx, store.Key("ann"))
		require.NoError(t, err)
		require.Len(t, status.Holders, 1)
		assert.True(t, status.Holders[0].InThisLocker)

		_, err = store.Merge(held, "ann", json.RawMessage(`{"plan": "pro"}`))
		return err
	})
	require.NoError(t, err)

	err = lock.Do(ctx, locker, lock.Name("email", "dee@example.com"), func(context.Context) error {
		brief, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		return h.signUp(brief, "dee", "dee@example.com", json.RawMessage(`{}`))
	})
	assert.ErrorIs(t, err, lock.ErrBusy)
}

// finds: by what documents contain.
func finds(t *testing.T, ctx context.Context, _ host, store *metadata.Postgres, _ *lock.Postgres) {
	var found []string
	for doc, err := range store.Find(ctx, json.RawMessage(`{"name": "Änn"}`), nil) {
		require.NoError(t, err)
		found = append(found, doc.ID)
	}
	assert.Equal(t, []string{"ann"}, found)
}

// isRefused: a constraint refuses a write. The error has its name, and not the value.
func isRefused(t *testing.T, ctx context.Context, h host, store *metadata.Postgres, _ *lock.Postgres) {
	for name, write := range map[string]func() error{
		"alone": func() error {
			_, err := store.Merge(ctx, "ann", json.RawMessage(`{"plan": "gold"}`))
			return err
		},
		"in the host's transaction": func() error {
			return h.signUp(ctx, "eve", "eve@example.com", json.RawMessage(`{"plan": "gold"}`))
		},
	} {
		err := write()
		var rejected *metadata.RejectedError
		if assert.ErrorAs(t, err, &rejected, name) {
			assert.Equal(t, "known_plan", rejected.Constraint, name)
			assert.NotContains(t, err.Error(), "gold", name)
		}
	}
	_, err := store.Get(ctx, "eve")
	assert.ErrorIs(t, err, metadata.ErrNotFound)
}

// losesConnections: the server ends all sessions. The holder of a lock is told, and can write
// no more under it; everything else goes on.
func losesConnections(t *testing.T, ctx context.Context, db *pgtest.DB, store *metadata.Postgres, locker *lock.Postgres) {
	held, err := locker.Lock(ctx, store.Key("ann"))
	require.NoError(t, err)
	_, err = db.Pool().Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
	require.NoError(t, err)
	select {
	case <-held.Context().Done():
	case <-ctx.Done():
		require.Fail(t, "nobody tells the holder")
	}
	assert.ErrorIs(t, held.Unlock(), lock.ErrLost)
	under, stop := held.Bind(ctx)
	defer stop()
	_, err = store.Merge(under, "ann", json.RawMessage(`{"late": true}`))
	assert.ErrorIs(t, err, lock.ErrLost)

	err = lock.Do(ctx, locker, store.Key("ann"), func(ctx context.Context) error {
		_, err := store.Merge(ctx, "ann", json.RawMessage(`{"back": true}`))
		return err
	})
	assert.NoError(t, err)
	doc, err := store.Get(ctx, "ann")
	require.NoError(t, err)
	assert.Contains(t, string(doc.Metadata), "back")
	assert.NotContains(t, string(doc.Metadata), "late")
}
