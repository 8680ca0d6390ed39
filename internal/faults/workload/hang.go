package workload

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/lockstore/internal/faults/history"
)

// firstToHang is the number of the first worker whose connections hang, above all others.
const firstToHang = 990

type hangKey struct{}

// Hang has two callers without a deadline merge at each of the times that hangs gives,
// whose connections hang for so long: one into a hot document, one into its own. They are
// cancelled if they wait for longer than that and c.Patience, as for a lock that has leaked.
// The connections of the store are prepared by [PrepareHanging].
func Hang(hangs <-chan time.Duration, store Store, to *history.Recorder, c Config) {
	var workers []*worker
	ids := []string{"doc0", "hung"}
	for i := range ids {
		workers = append(workers, newWorker(context.Background(), firstToHang+i, nil, store, to, c))
	}
	for d := range hangs {
		over, cancel := context.WithTimeout(context.Background(), d)
		caller, giveUp := context.WithCancel(context.WithValue(context.Background(), hangKey{}, over.Done()))
		limit := time.AfterFunc(d+c.Patience, giveUp)
		var group sync.WaitGroup
		for i, w := range workers {
			group.Go(func() {
				e, patch := w.patch(ids[i])
				e.Hung, _ = over.Deadline()
				doc, err := store.Merge(caller, ids[i], patch)
				w.record(e, doc, err)
			})
		}
		group.Wait()
		limit.Stop()
		giveUp()
		cancel()
	}
}

// PrepareHanging gives a caller whose connections hang none before that is over.
func PrepareHanging(ctx context.Context, _ *pgx.Conn) (bool, error) {
	if over, ok := ctx.Value(hangKey{}).(<-chan struct{}); ok {
		<-over
	}
	return true, nil
}

// NobodyInParticular is a principal: all callers over connections so prepared are the same.
func NobodyInParticular(context.Context) string { return "" }
