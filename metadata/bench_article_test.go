package metadata_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkArticle compares what is acknowledged and kept per second with the
// rule that this store is an answer to: an advisory lock that is taken and
// released through a pool of 8, tried again 7 times after 200 ms doubling to
// 10 s, around a SELECT, a merge in the client, and an UPDATE. A round of it
// takes more than 20 s.
func BenchmarkArticle(b *testing.B) {
	const writers = 256
	bench := newBenchmark(b)
	db, err := sql.Open("pgx", bench.pool.Config().ConnString())
	require.NoError(b, err)
	defer db.Close()
	db.SetMaxOpenConns(8)
	var theirs, ours float64
	for b.Loop() {
		for _, write := range []func(key string) error{
			func(key string) error { return article(b.Context(), db, "user-0", key) },
			func(key string) error {
				_, err := bench.store.Merge(b.Context(), "user-0", json.RawMessage(fmt.Sprintf(`{%q:1}`, key)))
				return err
			},
		} {
			bench.documents(1, 1500)
			var wg sync.WaitGroup
			acknowledged := make([]bool, writers)
			start := time.Now()
			for i := range writers {
				wg.Go(func() { acknowledged[i] = write(fmt.Sprintf("writer %d", i)) == nil })
			}
			wg.Wait()
			took := time.Since(start).Seconds()
			doc, err := bench.store.Get(b.Context(), "user-0")
			require.NoError(b, err)
			n := 0
			for i, ok := range acknowledged {
				if ok && strings.Contains(string(doc.Metadata), fmt.Sprintf(`"writer %d"`, i)) {
					n++
				}
			}
			theirs, ours = ours, float64(n)/took
		}
	}
	b.ReportMetric(ours, "kept/s")
	b.ReportMetric(theirs, "article-kept/s")
	b.ReportMetric(ours/theirs, "×article")
	b.ReportMetric(0, "ns/op")
}

func article(ctx context.Context, db *sql.DB, id, key string) error {
	const lockKey = 4711
	locked := false
	for retry, wait := 0, 200*time.Millisecond; !locked; retry, wait = retry+1, min(2*wait, 10*time.Second) {
		if err := db.QueryRowContext(ctx, "SELECT pg_try_advisory_lock($1)", lockKey).Scan(&locked); err != nil {
			return err
		}
		if !locked {
			if retry == 7 {
				return fmt.Errorf("gave up")
			}
			time.Sleep(wait)
		}
	}
	defer db.ExecContext(ctx, "SELECT pg_advisory_unlock($1)", lockKey)
	var text []byte
	if err := db.QueryRowContext(ctx, "SELECT metadata FROM lockstore_metadata WHERE id = $1", id).Scan(&text); err != nil {
		return err
	}
	doc := map[string]any{}
	if err := json.Unmarshal(text, &doc); err != nil {
		return err
	}
	doc[key] = 1
	text, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, "UPDATE lockstore_metadata SET metadata = $2 WHERE id = $1", id, string(text))
	return err
}
