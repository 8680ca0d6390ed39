package metadata_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
)

// arriving is a context that tells when it is first waited for: a write that
// has been called with it is in line by then.
type arriving struct {
	context.Context
	arrived chan struct{}
	once    sync.Once
}

func newArriving(ctx context.Context) *arriving {
	return &arriving{Context: ctx, arrived: make(chan struct{})}
}

func (a *arriving) Done() <-chan struct{} {
	a.once.Do(func() { close(a.arrived) })
	return a.Context.Done()
}

// waitFor returns when the query says true.
func waitFor(t testing.TB, d *database, query string, args ...any) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		var yes bool
		require.NoError(t, d.Pool().QueryRow(context.Background(), query, args...).Scan(&yes))
		if yes {
			return
		}
		require.True(t, time.Now().Before(deadline), "%s is still false", query)
	}
}

// waitForRow returns when somebody waits for a row in this database.
func waitForRow(t testing.TB, d *database) {
	t.Helper()
	waitFor(t, d, `SELECT EXISTS (SELECT FROM pg_stat_activity
		WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event IN ('transactionid', 'tuple'))`)
}

// waitForWaits returns when so many attempts have found a lock taken.
func waitForWaits(t testing.TB, store *metadata.Postgres, waits int64) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); store.Stats().Waits < waits; time.Sleep(time.Millisecond) {
		require.True(t, time.Now().Before(deadline))
	}
}
