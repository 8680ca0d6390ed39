package metadata_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/backoff"
	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
)

// A caller waits for a document's lock as long as the policy says, from its own
// beginning, whoever was there before it and however that one left.
func TestEachWriterHasItsOwnPatience(t *testing.T) {
	const total = 600 * time.Millisecond
	policy := backoff.Within(backoff.Constant{Base: 10 * time.Millisecond}, total)
	for name, c := range map[string]struct {
		after  time.Duration // the first comes the second
		leaves time.Duration // is the first one's time; 0: until it gives up
	}{
		"the first gives up early on":  {100 * time.Millisecond, 0},
		"the first gives up late":      {400 * time.Millisecond, 0},
		"the first one's context ends": {400 * time.Millisecond, 500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachDriver(t, func(t *testing.T, d *database) {
				store := d.migrated(t, &metadata.Options{Backoff: policy})
				held, err := newLocker(t, d).Lock(t.Context(), store.Key("a"))
				require.NoError(t, err)
				defer held.Unlock()
				ctx, cancel := t.Context(), context.CancelFunc(func() {})
				if c.leaves > 0 {
					ctx, cancel = context.WithTimeout(ctx, c.leaves)
				}
				defer cancel()
				begun := time.Now()
				first := begin(func() (metadata.Document, error) { return merging(store, `{"first":1}`)(ctx) })
				time.Sleep(c.after)
				waits, begunToo := store.Stats().Waits, time.Now()
				second := begin(func() (metadata.Document, error) { return merging(store, `{"second":1}`)(t.Context()) })

				a := first.wait(t, "the first")
				assert.ErrorIs(t, a.err, lock.ErrBusy)
				if c.leaves == 0 {
					assert.ErrorIs(t, a.err, backoff.ErrExhausted)
					assert.GreaterOrEqual(t, time.Since(begun), total)
				}
				a = second.wait(t, "the second")
				waited := time.Since(begunToo)
				var busy *lock.BusyError
				require.ErrorAs(t, a.err, &busy)
				assert.ErrorIs(t, busy, backoff.ErrExhausted)
				assert.GreaterOrEqual(t, waited, total, "the second has time of its own")
				assert.Less(t, waited, 2*total, "and no more")
				assert.Positive(t, busy.Attempts)
				assert.LessOrEqual(t, int64(busy.Attempts), store.Stats().Waits-waits+1, "attempts since it came")
			})
		})
	}
}

// Who has stood behind others all the time tells how often the lock was found
// taken since it came.
func TestAttemptsAreThoseSinceTheCall(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		store := d.migrated(t, &metadata.Options{Backoff: backoff.Constant{Base: time.Millisecond}})
		held, err := newLocker(t, d).Lock(t.Context(), store.Key("a"))
		require.NoError(t, err)
		defer held.Unlock()
		first := begin(func() (metadata.Document, error) { return merging(store, `{"first":1}`)(t.Context()) })
		waitForWaits(t, store, 20)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		waits := store.Stats().Waits
		second := lineUp(ctx, merging(store, `{"second":1}`))
		waitForWaits(t, store, waits+5)
		cancel()
		a := second.wait(t, "the second")
		var busy *lock.BusyError
		require.ErrorAs(t, a.err, &busy)
		assert.Positive(t, busy.Attempts)
		assert.LessOrEqual(t, int64(busy.Attempts), store.Stats().Waits-waits+1) // one may be under way
		require.NoError(t, held.Unlock())
		assert.NoError(t, first.wait(t, "the first").err)
	})
}

// A follower that a leader has taken along, and put back since the lock is taken,
// is free to leave again.
func TestFollowerThatWasPutBackLeavesWithItsContext(t *testing.T) {
	eachTraced(t, func(t *testing.T, d *database, tr *tracer) {
		store := d.migrated(t, &metadata.Options{Backoff: backoff.Constant{Base: time.Millisecond}})
		_, err := store.Merge(t.Context(), "a", raw(`{}`))
		require.NoError(t, err)
		held, err := newLocker(t, d).Lock(t.Context(), store.Key("a"))
		require.NoError(t, err)
		defer held.Unlock()
		leader := begin(func() (metadata.Document, error) { return merging(store, `{"leader":1}`)(t.Context()) })
		waitForWaits(t, store, 2)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		follower := lineUp(ctx, merging(store, `{"follower":1}`))
		tr.once(sending, "FOR NO KEY UPDATE", func() { // of which the follower may be part already
			tr.once(sending, "FOR NO KEY UPDATE", func() { // of which it is part
				cancel()
				time.Sleep(20 * time.Millisecond) // for the follower to notice
			})
		})
		a, left := follower.within(time.Second)
		if assert.True(t, left, "it waits on though its context has ended") {
			assert.ErrorIs(t, a.err, context.Canceled)
			assert.ErrorIs(t, a.err, lock.ErrBusy)
		}
		require.NoError(t, held.Unlock())
		assert.NoError(t, leader.wait(t, "the leader").err)
		assert.Equal(t, left, d.members(t)["follower"] == nil)
	})
}
