package metadata_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/backoff"
	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// smallServer has PostgreSQL's own defaults: 64 locks for each of 100 connections.
func smallServer(t *testing.T) (*pgtest.DB, func() *metadata.Postgres) {
	db := pgtest.New(t, pgtest.Setting("max_connections", "100"))
	return db, func() *metadata.Postgres { return onPool(db, newPool(t, db.Pool().Config())).migrated(t, nil) }
}

// Calls of MergeMany, however many there are at once and in whatever processes, fail
// neither each other nor a stranger who takes locks, too.
func TestMergeManyLeavesRoomInTheLockTable(t *testing.T) {
	db, open := smallServer(t)
	var stores []*metadata.Postgres
	for range 4 {
		stores = append(stores, open())
	}
	var writers, strangers sync.WaitGroup
	var done atomic.Bool
	most := 0
	strangers.Go(func() {
		for !done.Load() {
			var used int
			assert.NoError(t, db.Pool().QueryRow(t.Context(), "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").Scan(&used))
			most = max(most, used)
			_, err := db.Pool().Exec(t.Context(), "SELECT pg_advisory_xact_lock(n) FROM generate_series(1, 100) AS n")
			assert.NoError(t, err)
		}
	})
	for w := range 20 {
		writers.Go(func() {
			var patches []metadata.Patch
			for i := range 1000 {
				patches = append(patches, metadata.Patch{ID: fmt.Sprint(w, "/", i), Patch: raw(`{"n":1}`)})
			}
			for range 2 {
				_, err := stores[w%len(stores)].MergeMany(t.Context(), patches)
				assert.NoError(t, err)
			}
		})
	}
	writers.Wait()
	done.Store(true)
	strangers.Wait()
	assert.LessOrEqual(t, most, 64*100/2+100+64, "half of the table, the slots, and the stranger's")
	var made int
	require.NoError(t, db.Pool().QueryRow(t.Context(), "SELECT count(*) FROM lockstore_metadata WHERE version = 1").Scan(&made))
	assert.Equal(t, 20000, made)
}

// While strangers fill the lock table, what can be done later is waited for.
func TestFullLockTable(t *testing.T) {
	db, open := smallServer(t)
	store := open()
	var patches []metadata.Patch
	for i := range 200 {
		patches = append(patches, metadata.Patch{ID: fmt.Sprint("u", i), Patch: raw(`{"n":1}`)})
	}
	for name, write := range map[string]func(context.Context) error{
		"Merge": func(ctx context.Context) error {
			_, err := store.Merge(ctx, "u1", raw(`{"m":%d}`, time.Now().UnixNano()))
			return err
		},
		"MergeMany": func(ctx context.Context) error { _, err := store.MergeMany(ctx, patches); return err },
		"Update": func(ctx context.Context) error {
			_, err := store.Update(ctx, "u1", func(metadata.Document) (patch json.RawMessage, err error) {
				return raw(`{"u":%d}`, time.Now().UnixNano()), nil
			})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, write(t.Context()))
			stranger, err := db.Pool().Acquire(t.Context())
			require.NoError(t, err)
			defer stranger.Release()
			hasty, err := metadata.NewPostgres(db.Pool(), &metadata.Options{Backoff: backoff.Limit(nil, 2)})
			require.NoError(t, err)
			fill := func() { // again and again, as another session of the server may have had locks, and has let go of them since
				_, err := stranger.Exec(t.Context(), "SELECT pg_advisory_lock(n) FROM generate_series(1, 100000) AS n") // keeps those it got
				require.ErrorContains(t, err, "53200")
			}
			for range 10 {
				fill()
				if _, err = hasty.MergeMany(t.Context(), patches); err != nil {
					break
				}
			}
			require.ErrorIs(t, err, backoff.ErrExhausted)
			assert.ErrorContains(t, err, "53200")
			assert.NotErrorIs(t, err, lock.ErrBusy, "nobody has the document")
			before := store.Stats().Waits
			written := make(chan error, 1)
			begin := func() { written <- write(t.Context()) }
			go begin()
			for deadline := time.Now().Add(time.Minute); store.Stats().Waits < before+3; {
				select {
				case err := <-written:
					require.NoError(t, err)
					require.True(t, time.Now().Before(deadline), "the table is never full")
					fill()
					go begin()
				case <-time.After(time.Millisecond):
				}
			}
			_, err = stranger.Exec(t.Context(), "SELECT pg_advisory_unlock_all()")
			require.NoError(t, err)
			require.NoError(t, <-written)
		})
	}
}
