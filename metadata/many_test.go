package metadata_test

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
)

func TestMergeMany(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		for _, inGo := range []bool{false, true} {
			t.Run(fmt.Sprintf("MergeInGo=%v", inGo), func(t *testing.T) {
				ctx := t.Context()
				d.exec(t, guarded)
				opts := guardedOptions(inGo)
				opts.Protect = []string{"system"}
				store := d.migrated(t, opts)
				var patches []metadata.Patch
				for i := range 1500 {
					patches = append(patches, metadata.Patch{ID: fmt.Sprint("u", i), Patch: raw(`{"n":%d}`, i)})
				}
				results, err := store.MergeMany(ctx, patches)
				require.NoError(t, err)
				require.Len(t, results, 1500)
				for i, r := range results {
					assert.Equal(t, fmt.Sprintf(`{"n": %d}`, i), string(r.Document.Metadata))
					assert.Equal(t, int64(1), r.Document.Version)
				}
				results, err = store.MergeMany(ctx, []metadata.Patch{
					{ID: "u1", Patch: raw(`{"again":1}`)}, {ID: "u0", Patch: raw(`{"n":null}`)}, {ID: "u1", Patch: raw(`{"again":2}`)}, {ID: "u2", Patch: raw(`{}`)},
					{ID: "u3", Patch: raw(`{"bad":%q}`, canary)}, {ID: "", Patch: raw(`{}`)}, {ID: "u4", Patch: raw(`[%q]`, canary)}, {ID: "u5", Patch: raw(`{"system":1}`)}, {ID: "u6", Patch: raw(`{"stamp":1}`)},
				})
				for i, want := range []string{`{"n": 1, "again": 1}`, `{}`, `{"n": 1, "again": 2}`, `{"n": 2}`} {
					require.NoError(t, results[i].Err)
					assert.Equal(t, want, string(results[i].Document.Metadata))
				}
				for i, want := range []error{metadata.ErrRejected, metadata.ErrInvalidID, metadata.ErrInvalidPatch, metadata.ErrProtected} {
					assert.ErrorIs(t, results[i+4].Err, want)
				}
				assert.Equal(t, `{"n": 6, "stamp": 1, "stamped": true}`, string(results[8].Document.Metadata))
				assert.ErrorIs(t, err, metadata.ErrRejected)
				assert.ErrorContains(t, err, "4 of 9")
				assert.NotContains(t, fmt.Sprint(err, results[4].Err, results[6].Err), canary)

				_, err = store.Privileged().MergeMany(ctx, []metadata.Patch{{ID: "u5", Patch: raw(`{"system":1}`)}})
				assert.NoError(t, err)
				_, err = store.IfVersion(7).MergeMany(ctx, []metadata.Patch{{ID: "u5", Patch: raw(`{}`)}})
				assert.ErrorIs(t, err, metadata.ErrConflict)
				results, err = store.MergeMany(ctx, nil)
				assert.NoError(t, err)
				assert.Empty(t, results)
			})
		}
	})
}

// TestMergeManyLosesNothing has both ways of writing meet on the same rows.
func TestMergeManyLosesNothing(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		ctx, store := t.Context(), d.migrated(t, nil)
		const ids, rounds = 5, 40
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				for r := range rounds {
					var patches []metadata.Patch
					for i := range ids {
						patches = append(patches, metadata.Patch{ID: fmt.Sprint("u", (i+w)%ids), Patch: raw(`{"many-%d-%d":1}`, w, r)})
					}
					_, err := store.MergeMany(ctx, patches)
					assert.NoError(t, err)
				}
			})
			wg.Go(func() {
				for r := range rounds {
					_, err := store.Merge(ctx, fmt.Sprint("u", r%ids), raw(`{"one-%d-%d":1}`, w, r))
					assert.NoError(t, err)
				}
			})
		}
		wg.Wait()
		total, versions := 0, int64(0)
		docs, err := find(ctx, store, `{}`, nil)
		require.NoError(t, err)
		for _, doc := range docs {
			var keys map[string]int
			require.NoError(t, json.Unmarshal(doc.Metadata, &keys))
			total += len(keys)
			versions += doc.Version
		}
		assert.Equal(t, 4*rounds*ids+4*rounds, total)
		assert.Equal(t, int64(total), versions)
	})
}

// twenty makes documents u00 to u19.
const twenty = `INSERT INTO lockstore_metadata (id, metadata) SELECT 'u' || to_char(n, 'FM00'), '{}' FROM generate_series(0, 19) AS n`

// twentyPatches are the same patch for each of them.
func twentyPatches(format string, args ...any) (patches []metadata.Patch) {
	for i := range 20 {
		patches = append(patches, metadata.Patch{ID: fmt.Sprintf("u%02d", i), Patch: raw(format, args...)})
	}
	return patches
}

// mergeTwenty starts a MergeMany of two for each.
func mergeTwenty(t *testing.T, store *metadata.Postgres) (wait func()) {
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := store.MergeMany(t.Context(), append(twentyPatches(`{"new":1}`), twentyPatches(`{"new":2}`)...))
		assert.NoError(t, err)
	})
	return wg.Wait
}

// A host's own statements do not ask for a document's lock: what they write while
// MergeMany waits for their rows is kept, and so is what it merges.
func TestMergeManyKeepsWhatAHostWrites(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		ctx, store := t.Context(), d.migrated(t, nil)
		d.exec(t, twenty)
		const rounds = 50
		var wg sync.WaitGroup
		for w := range 2 {
			wg.Go(func() {
				for r := range 20 * rounds {
					_, err := d.Pool().Exec(ctx, "UPDATE lockstore_metadata SET metadata = metadata || jsonb_build_object($2::text, 1) WHERE id = $1",
						fmt.Sprintf("u%02d", r%20), fmt.Sprintf("host-%d-%d", w, r/20))
					assert.NoError(t, err)
				}
			})
			wg.Go(func() {
				for r := range rounds {
					_, err := store.MergeMany(ctx, twentyPatches(`{"many-%d-%d":1}`, w, r))
					assert.NoError(t, err)
				}
			})
		}
		wg.Wait()
		docs, err := find(ctx, store, `{}`, nil)
		require.NoError(t, err)
		require.Len(t, docs, 20)
		for _, doc := range docs {
			var keys map[string]int
			require.NoError(t, json.Unmarshal(doc.Metadata, &keys))
			assert.Equal(t, 4*rounds, len(keys))
			assert.Equal(t, int64(2*rounds), doc.Version)
		}
	})
}

// A document whose row or lock is in somebody's hands holds up the others no
// longer than it takes to find that out.
func TestMergeManyOfALockedDocument(t *testing.T) {
	for name, take := range map[string]string{
		"row":  "SELECT FROM lockstore_metadata WHERE id = 'u05' FOR UPDATE",
		"lock": "SELECT pg_advisory_xact_lock($1)",
	} {
		t.Run(name, func(t *testing.T) {
			eachDriver(t, func(t *testing.T, d *database) {
				store := d.migrated(t, nil)
				d.exec(t, twenty)
				host, err := d.Pool().Begin(t.Context())
				require.NoError(t, err)
				var args []any
				if name == "lock" {
					args = append(args, store.Key("u05").Int64())
				}
				_, err = host.Exec(t.Context(), take, args...)
				require.NoError(t, err)
				wait := mergeTwenty(t, store)
				waitFor(t, d, "SELECT count(*) = 19 FROM lockstore_metadata WHERE metadata = '{\"new\": 2}'")
				require.NoError(t, host.Rollback(t.Context()))
				wait()
				waitFor(t, d, "SELECT count(*) = 20 FROM lockstore_metadata WHERE metadata = '{\"new\": 2}' AND version = 2")
			})
		})
	}
}

// A host whose transaction locks rows in an order of its own is not the victim of
// a deadlock.
func TestMergeManyDoesNotDeadlockAHost(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		store := d.migrated(t, nil)
		d.exec(t, twenty)
		host, err := d.Pool().Begin(t.Context())
		require.NoError(t, err)
		_, err = host.Exec(t.Context(), "SET LOCAL deadlock_timeout = '500ms'") // finds it before MergeMany's session would
		require.NoError(t, err)
		const touch = "UPDATE lockstore_metadata SET metadata = metadata || '{\"host\": 1}' WHERE id = $1"
		_, err = host.Exec(t.Context(), touch, "u10")
		require.NoError(t, err)
		wait := mergeTwenty(t, store)
		waitFor(t, d, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')
			OR EXISTS (SELECT FROM lockstore_metadata WHERE metadata ? 'new')`)
		_, err = host.Exec(t.Context(), touch, "u05")
		require.NoError(t, err)
		require.NoError(t, host.Commit(t.Context()))
		wait()
		waitFor(t, d, `SELECT count(*) = 20 AND count(*) FILTER (WHERE metadata ? 'host') = 2
			FROM lockstore_metadata WHERE metadata @> '{"new": 2}' AND version = 2`)
	})
}
