package metadata_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/backoff"
	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
)

// costlyPatch is one that shares no statement.
func costlyPatch(n int) json.RawMessage {
	return raw(`{"n":%d,"a":{"b":{"c":{"d":{"e":{}}}}}}`, n)
}

// Documents that MergeMany finds in somebody's hands are waited for together: one that
// is held for good keeps none of the others waiting, whatever way each has to be merged.
func TestMergeManyWaitsForAllAtOnce(t *testing.T) {
	t.Parallel() // it mostly waits
	plain := func(n int) json.RawMessage { return raw(`{"n":%d}`, n) }
	for name, c := range map[string]struct {
		opts  metadata.Options
		patch func(int) json.RawMessage
		setup string
	}{
		"plain":   {patch: plain, setup: twenty},
		"costly":  {patch: costlyPatch, setup: twenty},
		"large":   {patch: plain, setup: strings.Replace(twenty, "'{}'", "jsonb_build_object('large', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 6000) AS i))", 1)},
		"missing": {patch: plain},
		"in Go":   {patch: plain, setup: twenty, opts: metadata.Options{MergeInGo: true}},
	} {
		t.Run(name, func(t *testing.T) {
			eachDriver(t, func(t *testing.T, d *database) {
				store := d.migrated(t, &c.opts)
				if c.setup != "" {
					d.exec(t, c.setup)
				}
				locker := newLocker(t, d.Pool())
				var held []*lock.Held
				for _, id := range []string{"u00", "u01", "u19"} {
					h, err := locker.Lock(t.Context(), store.Key(id))
					require.NoError(t, err)
					held = append(held, h)
				}
				var patches []metadata.Patch
				for n := range 2 {
					for i := range 20 {
						patches = append(patches, metadata.Patch{ID: fmt.Sprintf("u%02d", i), Patch: c.patch(n)})
					}
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				type answer struct {
					results []metadata.Result
					err     error
				}
				done := make(chan answer, 1)
				go func() { results, err := store.MergeMany(ctx, patches); done <- answer{results, err} }()
				waitFor(t, d, "SELECT count(*) = 17 FROM lockstore_metadata WHERE metadata @> '{\"n\": 1}'")
				require.NoError(t, held[2].Unlock())
				waitFor(t, d, "SELECT count(*) = 18 FROM lockstore_metadata WHERE metadata @> '{\"n\": 1}'")
				cancel()
				a := <-done
				for i, r := range a.results {
					if i%20 > 1 {
						require.NoError(t, r.Err)
						assert.Equal(t, int64(i/20+1), r.Document.Version)
						continue
					}
					assert.ErrorIs(t, r.Err, lock.ErrBusy, "%d: version %d", i, r.Document.Version)
					assert.ErrorIs(t, r.Err, context.Canceled, i)
				}
				assert.ErrorContains(t, a.err, "4 of 40")
				for _, h := range held[:2] {
					assert.NoError(t, h.Context().Err())
				}
				stats := store.Stats()
				assert.Equal(t, int64(36), stats.Writes)
				assert.Equal(t, int64(4), stats.Busy)
			})
		})
	}
}

// The patience of a call is that of all it waits for, from its beginning on.
func TestMergeManyGivesUpOnce(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		store := d.migrated(t, &metadata.Options{Backoff: backoff.Limit(backoff.Constant{Base: time.Millisecond}, 3)})
		d.exec(t, twenty)
		locker := newLocker(t, d.Pool())
		held, err := locker.LockAll(t.Context(), store.Key("u03"), store.Key("u04"))
		require.NoError(t, err)
		defer held.Unlock()
		results, err := store.MergeMany(t.Context(), twentyPatches(`{"n":1}`))
		require.ErrorIs(t, err, backoff.ErrExhausted)
		for i, r := range results {
			if i != 3 && i != 4 {
				require.NoError(t, r.Err)
				continue
			}
			var busy *lock.BusyError
			require.ErrorAs(t, r.Err, &busy)
			assert.Equal(t, store.Key(fmt.Sprintf("u%02d", i)), busy.Key)
			assert.GreaterOrEqual(t, busy.Attempts, 3)
		}
		bound, stop := held.Bind(t.Context())
		defer stop()
		_, err = store.MergeMany(bound, []metadata.Patch{{ID: "u03", Patch: raw(`{"n":1}`)}})
		require.NoError(t, err, "under the hold")
	})
}
