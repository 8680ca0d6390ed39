package metadata_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// floorSQL is the least that a merge can be: no lock, no versions to answer
// with, nulls stored, one level only. Each benchmark runs it on the same pool,
// in turns with the store, and reports the store's figure, the floor's, and
// how many times better the store is.
const floorSQL = `UPDATE lockstore_metadata SET metadata = metadata || $2 WHERE id = $1 RETURNING metadata`

type benchmark struct {
	*testing.B
	url   string
	pool  *pgxpool.Pool
	store *metadata.Postgres
	n     atomic.Int64 // makes every patch another one
}

func newBenchmark(b *testing.B) *benchmark {
	db := pgtest.New(b, pgtest.Durable())
	config := db.Pool().Config()
	config.MaxConns = 16
	pool := newPool(b, config)
	store, err := metadata.NewPostgres(pool, nil)
	require.NoError(b, err)
	b.Cleanup(store.Close)
	require.NoError(b, store.Migrate(b.Context()))
	b.ReportAllocs()
	return &benchmark{B: b, url: db.URL(), pool: pool, store: store}
}

// documents fills n documents of about so many bytes, among others: a table of
// one row is read without its index, and slower the more often that was updated.
func (b *benchmark) documents(n, bytes int) []string {
	ids := make([]string, max(n, 1000))
	for i := range ids {
		ids[i] = fmt.Sprintf("user-%d", i)
	}
	_, err := b.pool.Exec(b.Context(), `
		INSERT INTO lockstore_metadata (id, metadata) SELECT id, $2::jsonb FROM unnest($1::text[]) AS id
		ON CONFLICT (id) DO UPDATE SET metadata = excluded.metadata`, ids, document(bytes))
	require.NoError(b, err)
	_, err = b.pool.Exec(b.Context(), "VACUUM ANALYZE lockstore_metadata")
	require.NoError(b, err)
	return ids[:n]
}

// document is JSON of about so many bytes: text, numbers and an object.
func document(bytes int) string {
	var s strings.Builder
	s.WriteString(`{"plan":"pro","seats":12,"address":{"city":"Lisbon","zip":"1000-001"}`)
	for i := 0; s.Len() < bytes-30; i++ {
		fmt.Fprintf(&s, `,"attribute%03d":"value number %d"`, i, i*7919)
	}
	return s.String() + "}"
}

func (b *benchmark) patch() string { return fmt.Sprintf(`{"seen":%d,"by":"worker"}`, b.n.Add(1)) }

func (b *benchmark) merge(id string) {
	if _, err := b.store.Merge(b.Context(), id, json.RawMessage(b.patch())); err != nil {
		b.Error(err)
	}
}

func (b *benchmark) floor(id string) {
	var doc []byte
	if err := b.pool.QueryRow(b.Context(), floorSQL, id, b.patch()).Scan(&doc); err != nil {
		b.Error(err)
	}
}

// burst has writers write ids, each the next, total times together, and
// returns what each took, sorted, and what all of them took.
func burst(writers, total int, ids []string, write func(id string)) (each []time.Duration, all time.Duration) {
	each = make([]time.Duration, total)
	var next atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for range writers {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(total); i = next.Add(1) - 1 {
				began := time.Now()
				write(ids[int(i)%len(ids)])
				each[i] = time.Since(began)
			}
		})
	}
	wg.Wait()
	all = time.Since(start)
	slices.Sort(each)
	return each, all
}

func at(sorted []time.Duration, quantile float64) time.Duration {
	return sorted[int(quantile*float64(len(sorted)-1))]
}

func BenchmarkLoneMerge(b *testing.B) {
	for _, size := range []int{200, 2000, 20000} {
		b.Run(fmt.Sprintf("document=%dB", size), func(b *testing.B) {
			bench := newBenchmark(b)
			id := bench.documents(1, size)[0]
			var merge, floor []time.Duration
			for b.Loop() {
				start := time.Now()
				bench.floor(id)
				middle := time.Now()
				bench.merge(id)
				floor, merge = append(floor, middle.Sub(start)), append(merge, time.Since(middle))
			}
			slices.Sort(merge)
			slices.Sort(floor)
			micros := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
			b.ReportMetric(micros(at(merge, 0.5)), "p50-µs")
			b.ReportMetric(micros(at(floor, 0.5)), "floor-p50-µs")
			b.ReportMetric(micros(at(merge, 0.5))/micros(at(floor, 0.5)), "×floor")
		})
	}
}

// rounds compares bursts of the store and of the floor, in turns.
func (b *benchmark) rounds(writers, floorTotal, mergeTotal int, ids []string) {
	var merges, floors time.Duration
	var mergeP99, floorP99 []time.Duration
	n := 0
	for b.Loop() {
		each, all := burst(writers, floorTotal, ids, b.floor)
		floors += all
		floorP99 = append(floorP99, at(each, 0.99))
		each, all = burst(writers, mergeTotal, ids, b.merge)
		merges += all
		mergeP99 = append(mergeP99, at(each, 0.99))
		n++
	}
	slices.Sort(mergeP99)
	slices.Sort(floorP99)
	mergeRate := float64(n*mergeTotal) / merges.Seconds()
	floorRate := float64(n*floorTotal) / floors.Seconds()
	b.ReportMetric(mergeRate, "merges/s")
	b.ReportMetric(floorRate, "floor/s")
	b.ReportMetric(mergeRate/floorRate, "×floor")
	b.ReportMetric(at(mergeP99, 0.5).Seconds()*1000, "p99-ms")
	b.ReportMetric(at(floorP99, 0.5).Seconds()*1000, "floor-p99-ms")
	b.ReportMetric(0, "ns/op") // a round, of no interest
}

func BenchmarkOneDocument(b *testing.B) {
	for _, writers := range []int{16, 64, 256, 1024} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			bench := newBenchmark(b)
			bench.rounds(writers, max(1000, writers), 20*max(1000, writers), bench.documents(1, 1500))
		})
	}
}

func BenchmarkManyDocuments(b *testing.B) {
	bench := newBenchmark(b)
	bench.rounds(64, 5000, 5000, bench.documents(10_000, 1500))
}

// BenchmarkMergeMany compares with as many single merges, one after another. The
// first rounds do not count: the server plans a statement anew for its first five
// executions (PostgreSQL documentation, PREPARE), which the single merges have
// behind them at once, and logs all of a page when it is first written, which
// whoever comes second is spared.
func BenchmarkMergeMany(b *testing.B) {
	bench := newBenchmark(b)
	ids := bench.documents(1000, 1500)
	patches := make([]metadata.Patch, len(ids))
	round := func() (many, single time.Duration) {
		for i, id := range ids {
			patches[i] = metadata.Patch{ID: id, Patch: json.RawMessage(bench.patch())}
		}
		start := time.Now()
		if _, err := bench.store.MergeMany(b.Context(), patches); err != nil {
			b.Fatal(err)
		}
		middle := time.Now()
		for _, id := range ids {
			bench.merge(id)
		}
		return middle.Sub(start), time.Since(middle)
	}
	for range 6 {
		round()
	}
	var many, single []time.Duration
	for b.Loop() {
		for range 15 { // few rounds would say little
			m, s := round()
			many, single = append(many, m), append(single, s)
		}
	}
	slices.Sort(many)
	slices.Sort(single)
	millis := func(sorted []time.Duration) float64 { return at(sorted, 0.5).Seconds() * 1000 }
	b.ReportMetric(millis(many), "many-p50-ms")
	b.ReportMetric(millis(single), "singles-p50-ms")
	b.ReportMetric(millis(single)/millis(many), "×singles")
	b.ReportMetric(0, "ns/op")
}
