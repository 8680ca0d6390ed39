package metadata_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
	"example.com/lockstore/metadata/internal/jsonb/jsonbtest"
)

// costly are patches that are merged by themselves, and nextToDear those that are as much
// as others share.
var (
	costly = map[string]string{
		"bytes":   jsonbtest.One(64<<10, "x"),
		"objects": many(65, `{"x":1}`),
		"nulls":   many(65, "null"),
		"levels":  jsonbtest.Within(6, `1`),
	}
	nextToDear = map[string]string{
		"bytes":   jsonbtest.One(64<<10-1, "x"),
		"objects": many(64, `{"x":1}`),
		"nulls":   many(64, "null"),
		"levels":  jsonbtest.Within(5, `1`),
		"arrays":  jsonbtest.Array(30_000, `{"a":null}`),
	}
)

// many are so many members.
func many(n int, value string) string {
	return jsonbtest.Members(n*(len(`"k000000":,`)+len(value)), "k", value)
}

// What is costly is not left to the merge function.
func TestCostlyPatchesAreMergedInGo(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		store := d.migrated(t, nil)
		_, err := store.Merge(t.Context(), "a", raw(`{"k000000":1}`))
		require.NoError(t, err)
		d.exec(t, `DROP FUNCTION lockstore_merge_patch(jsonb, jsonb)`)
		for name, patch := range costly {
			_, err := store.Merge(t.Context(), "a", raw("%s", patch))
			assert.NoError(t, err, name)
		}
		for name, patch := range nextToDear {
			_, err := store.Merge(t.Context(), "a", raw("%s", patch))
			assert.ErrorIs(t, err, metadata.ErrSchema, name)
		}
	})
}

// sharers are the documents that the transaction stored that stored id.
func sharers(t require.TestingT, d *database, id string) (ids []string) {
	rows, err := d.Pool().Query(context.Background(),
		"SELECT id FROM docs WHERE xmin = (SELECT xmin FROM docs WHERE id = $1) ORDER BY id", id)
	require.NoError(t, err)
	ids, err = pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return ids
}

// What is costly shares no commit with patches for other documents.
func TestCostlyPatchesGoAlone(t *testing.T) {
	for name, patch := range costly {
		t.Run(name, func(t *testing.T) {
			eachCrowded(t, nil, func(d *database, c *crowded) {
				var calls []pending
				for i := range 20 {
					p := `{"new":1}`
					if i == 7 {
						p = patch
					}
					calls = append(calls, lineUpOrEnd(t, func(ctx context.Context) (metadata.Document, error) {
						return c.store.Merge(ctx, fmt.Sprintf("d%02d", i), raw("%s", p))
					}))
				}
				c.unblock()
				for i, p := range calls {
					assert.NoError(c, p.wait(t, fmt.Sprint("call ", i)).err)
				}
				assert.Equal(c, 19, c.count(d))
				assert.Equal(c, []string{"d07"}, sharers(c, d, "d07"))
				assert.Contains(c, sharers(c, d, "d19"), "d18")
			})
		})
	}
}

// MergeMany merges what is costly after the rest, but each document's patches in their order.
func TestManyWithCostlyPatches(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		store := d.migrated(t, nil)
		for round := range 2 { // of documents that there are not, and of those
			for name, patch := range costly {
				var patches []metadata.Patch
				add := func(id, patch string) {
					patches = append(patches, metadata.Patch{ID: name + id, Patch: raw("%s", patch)})
				}
				for i := range 10 {
					add(fmt.Sprint(i), fmt.Sprintf(`{"first":%d,"k000000":1,"a":1}`, round))
				}
				add("3", patch)
				for i := range 10 {
					add(fmt.Sprint(i), `{"k000000":"last","first":null}`)
				}
				add("4", patch)
				before := store.Stats()
				results, err := store.MergeMany(t.Context(), patches)
				require.NoError(t, err)
				for _, inOrder := range [][]int{{3, 10, 14}, {4, 15, 21}, {5, 16}} {
					version := results[inOrder[0]].Document.Version
					for n, i := range inOrder {
						assert.Equal(t, version+int64(n), results[i].Document.Version, "%s, %d", name, i)
					}
				}
				assert.Equal(t, int64(22), store.Stats().Writes-before.Writes, name)
			}
		}
	})
}

// Much that waits behind a costly patch of the same document, or with it, is neither late
// nor unknown for that.
func TestCostlyPatchesOfOneDocumentHarmNobody(t *testing.T) {
	for _, s := range jsonbtest.Shapes {
		if !slices.Contains([]string{"nested", "nulls", "array of numbers, its last"}, s.Name) {
			continue
		}
		document, patch := s.Of(256 << 10)
		t.Run(s.Name, func(t *testing.T) {
			eachDriver(t, func(t *testing.T, d *database) {
				b := newBlocked(t, d, &metadata.Options{Timeout: jsonbtest.Slowdown * 4 * time.Second})
				_, err := b.store.Merge(t.Context(), "b", raw("%s", document))
				require.NoError(t, err)
				calls := []pending{begin(func() (metadata.Document, error) { return merging(b.store, `{"k0":0}`)(t.Context()) })}
				waitForRow(t, d)
				for i := 1; i < 20; i++ {
					p := fmt.Sprintf(`{"k%d":%d}`, i, i)
					if i == 5 || i == 6 {
						p = []string{document, patch}[i-5]
					}
					calls = append(calls, lineUpOrEnd(t, merging(b.store, p)))
				}
				b.unblock()
				for i, p := range calls {
					a := p.wait(t, fmt.Sprint("call ", i))
					assert.NoError(t, a.err, "%s: call %d", s.Name, i)
				}
				assert.LessOrEqual(t, b.store.Stats().Commits, int64(8))
			})
		})
	}
}
