package workload

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/lockstore/internal/faults/history"
)

// firstToHang is the number of the first worker whose connections hang, above those of all
// others that merge.
const firstToHang = 990

// hanging makes the connections of a caller hang until over is closed.
type hanging struct {
	over <-chan struct{}
	hung atomic.Bool // one did
}

type hangKey struct{}

// Hang runs two callers without a deadline for each duration that hangs sends. They merge, one
// into a hot document, one into its own, over connections that hang for that duration. They are
// canceled if they wait for longer than that and c.Patience, as for a leaked lock. Only
// connections that [PrepareHanging] prepares hang; a caller that met none is recorded as any other.
func Hang(hangs <-chan time.Duration, store Store, to *history.Recorder, c Config) {
	var workers []*worker
	ids := []string{"doc0", "hung"}
	for i := range ids {
		workers = append(workers, newWorker(context.Background(), firstToHang+i, nil, store, to, c))
	}
	for d := range hangs {
		over, cancel := context.WithTimeout(context.Background(), d)
		caller, giveUp := context.WithCancel(context.Background())
		limit := time.AfterFunc(d+c.Patience, giveUp)
		var group sync.WaitGroup
		for i, w := range workers {
			group.Go(func() {
				e, patch := w.patch(ids[i])
				h := &hanging{over: over.Done()}
				doc, err := store.Merge(context.WithValue(caller, hangKey{}, h), ids[i], patch)
				if h.hung.Load() {
					e.Hung, _ = over.Deadline()
				}
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
	if h, ok := ctx.Value(hangKey{}).(*hanging); ok {
		h.hung.Store(true)
		<-h.over
	}
	return true, nil
}

// NobodyInParticular is a principal that is the same for all callers over such connections.
func NobodyInParticular(context.Context) string { return "" }
