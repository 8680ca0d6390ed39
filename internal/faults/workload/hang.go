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

// Hang runs two callers without a deadline for each duration that hangs sends. They merge, one
// into a hot document, one into its own, over connections that hang for that duration. They are
// cancelled if they wait for longer than that and c.Patience, as for a leaked lock. The store's
// connections must be prepared by [PrepareHanging].
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

// PrepareHanging blocks a caller whose connections hang until that is over.
func PrepareHanging(ctx context.Context, _ *pgx.Conn) (bool, error) {
	if over, ok := ctx.Value(hangKey{}).(<-chan struct{}); ok {
		<-over
	}
	return true, nil
}

// NobodyInParticular is a principal that is the same for all callers over such connections.
func NobodyInParticular(context.Context) string { return "" }
