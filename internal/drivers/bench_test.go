package drivers

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// BenchmarkMerge compares drivers: one writer, and 64 writers of one document.
func BenchmarkMerge(b *testing.B) {
	for _, name := range []string{"pgx", "lib/pq", "lib/pq, binary", "otelsql over pgx"} {
		db := pgtest.New(b)
		open := drivers[name]
		if open == nil {
			open = func(url string) (*sql.DB, error) { return sql.Open("pgx", url) }
		}
		host, err := open(db.URL())
		require.NoError(b, err)
		host.SetMaxOpenConns(8)
		host.SetMaxIdleConns(8)
		store, err := metadata.NewPostgres(host, nil)
		require.NoError(b, err)
		require.NoError(b, store.Migrate(b.Context()))
		var n atomic.Int64
		merge := func() {
			_, err := store.Merge(b.Context(), "a", json.RawMessage(fmt.Sprintf(`{"n":%d}`, n.Add(1))))
			require.NoError(b, err)
		}
		b.Run(name+"/alone", func(b *testing.B) {
			for b.Loop() {
				merge()
			}
		})
		b.Run(name+"/64 writers", func(b *testing.B) {
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					merge()
				}
			})
		})
		store.Close()
		require.NoError(b, host.Close())
	}
}
