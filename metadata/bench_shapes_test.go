package metadata_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
	"example.com/lockstore/metadata/internal/jsonb/jsonbtest"
	"example.com/lockstore/pgtest"
)

// BenchmarkShapesInPostgres merges every shape in every way, on sessions that have
// their plans. For each way it reports how much dearer the dearest shape of 1 MiB is
// than the cheapest, and by how much more than the size the cost of one grows from
// 64 KiB on.
func BenchmarkShapesInPostgres(b *testing.B) {
	ctx, db := b.Context(), pgtest.New(b)
	config := db.Pool().Config()
	config.MaxConns = 1
	pool := newPool(b, config)
	open := func(o *metadata.Options) *metadata.Postgres {
		s, err := metadata.NewPostgres(pool, o)
		require.NoError(b, err)
		return s
	}
	s, inGo := open(nil), open(&metadata.Options{MergeInGo: true})
	require.NoError(b, s.Migrate(ctx))
	ways := []struct {
		name  string
		merge func(patch string) error
	}{
		{"Merge", func(patch string) error { _, err := s.Merge(ctx, "a", json.RawMessage(patch)); return err }},
		{"MergeMany", func(patch string) error {
			_, err := s.MergeMany(ctx, []metadata.Patch{{ID: "a", Patch: json.RawMessage(patch)}})
			return err
		}},
		{"In", func(patch string) error {
			tx, err := pool.Begin(ctx)
			require.NoError(b, err)
			defer tx.Rollback(ctx)
			if _, err = s.In(tx).Merge(ctx, "a", json.RawMessage(patch)); err == nil {
				err = tx.Commit(ctx)
			}
			return err
		}},
		{"MergeInGo", func(patch string) error { _, err := inGo.Merge(ctx, "a", json.RawMessage(patch)); return err }},
		{"function", func(patch string) error {
			_, err := pool.Exec(ctx, `UPDATE lockstore_metadata SET metadata = lockstore_merge_patch(metadata, $1::text::jsonb) WHERE id = 'a'`, patch)
			return err
		}},
	}
	for _, way := range ways {
		b.Run(way.name, func(b *testing.B) {
			for range 20 {
				require.NoError(b, way.merge(`{"a":{"b":{"c":null}},"d":1}`))
			}
			cost := func(of jsonbtest.Shape, n int) time.Duration {
				document, patch := of.Of(n)
				best := time.Hour
				for range 3 {
					_, err := s.Replace(ctx, "a", json.RawMessage(document))
					require.NoError(b, err)
					begun := time.Now()
					require.NoError(b, way.merge(patch), of.Name)
					best = min(best, time.Since(begun))
				}
				return best
			}
			for b.Loop() {
				large := map[string]time.Duration{}
				bend, bent := 0.0, ""
				for _, s := range jsonbtest.Shapes {
					large[s.Name] = cost(s, 1<<20)
					if grown := float64(large[s.Name]) / 16 / float64(cost(s, 64<<10)); grown > bend {
						bend, bent = grown, s.Name
					}
				}
				names := make([]string, 0, len(jsonbtest.Shapes))
				for _, s := range jsonbtest.Shapes {
					names = append(names, s.Name)
				}
				slices.SortFunc(names, func(a, b string) int { return int(large[a] - large[b]) })
				for _, name := range append(names[:2:2], names[len(names)-6:]...) {
					b.Logf("%-28s %v", name, large[name].Round(time.Millisecond/10))
				}
				dearest := names[len(names)-1]
				b.ReportMetric(float64(large[dearest])/float64(large[names[0]]), "dearest/cheapest")
				b.ReportMetric(large[dearest].Seconds()*1000, "ms-dearest")
				b.ReportMetric(bend, "growth/size")
				b.Logf("dearest: %s; grows most: %s", dearest, bent)
			}
		})
	}
}
