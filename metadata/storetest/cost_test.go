package storetest_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
	"example.com/lockstore/metadata/internal/jsonb/jsonbtest"
	"example.com/lockstore/pgtest"
)

// eachDriver runs a test on a database and a store of its own over each driver.
func eachDriver(t *testing.T, test func(*testing.T, *pgtest.DB, *metadata.Postgres)) {
	for _, driver := range []string{"pgx", "sqlx", "any"} {
		t.Run(driver, func(t *testing.T) {
			db := pgtest.New(t)
			store, err := drivers(t, db)[driver](nil)
			require.NoError(t, err)
			t.Cleanup(store.Close)
			require.NoError(t, store.Migrate(t.Context()))
			test(t, db, store)
		})
	}
}

// What costs the server more than its size allows runs into the time limit of a
// statement here: by factors, not by a slow machine.
func TestNoShapeKeepsTheServerBusy(t *testing.T) {
	eachDriver(t, func(t *testing.T, _ *pgtest.DB, store *metadata.Postgres) {
		ctx := t.Context()
		for range 10 { // until the server has its plans for good
			_, err := store.Merge(ctx, "warm", json.RawMessage(`{"a":{"b":{"c":null}}}`))
			require.NoError(t, err)
		}
		size := 256 << 10
		if testing.Short() || jsonbtest.Slowdown > 1 {
			size = 64 << 10
		}
		for _, s := range jsonbtest.Shapes {
			document, patch := s.Of(size)
			want := mergedInMemory(t, document, patch)
			for _, way := range []string{"Merge", "MergeMany"} {
				_, err := store.Replace(ctx, "a", json.RawMessage(document))
				require.NoError(t, err, s.Name)
				var got metadata.Document
				if way == "Merge" {
					got, err = store.Merge(ctx, "a", json.RawMessage(patch))
				} else {
					var all []metadata.Result
					all, err = store.MergeMany(ctx, []metadata.Patch{{ID: "a", Patch: json.RawMessage(patch)}})
					got = all[0].Document
				}
				require.NoError(t, err, "%s: %s", way, s.Name)
				assert.True(t, want == string(got.Metadata), "%s: %s", way, s.Name)
			}
		}
	})
}

// A patch of a few bytes can be dear by the document that it goes into.
func TestSmallPatchesOfLargeDocuments(t *testing.T) {
	eachDriver(t, func(t *testing.T, _ *pgtest.DB, store *metadata.Postgres) {
		ctx := t.Context()
		for name, c := range map[string]struct{ document, patch string }{
			"nested": {jsonbtest.Within(4, jsonbtest.Members(900<<10, "k", "1")), jsonbtest.Within(4, `{"k000001":null}`)},
			"twice":  {`{"a":` + jsonbtest.Members(400<<10, "k", "1") + `,"b":` + jsonbtest.Members(400<<10, "k", "1") + `}`, `{"a":{"k000001":{}},"b":{"k000002":null}}`},
			"array":  {`{"a":` + jsonbtest.Within(3, jsonbtest.Members(900<<10, "k", "1")) + `,"t":["a"]}`, `{"t":["a"]}`},
			"same":   {jsonbtest.Members(900<<10, "k", `{"x":1}`), `{"k000007":{"x":1}}`},
		} {
			want := mergedInMemory(t, c.document, c.patch)
			for _, id := range []string{"a", "b"} {
				_, err := store.Replace(ctx, id, json.RawMessage(c.document))
				require.NoError(t, err)
			}
			one, err := store.Merge(ctx, "a", json.RawMessage(c.patch))
			require.NoError(t, err, name)
			many, err := store.MergeMany(ctx, []metadata.Patch{{ID: "b", Patch: json.RawMessage(c.patch)}, {ID: "new " + name, Patch: json.RawMessage(c.patch)}})
			require.NoError(t, err, name)
			assert.True(t, want == string(one.Metadata), name)
			assert.True(t, want == string(many[0].Document.Metadata), name)
			assert.Equal(t, one.Version, many[0].Document.Version, name)
		}
	})
}

// Documents that share a statement are some MB together.
func TestManyLargeDocumentsShareLittle(t *testing.T) {
	eachDriver(t, func(t *testing.T, db *pgtest.DB, store *metadata.Postgres) {
		ctx := t.Context()
		_, err := db.Pool().Exec(ctx, `INSERT INTO lockstore_metadata (id, metadata) SELECT 'd' || n, jsonb_build_object('a', repeat('x', 100000)) FROM generate_series(1, 100) AS n`)
		require.NoError(t, err)
		patches := make([]metadata.Patch, 100)
		for i := range patches {
			patches[i] = metadata.Patch{ID: fmt.Sprint("d", i+1), Patch: json.RawMessage(fmt.Sprintf(`{"n":%d}`, i))}
		}
		results, err := store.MergeMany(ctx, patches)
		require.NoError(t, err)
		for i, r := range results {
			assert.Equal(t, int64(1), r.Document.Version)
			assert.Contains(t, string(r.Document.Metadata), fmt.Sprintf(`"n": %d`, i))
		}
		assert.LessOrEqual(t, store.Stats().Largest, int64(64))
	})
}

func mergedInMemory(t *testing.T, document, patch string) string {
	memory, err := metadata.NewMemory(nil, nil)
	require.NoError(t, err)
	_, err = memory.Replace(t.Context(), "a", json.RawMessage(document))
	require.NoError(t, err)
	doc, err := memory.Merge(t.Context(), "a", json.RawMessage(patch))
	require.NoError(t, err)
	return string(doc.Metadata)
}
