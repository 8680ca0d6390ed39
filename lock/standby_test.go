package lock_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/internal/standbys"
	"example.com/lockstore/lock"
	"example.com/lockstore/pgtest"
)

// A fence waits for a standby that does not exist. Nothing else waits: not the locks on the
// same connection, which does not count as silent either. The wait ends with its context, with
// a cancellation, and when the fence is safe.
func TestFenceThatWaitsForAStandbyHoldsUpNothing(t *testing.T) {
	db := pgtest.New(t, pgtest.Dedicated())
	waits := func() bool {
		return query[int](t, db.Pool(), "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") > 0
	}
	const silence = time.Second
	locker := newPostgres(t, db.Pool(), &lock.PostgresOptions{Silence: silence})
	held := take(t, locker, lock.Name("k"))
	before, err := held.Fence(t.Context())
	require.NoError(t, err)
	standbys.Require(t, db.Pool(), "absent")
	type answer struct {
		fence int64
		err   error
	}
	fence := func(ctx context.Context) <-chan answer {
		done := make(chan answer, 1)
		go func() {
			n, err := held.Fence(ctx)
			done <- answer{n, err}
		}()
		require.Eventually(t, waits, patience, time.Millisecond)
		return done
	}

	ctx, cancel := context.WithCancel(t.Context())
	ended := fence(ctx)
	for begun := time.Now(); time.Since(begun) < 3*silence; {
		require.NoError(t, take(t, locker, lock.Name("other")).Unlock())
	}
	require.NoError(t, held.Context().Err())
	cancel()
	assert.ErrorIs(t, (<-ended).err, context.Canceled)
	require.Eventually(t, func() bool { return !waits() }, patience, time.Millisecond, "nothing is left at the server")

	canceled := fence(t.Context())
	require.Positive(t, query[int](t, db.Pool(), "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"))
	assert.Error(t, (<-canceled).err)

	safe := fence(t.Context())
	standbys.Require(t, db.Pool(), "")
	a := <-safe
	require.NoError(t, a.err)
	assert.Greater(t, a.fence, before)
	assert.NoError(t, held.Unlock())
}
