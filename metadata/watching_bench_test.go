package metadata_test

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// Ten thousand documents that are watched take little memory, and next to no time while
// nothing changes.
func BenchmarkWatchOfManyDocuments(b *testing.B) {
	const documents = 10_000
	db := pgtest.New(b)
	store, err := metadata.NewPostgres(db.Pool(), nil)
	require.NoError(b, err)
	defer store.Close()
	require.NoError(b, store.Migrate(b.Context()))
	_, err = db.Pool().Exec(b.Context(), `INSERT INTO lockstore_metadata (id, metadata, version) SELECT gen_random_uuid(), jsonb_build_object('n', 1, 'text', repeat('x', 1000)), 1 FROM generate_series(1, 10000); ANALYZE lockstore_metadata`)
	require.NoError(b, err)
	rows, err := db.Pool().Query(b.Context(), `SELECT id FROM lockstore_metadata`)
	require.NoError(b, err)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(b, err)
	for b.Loop() {
		before := heap()
		w := watch(b.Context(), b, store, ids...)
		begun := time.Now()
		for range documents {
			w.next()
		}
		b.ReportMetric(float64(time.Since(begun).Milliseconds()), "ms/first")
		b.ReportMetric(float64(heap()-before)/documents, "B/document")
		waitForListener(b, db)
		var listeners int
		then := used(b, db)
		begun = time.Now()
		time.Sleep(20 * time.Second)
		took := time.Since(begun).Seconds()
		for i, now := range used(b, db) {
			b.ReportMetric((now-then[i])/took*100, []string{"%client", "%server"}[i])
		}
		require.NoError(b, db.Pool().QueryRow(b.Context(), listenersSQL).Scan(&listeners))
		b.ReportMetric(float64(listeners), "connections")
		w.stop(errEnoughSeen)
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// used is the processors' time of this process, and of the server's for this database, in
// seconds, as Linux tells it.
func used(t testing.TB, db *pgtest.DB) (seconds [2]float64) {
	rows, err := db.Pool().Query(t.Context(), `SELECT pid FROM pg_stat_activity WHERE datname = current_database()`)
	require.NoError(t, err)
	backends, err := pgx.CollectRows(rows, pgx.RowTo[int])
	require.NoError(t, err)
	for i, pids := range [][]int{{os.Getpid()}, backends} {
		for _, pid := range pids {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if err != nil {
				continue
			}
			_, after, _ := strings.Cut(string(stat), ") ")
			var user, system float64
			fields := strings.Fields(after)
			fmt.Sscan(fields[11], &user)
			fmt.Sscan(fields[12], &system)
			seconds[i] += (user + system) / 100
		}
	}
	return seconds
}
