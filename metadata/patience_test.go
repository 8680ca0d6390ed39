package metadata_test

import (
	"context"
	"encoding/json"
	"sync"
	"sync/atomic"
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
	t.Parallel() // it mostly waits
	const total = 1800 * time.Millisecond
	policy := backoff.Within(backoff.Constant{Base: 10 * time.Millisecond}, total)
	for name, c := range map[string]struct {
		after  time.Duration // the first comes the second
		leaves time.Duration // is the first one's time; 0: until it gives up
	}{
		"the first gives up early on":  {total / 6, 0},
		"the first gives up late":      {total * 4 / 6, 0},
		"the first one's context ends": {total * 4 / 6, total * 5 / 6},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachDriver(t, func(t *testing.T, d *database) {
				t.Parallel()
				store := d.migrated(t, &metadata.Options{Backoff: policy})
				held, err := newLocker(t, d.Pool()).Lock(t.Context(), store.Key("a"))
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
		held, err := newLocker(t, d.Pool()).Lock(t.Context(), store.Key("a"))
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
		held, err := newLocker(t, d.Pool()).Lock(t.Context(), store.Key("a"))
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
		a, left := follower.within(patience)
		if assert.True(t, left, "it waits on though its context has ended") {
			assert.ErrorIs(t, a.err, context.Canceled)
			assert.ErrorIs(t, a.err, lock.ErrBusy)
		}
		require.NoError(t, held.Unlock())
		assert.NoError(t, leader.wait(t, "the leader").err)
		assert.Equal(t, left, d.members(t)["follower"] == nil)
	})
}

// Those who stand behind others give up when their own policy does, too, by whatever
// operation they write.
func TestEveryWriterInLineGivesUpWhenItsPolicyDoes(t *testing.T) {
	t.Parallel() // it mostly waits
	const attempts, pause = 6, 200 * time.Millisecond
	policy := backoff.Limit(backoff.Constant{Base: pause, Jitter: backoff.NoJitter}, attempts)
	eachDriver(t, func(t *testing.T, d *database) {
		store := d.migrated(t, &metadata.Options{Backoff: policy})
		_, err := store.Merge(t.Context(), "a", raw(`{}`))
		require.NoError(t, err)
		held, err := newLocker(t, d.Pool()).Lock(t.Context(), store.Key("a"))
		require.NoError(t, err)
		defer held.Unlock()
		var group sync.WaitGroup
		for range 4 {
			for name, write := range map[string]func() error{
				"Merge":   func() error { _, err := store.Merge(t.Context(), "a", raw(`{"x":1}`)); return err },
				"Replace": func() error { _, err := store.Replace(t.Context(), "a", raw(`{"x":1}`)); return err },
				"Delete":  func() error { return store.Delete(t.Context(), "a") },
				"IfVersion": func() error {
					_, err := store.IfVersion(1).Merge(t.Context(), "a", raw(`{"x":1}`))
					return err
				},
				"Update": func() error {
					_, err := store.Update(t.Context(), "a", func(metadata.Document) (json.RawMessage, error) { return raw(`{"x":1}`), nil })
					return err
				},
			} {
				group.Go(func() {
					begun := time.Now()
					var busy *lock.BusyError
					if err := write(); assert.ErrorAs(t, err, &busy, name) {
						assert.ErrorIs(t, err, backoff.ErrExhausted, name)
						assert.GreaterOrEqual(t, busy.Attempts, attempts, name)
						assert.LessOrEqual(t, busy.Attempts, attempts+2, name)
					}
					assert.GreaterOrEqual(t, time.Since(begun), (attempts-1)*pause, name)
					assert.Less(t, time.Since(begun), 4*attempts*pause, "%s: not one after the other: there are 20", name)
				})
			}
		}
		group.Wait()
	})
}

// A policy that panics does so in its own caller, and those who stand behind it go on.
func TestPolicyOfAFollowerPanics(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		var armed atomic.Bool
		store := d.migrated(t, &metadata.Options{Backoff: panickyPolicy{&armed}})
		held, err := newLocker(t, d.Pool()).Lock(t.Context(), store.Key("a"))
		require.NoError(t, err)
		defer held.Unlock()
		panics := func() <-chan any {
			done := make(chan any, 1)
			go func() {
				defer func() { done <- recover() }()
				_, _ = store.Merge(t.Context(), "a", raw(`{"x":1}`))
			}()
			return done
		}
		first, second, third := panics(), panics(), panics()
		waitForWaits(t, store, 3)
		armed.Store(true)
		for _, done := range []<-chan any{first, second, third} {
			assert.Equal(t, "policy", <-done)
		}
		armed.Store(false)
		require.NoError(t, held.Unlock())
		_, err = store.Merge(t.Context(), "a", raw(`{"x":1}`))
		assert.NoError(t, err)
	})
}

type panickyPolicy struct{ armed *atomic.Bool }

func (p panickyPolicy) Delay(int, time.Duration) (time.Duration, bool) {
	if p.armed.Load() {
		panic("policy")
	}
	return time.Millisecond, true
}
