package metadata_test

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
)

// workerURL makes a process of the test binary a worker of
// BenchmarkProcesses, and says which database it is to write.
const workerURL = "METADATA_BENCHMARK_WORKER"

func TestMain(m *testing.M) {
	if url := os.Getenv(workerURL); url != "" {
		if err := work(url); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Set("test.parallel", "8") // those tests spend their time waiting
	os.Exit(m.Run())
}

// An order is one line that a worker is sent; it answers with a line, too.
type order struct {
	Floor   bool
	Writers int
	Total   int
	ID      string
	First   int // of the numbers that make patches differ
}

// work does orders until there are none.
func work(url string) error {
	ctx := context.Background()
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return err
	}
	config.MaxConns = 8
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	store, err := metadata.NewPostgres(pool, nil)
	if err != nil {
		return err
	}
	defer store.Close()
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var o order
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return err
		}
		failed := make(chan error, o.Total)
		burst(o.Writers, o.Total, []string{o.ID}, func(id string) {
			patch := fmt.Sprintf(`{"seen":%d,"by":"worker %d"}`, time.Now().UnixNano(), o.First)
			var err error
			if o.Floor {
				var doc []byte
				err = pool.QueryRow(ctx, floorSQL, id, patch).Scan(&doc)
			} else {
				_, err = store.Merge(ctx, id, json.RawMessage(patch))
			}
			if err != nil {
				failed <- err
			}
		})
		if len(failed) > 0 {
			return <-failed
		}
		fmt.Println("done")
	}
	return lines.Err()
}

func BenchmarkProcesses(b *testing.B) {
	const processes, writers = 4, 64
	bench := newBenchmark(b)
	id := bench.documents(1, 1500)[0]
	type worker struct {
		in  io.WriteCloser
		out *bufio.Scanner
	}
	var workers []worker
	for range processes {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), workerURL+"="+bench.url)
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		require.NoError(b, err)
		out, err := cmd.StdoutPipe()
		require.NoError(b, err)
		require.NoError(b, cmd.Start())
		b.Cleanup(func() {
			in.Close()
			if err := cmd.Wait(); err != nil {
				b.Errorf("worker: %v", err)
			}
		})
		workers = append(workers, worker{in, bufio.NewScanner(out)})
	}
	round := func(o order) time.Duration {
		start := time.Now()
		for i, w := range workers {
			o.First = i
			line, err := json.Marshal(o)
			require.NoError(b, err)
			_, err = w.in.Write(append(line, '\n'))
			require.NoError(b, err)
		}
		for _, w := range workers {
			require.True(b, w.out.Scan(), "a worker has ended")
		}
		return time.Since(start)
	}
	round(order{Floor: true, Writers: 8, Total: 8, ID: id})
	round(order{Writers: 8, Total: 8, ID: id})
	const floorTotal, mergeTotal = 250, 5000 // of each process
	var floors, merges time.Duration
	for b.Loop() {
		floors += round(order{Floor: true, Writers: writers, Total: floorTotal, ID: id})
		merges += round(order{Writers: writers, Total: mergeTotal, ID: id})
	}
	mergeRate := float64(b.N*processes*mergeTotal) / merges.Seconds()
	floorRate := float64(b.N*processes*floorTotal) / floors.Seconds()
	b.ReportMetric(mergeRate, "merges/s")
	b.ReportMetric(floorRate, "floor/s")
	b.ReportMetric(mergeRate/floorRate, "×floor")
	b.ReportMetric(0, "ns/op")
}
