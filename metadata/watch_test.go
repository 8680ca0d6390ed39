package metadata_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
)

// observer writes down what it is told.
type observer struct {
	mu               sync.Mutex
	wrote, committed []string
	writes           int
}

func (o *observer) Wrote(_ context.Context, id string, took time.Duration, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.wrote = append(o.wrote, fmt.Sprint(id, " ", took > 0, " ", err))
}

func (o *observer) Committed(_ context.Context, id string, writes int, took time.Duration, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writes += writes
	o.committed = append(o.committed, fmt.Sprint(id, " ", took > 0, " ", err))
}

func TestObserverIsToldOfEveryWrite(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		d.exec(t, guarded)
		ctx, seen := t.Context(), new(observer)
		var log bytes.Buffer
		opts := guardedOptions(false)
		opts.Observer, opts.Logger = seen, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		store := d.migrated(t, opts)
		_, err := store.Merge(ctx, "a", raw(`{"secret":%q}`, canary))
		require.NoError(t, err)
		_, err = store.Merge(ctx, "a", raw(`{"bad":%q}`, canary))
		require.ErrorIs(t, err, metadata.ErrRejected)
		_, err = store.MergeMany(ctx, []metadata.Patch{{ID: "b", Patch: raw(`{"n":%q}`, canary)}, {ID: "c", Patch: raw(`{"n":1}`)}})
		require.NoError(t, err)
		require.NoError(t, store.Delete(ctx, "c"))

		require.Len(t, seen.wrote, 5)
		assert.Equal(t, "a true <nil>", seen.wrote[0])
		assert.Contains(t, seen.wrote[1], "a true metadata: rejected by the database")
		assert.Equal(t, []string{"b true <nil>", "c true <nil>", "c true <nil>"}, seen.wrote[2:])
		assert.Equal(t, 5, seen.writes)
		assert.Equal(t, []string{"b true <nil>", "c true <nil>"}, seen.committed[2:4], "by one transaction")
		assert.NotContains(t, fmt.Sprint(seen.wrote, seen.committed, log.String()), canary)
		stats := store.Stats()
		assert.Equal(t, int64(4), stats.Writes)
		assert.Equal(t, int64(1), stats.Failures)
		assert.Equal(t, int64(1), stats.Rejected)
		assert.Equal(t, int64(2), stats.Largest)
		assert.Positive(t, stats.Bytes)
		assert.Positive(t, stats.WriteTime)
	})
}

// Every call is counted, and told once, also one that is refused before anything is sent.
func TestObserverIsToldOfRefusals(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		seen := new(observer)
		opts := &metadata.Options{Observer: seen, Protect: []string{"system"}}
		store := d.migrated(t, opts)
		memory, err := metadata.NewMemory(nil, opts)
		require.NoError(t, err)
		host, err := d.Pool().Begin(t.Context())
		require.NoError(t, err)
		defer host.Rollback(context.Background())
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		type writes interface {
			metadata.MetadataStore
			Replace(context.Context, string, json.RawMessage) (metadata.Document, error)
			Delete(context.Context, string) error
			Stats() metadata.Stats
		}
		for name, s := range map[string]writes{"Postgres": store, "Memory": memory, "Tx": store.In(host)} {
			ways := map[string]func(ctx context.Context, id, patch string) error{
				"Merge": func(ctx context.Context, id, patch string) error {
					_, err := s.Merge(ctx, id, raw("%s", patch))
					return err
				},
				"Replace": func(ctx context.Context, id, patch string) error {
					_, err := s.Replace(ctx, id, raw("%s", patch))
					return err
				},
				"Update": func(ctx context.Context, id, patch string) error {
					_, err := s.Update(ctx, id, func(metadata.Document) (json.RawMessage, error) { return raw("%s", patch), nil })
					return err
				},
			}
			if name == "Postgres" {
				ways["MergeMany"] = func(ctx context.Context, id, patch string) error {
					_, err := store.MergeMany(ctx, []metadata.Patch{{ID: id, Patch: raw("%s", patch)}})
					return err
				}
			}
			for way, write := range ways {
				for want, err := range map[error]func() error{
					metadata.ErrInvalidPatch: func() error { return write(t.Context(), "a", `{"a":`) },
					metadata.ErrInvalidID:    func() error { return write(t.Context(), "", `{"a":1}`) },
					metadata.ErrProtected:    func() error { return write(t.Context(), "a", `{"system":1}`) },
					context.Canceled:         func() error { return write(ended, "a", `{"a":1}`) },
				} {
					told, before := len(seen.wrote), s.Stats()
					require.ErrorIs(t, err(), want, "%s of %s", way, name)
					assert.Len(t, seen.wrote, told+1, "%s of %s: %v", way, name, want)
					assert.Equal(t, before.Failures+1, s.Stats().Failures, "%s of %s: %v", way, name, want)
				}
			}
			told := len(seen.wrote)
			require.ErrorIs(t, s.Delete(t.Context(), ""), metadata.ErrInvalidID)
			assert.Len(t, seen.wrote, told+1)
		}
	})
}

func TestRowDeletedInMidMerge(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		for _, create := range []bool{true, false} {
			for _, inGo := range []bool{true, false} {
				d.exec(t, guarded)
				opts := guardedOptions(inGo)
				store := d.migrated(t, opts)
				_, err := store.Merge(t.Context(), "a", raw(`{"old":1}`))
				require.NoError(t, err)
				opts.Table.Create = create
				store = d.store(t, opts)
				host, err := d.Pool().Begin(t.Context())
				require.NoError(t, err)
				_, err = host.Exec(t.Context(), "DELETE FROM guarded")
				require.NoError(t, err)
				failed := make(chan error)
				go func() {
					_, err := store.Merge(t.Context(), "a", raw(`{"new":1}`))
					failed <- err
				}()
				waitForRow(t, d)
				require.NoError(t, host.Commit(t.Context()))
				err = <-failed
				if !create {
					assert.ErrorIs(t, err, metadata.ErrNotFound)
					continue
				}
				require.NoError(t, err)
				doc, err := store.Get(t.Context(), "a")
				require.NoError(t, err)
				assert.Equal(t, `{"new": 1}`, string(doc.Metadata))
			}
		}
	})
}
