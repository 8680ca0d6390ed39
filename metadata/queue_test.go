package metadata_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
)

// blocked is a store whose first writer waits for a row that the host has
// locked, while others line up behind it.
type blocked struct {
	*testing.T
	d     *database
	store *metadata.Postgres
	host  pgx.Tx
	wg    sync.WaitGroup
}

func newBlocked(t *testing.T, d *database, opts *metadata.Options) *blocked {
	ctx := t.Context()
	store := d.migrated(t, opts)
	_, err := store.Merge(ctx, "a", raw(`{"zero":0}`))
	require.NoError(t, err)
	host, err := d.Pool().Begin(ctx)
	require.NoError(t, err)
	t.Cleanup(func() { host.Rollback(context.Background()) })
	_, err = host.Exec(ctx, "SELECT FROM lockstore_metadata WHERE id = 'a' FOR UPDATE")
	require.NoError(t, err)
	return &blocked{T: t, d: d, store: store, host: host}
}

// merge starts a merge and returns when it waits.
func (b *blocked) merge(ctx context.Context, first bool, key string) <-chan error {
	b.Helper()
	done := make(chan error, 1)
	watched := newArriving(ctx)
	b.wg.Go(func() {
		_, err := b.store.Merge(watched, "a", raw(`{%q:1}`, key))
		done <- err
	})
	if first {
		waitForRow(b, b.d)
	} else {
		<-watched.arrived
	}
	return done
}

func (b *blocked) unblock() {
	b.Helper()
	require.NoError(b, b.host.Rollback(context.Background()))
}

func (b *blocked) document() metadata.Document {
	b.Helper()
	doc, err := b.store.Get(context.Background(), "a")
	require.NoError(b, err)
	return doc
}

func TestWritersShareACommit(t *testing.T) {
	for name, c := range map[string]struct {
		opts    *metadata.Options
		commits int64
	}{
		"as many as come":       {nil, 3},
		"at most MaxBatch":      {&metadata.Options{MaxBatch: 10}, 12},
		"each by itself":        {&metadata.Options{MaxBatch: 1}, 102},
		"at most MaxBatchBytes": {&metadata.Options{MaxBatchBytes: 1}, 102},
		"without the function":  {&metadata.Options{MergeInGo: true}, 2}, // the first takes along who comes while it waits for the row
		"what fits one answer":  {&metadata.Options{MaxBatchBytes: 30_000}, 5},
	} {
		t.Run(name, func(t *testing.T) {
			eachDriver(t, func(t *testing.T, d *database) {
				b := newBlocked(t, d, c.opts)
				b.merge(t.Context(), true, "first")
				for i := range 100 {
					b.merge(t.Context(), false, fmt.Sprintf("key%03d", i))
				}
				b.unblock()
				b.wg.Wait()
				doc := b.document()
				assert.Equal(t, 100, strings.Count(string(doc.Metadata), `"key`))
				assert.Equal(t, int64(102), doc.Version)
				stats := b.store.Stats()
				assert.Equal(t, c.commits, stats.Commits)
				assert.Equal(t, int64(102), stats.Writes)
			})
		})
	}
}

func TestAnswersOfASharedCommit(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		d.exec(t, `CREATE TABLE plain (id text PRIMARY KEY, metadata jsonb); INSERT INTO plain VALUES ('a', '{"n": 0}')`)
		store := d.migrated(t, &metadata.Options{Table: metadata.Table{Name: "plain"}})
		host, err := d.Pool().Begin(t.Context())
		require.NoError(t, err)
		_, err = host.Exec(t.Context(), "SELECT FROM plain FOR UPDATE")
		require.NoError(t, err)
		patches := []string{`{"n":0}`, `{"n":0}`, `{}`, `{"n":1}`, `{"n":1}`, `{"n":null}`, `{"x":null}`}
		docs := make([]metadata.Document, len(patches))
		var wg sync.WaitGroup
		for i, patch := range patches {
			watched := newArriving(t.Context())
			wg.Go(func() {
				var err error
				docs[i], err = store.Merge(watched, "a", raw("%s", patch))
				assert.NoError(t, err)
			})
			if i == 0 {
				waitForRow(t, d)
			} else {
				<-watched.arrived
			}
		}
		require.NoError(t, host.Rollback(t.Context()))
		wg.Wait()
		for i, want := range []string{`{"n": 0}`, `{"n": 0}`, `{"n": 0}`, `{"n": 1}`, `{"n": 1}`, `{}`, `{}`} {
			assert.Equal(t, metadata.Document{ID: "a", Metadata: raw("%s", want)}, docs[i], "patch %d", i)
			clear(docs[i].Metadata) // each is its caller's own
		}
	})
}

func TestWaitingCallerWithdraws(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		b := newBlocked(t, d, nil)
		first := b.merge(t.Context(), true, "first")
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("why")
		second := b.merge(ctx, false, "second")
		third := b.merge(t.Context(), false, "third")
		cancel(why)
		err := <-second
		assert.ErrorIs(t, err, why)
		assert.ErrorIs(t, err, context.Canceled)
		assert.NotErrorIs(t, err, metadata.ErrUnknownOutcome)
		b.unblock()
		assert.NoError(t, <-first)
		assert.NoError(t, <-third)
		assert.Equal(t, `{"zero": 0, "first": 1, "third": 1}`, string(b.document().Metadata))
	})
}

func TestTakenCallerLearnsItsOutcome(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		b := newBlocked(t, d, nil)
		ctx, cancel := context.WithCancel(t.Context())
		first := b.merge(ctx, true, "first")
		cancel()
		select {
		case err := <-first:
			t.Fatalf("it did not wait for its outcome: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
		b.unblock()
		require.NoError(t, <-first)
		assert.Equal(t, `{"zero": 0, "first": 1}`, string(b.document().Metadata))
		assert.NoError(t, d.Pool().Ping(t.Context()))
	})
}

func TestCloseEndsTheWaiting(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		b := newBlocked(t, d, nil)
		first := b.merge(t.Context(), true, "first")
		second := b.merge(t.Context(), false, "second")
		held, err := newLocker(t, d.Pool()).Lock(t.Context(), b.store.Key("b"))
		require.NoError(t, err)
		defer held.Unlock()
		polling := make(chan error, 1)
		go func() {
			_, err := b.store.Merge(context.Background(), "b", raw(`{}`))
			polling <- err
		}()
		closed := make(chan struct{})
		go func() { b.store.Close(); close(closed) }()
		assert.ErrorIs(t, <-second, metadata.ErrClosed)
		assert.ErrorIs(t, <-polling, metadata.ErrClosed)
		select {
		case <-closed:
			t.Fatal("Close did not wait for the write on its way")
		default:
		}
		b.unblock()
		assert.NoError(t, <-first)
		<-closed
		var text string
		require.NoError(t, d.Pool().QueryRow(t.Context(), "SELECT metadata::text FROM lockstore_metadata WHERE id = 'a'").Scan(&text))
		assert.Equal(t, `{"zero": 0, "first": 1}`, text)
	})
}

func TestNothingIsLeftOfAHotDocument(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		store := d.migrated(t, nil)
		_, err := store.Merge(t.Context(), "a", raw(`{}`))
		require.NoError(t, err)
		before := runtime.NumGoroutine()
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				for range 5 {
					_, err := store.Merge(t.Context(), fmt.Sprint("a", i%3), raw(`{"w%d":1}`, i))
					assert.NoError(t, err)
				}
			})
		}
		wg.Wait()
		assert.Eventually(t, func() bool {
			return runtime.NumGoroutine() <= before+8 // those of the pools' connections
		}, 20*time.Second, time.Millisecond)
		assert.Empty(t, d.Locks(t))
	})
}
