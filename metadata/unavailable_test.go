package metadata_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// operations are all that ask the server.
var operations = map[string]func(context.Context, *metadata.Postgres) error{
	"Get": func(ctx context.Context, s *metadata.Postgres) error { _, err := s.Get(ctx, "a"); return err },
	"Merge": func(ctx context.Context, s *metadata.Postgres) error {
		_, err := s.Merge(ctx, "a", raw(`{"n":1}`))
		return err
	},
	"Update": func(ctx context.Context, s *metadata.Postgres) error {
		_, err := s.Update(ctx, "a", func(metadata.Document) (json.RawMessage, error) { return raw(`{"n":2}`), nil })
		return err
	},
	"Replace": func(ctx context.Context, s *metadata.Postgres) error {
		_, err := s.Replace(ctx, "a", raw(`{}`))
		return err
	},
	"Delete":  func(ctx context.Context, s *metadata.Postgres) error { return s.Delete(ctx, "b") },
	"GetMany": func(ctx context.Context, s *metadata.Postgres) error { _, err := s.GetMany(ctx, "a"); return err },
	"MergeMany": func(ctx context.Context, s *metadata.Postgres) error {
		results, err := s.MergeMany(ctx, []metadata.Patch{{ID: "a", Patch: raw(`{"n":1}`)}, {ID: "c", Patch: costlyPatch(1)}})
		for _, r := range results {
			if r.Err == nil && err != nil || r.Err != nil && err == nil {
				panic("results and error differ")
			}
		}
		return err
	},
	"Find":    func(ctx context.Context, s *metadata.Postgres) error { _, err := find(ctx, s, "", nil); return err },
	"Migrate": func(ctx context.Context, s *metadata.Postgres) error { return s.Migrate(ctx) },
}

// eachPooled runs a test over both drivers with a pool of few connections through a proxy.
func eachPooled(t *testing.T, test func(t *testing.T, store *metadata.Postgres, proxy *pgtest.Proxy)) {
	for _, driver := range []string{"pgx", "sql"} {
		t.Run(driver, func(t *testing.T) {
			proxy := pgtest.NewProxy(t, pgtest.New(t))
			store := throughProxy(t, proxy, driver, nil)
			require.NoError(t, store.Migrate(t.Context()))
			_, err := store.MergeMany(t.Context(), []metadata.Patch{{ID: "a", Patch: raw(`{}`)}, {ID: "b", Patch: raw(`{}`)}})
			require.NoError(t, err)
			test(t, store, proxy)
		})
	}
}

// A host can tell an outage (503) from a fault (500), in every operation, and soon.
func TestUnavailable(t *testing.T) {
	eachPooled(t, func(t *testing.T, store *metadata.Postgres, proxy *pgtest.Proxy) {
		proxy.Cut()
		for name, operate := range operations {
			start := time.Now()
			err := operate(t.Context(), store)
			assert.ErrorIs(t, err, metadata.ErrUnavailable, name)
			assert.NotErrorIs(t, err, metadata.ErrUnknownOutcome, name)
			assert.Less(t, time.Since(start), 5*time.Second, name)
		}
		proxy.Restore()
		for name, operate := range operations {
			assert.NoError(t, operate(t.Context(), store), name)
		}
	})
}

// What is idle in the pool when the server restarts fails no call of any operation.
func TestStaleConnections(t *testing.T) {
	eachPooled(t, func(t *testing.T, store *metadata.Postgres, proxy *pgtest.Proxy) {
		for name, operate := range operations {
			if name == "Delete" {
				continue // of what there is no more
			}
			all := func() {
				var calls sync.WaitGroup
				for range 40 {
					calls.Go(func() { assert.NoError(t, operate(t.Context(), store), name) })
				}
				calls.Wait()
			}
			all()
			proxy.Cut()
			proxy.Restore()
			all()
		}
	})
}

// A host's switch can tell what is no JSON from what may not be stored, and Find's
// argument from a patch.
func TestMalformedAndRefused(t *testing.T) {
	store := overPgx(t).store(t, &metadata.Options{MaxPatchBytes: 100})
	for text, malformed := range map[string]bool{
		"": true, "{": true, `{"a":1,}`: true, `{"a":tru}`: true, `{} {}`: true, "{\"a\":\"\x01\"}": true, "{\"a\":\"\xff\"}": true, `{"a":"\x"}`: true, `{"a":01}`: true, `nul`: true,
		`[]`: false, `{"a":1,"a":2}`: false, `{"a":"\u0000"}`: false, `{"a":"\ud800"}`: false, `{"a":1e999999}`: false,
	} {
		_, err := store.Merge(t.Context(), "a", json.RawMessage(text))
		assert.ErrorIs(t, err, metadata.ErrInvalidPatch, text)
		assert.Equal(t, malformed, errors.Is(err, metadata.ErrMalformed), "%s: %v", text, err)
		assert.NotErrorIs(t, err, metadata.ErrTooLarge, text)
	}
	_, err := find(t.Context(), store, `{`, nil)
	assert.ErrorIs(t, err, metadata.ErrInvalidFilter)
	assert.ErrorContains(t, err, "invalid filter")
}

// A context ends while its write, whose connection was stale, asks for another one. The
// error has the cause.
func TestEndOfAContextWhileConnectingAgainHasItsCause(t *testing.T) {
	db := pgtest.New(t)
	config, err := pgxpool.ParseConfig(db.URL())
	require.NoError(t, err)
	config.MaxConns = 1
	var connects atomic.Pointer[func()]
	config.BeforeConnect = func(context.Context, *pgx.ConnConfig) error {
		if f := connects.Swap(nil); f != nil {
			(*f)()
		}
		return nil
	}
	pool := newPool(t, config)
	store, err := metadata.NewPostgres(pool, nil)
	require.NoError(t, err)
	require.NoError(t, store.Migrate(t.Context()))
	before, err := store.Merge(t.Context(), "a", raw(`{"n":0}`))
	require.NoError(t, err)
	for name, write := range map[string]func(context.Context) error{
		"Merge":  func(ctx context.Context) error { _, err := store.Merge(ctx, "a", raw(`{"n":1}`)); return err },
		"Delete": func(ctx context.Context) error { return store.Delete(ctx, "a") },
	} {
		t.Run(name, func(t *testing.T) {
			var pid uint32
			require.NoError(t, pool.QueryRow(t.Context(), "SELECT pg_backend_pid()").Scan(&pid))
			require.NoError(t, db.Terminate(pid))
			ctx, cancel := context.WithCancelCause(t.Context())
			cause := errors.New("the reason")
			end := func() { cancel(cause) }
			connects.Store(&end)
			err := write(ctx)
			assert.ErrorIs(t, err, cause)
			assert.ErrorIs(t, err, context.Canceled)
			doc, err := store.Get(t.Context(), "a")
			require.NoError(t, err)
			assert.Equal(t, before, doc)
		})
	}
}
