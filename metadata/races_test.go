package metadata_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// members are what the document a has in the database.
func (d *database) members(t testing.TB) (m map[string]json.RawMessage) {
	t.Helper()
	require.NoError(t, d.Pool().QueryRow(context.Background(), "SELECT metadata FROM lockstore_metadata WHERE id = 'a'").Scan(&m))
	return m
}

// A call that shares a commit learns the outcome of that commit, and only that,
// whatever happens after the server has confirmed it and before the call is
// answered. Those behind it have a commit of their own.
func TestWhatHappensAfterTheCommitChangesNoAnswer(t *testing.T) {
	contextEnds := func(_ *testing.T, _ *blocked, cancel context.CancelFunc) { cancel() }
	storeCloses := func(t *testing.T, b *blocked, _ context.CancelFunc) {
		go b.store.Close()
		assert.Eventually(t, func() bool {
			_, err := b.store.Get(context.Background(), "a")
			return errors.Is(err, metadata.ErrClosed)
		}, patience, time.Millisecond)
	}
	for name, c := range map[string]struct {
		happens func(*testing.T, *blocked, context.CancelFunc)
		closes  bool
		behind  int
	}{
		"its context ends, nobody is behind":   {contextEnds, false, 0},
		"its context ends, one is behind":      {contextEnds, false, 1},
		"its context ends, some are behind":    {contextEnds, false, 3},
		"the store is closed":                  {storeCloses, true, 0},
		"the store is closed, one is behind":   {storeCloses, true, 1},
		"the store is closed, some are behind": {storeCloses, true, 3},
	} {
		t.Run(name, func(t *testing.T) {
			eachTraced(t, func(t *testing.T, d *database, tr *tracer) {
				b := newBlocked(t, d, nil)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				first := begin(func() (metadata.Document, error) { return merging(b.store, `{"first":1}`)(t.Context()) })
				waitForRow(t, d)
				leader := lineUp(t.Context(), merging(b.store, `{"leader":1}`))
				follower := lineUp(ctx, merging(b.store, `{"follower":1}`))
				var behind []pending
				tr.once(sending, "FOR NO KEY UPDATE", func() { // the leader has taken the follower along
					for i := range c.behind {
						behind = append(behind, lineUp(t.Context(), merging(b.store, fmt.Sprintf(`{"behind%d":1}`, i))))
					}
				})
				tr.once(answered, "stored AS", func() {
					tr.once(releasing, "", func() {
						c.happens(t, b, cancel)
						follower.within(50 * time.Millisecond) // the time to leave, if it may
					})
				})
				b.unblock()

				require.NoError(t, first.wait(t, "the first").err)
				led := leader.wait(t, "the leader")
				require.Nil(t, led.panicked)
				require.NoError(t, led.err)
				followed := follower.wait(t, "the follower")
				if assert.NoError(t, followed.err, "it was made") {
					assert.Equal(t, led.doc.Version+1, followed.doc.Version)
					assert.Contains(t, string(followed.doc.Metadata), `"follower": 1`)
				}
				for i, p := range behind {
					a := p.wait(t, "who is behind")
					require.Nil(t, a.panicked)
					if key := fmt.Sprintf("behind%d", i); a.err == nil {
						assert.Contains(t, string(a.doc.Metadata), `"`+key+`": 1`)
						assert.Contains(t, d.members(t), key)
					} else {
						require.True(t, c.closes)
						assert.ErrorIs(t, a.err, metadata.ErrClosed)
						assert.NotContains(t, d.members(t), key)
					}
				}
				closeInTime(t, b.store)
				for _, key := range []string{"first", "leader", "follower"} {
					assert.Contains(t, d.members(t), key)
				}
			})
		})
	}
}

var (
	deadlineTime    = flag.Duration("deadlines", 3*time.Second, "how long writers with deadlines write one document")
	deadlineThreads = flag.Int("deadline-threads", 8, "GOMAXPROCS meanwhile")
)

// Many writers of one document, whose deadlines are about as long as a write
// takes, in a host whose tracer takes its time. Each change is told of to the one
// who made it, and to nobody else.
func TestAnswersAreTrueUnderDeadlines(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(*deadlineThreads))
	const writers = 200
	lasts := *deadlineTime
	db, tr := pgtest.New(t), new(tracer)
	tr.always(releasing, func() { time.Sleep(time.Duration(rand.IntN(1000)) * time.Microsecond) })
	d := &database{db, func(o *metadata.Options) (*metadata.Postgres, error) {
		return metadata.NewPostgres(tr.open(t, db.Pool().Config()), o)
	}}
	store := d.migrated(t, nil)
	_, err := store.Merge(t.Context(), "a", raw(`{}`))
	require.NoError(t, err)

	var group sync.WaitGroup
	var made, refused, empty, denied atomic.Int64
	until := time.Now().Add(lasts)
	for w := range writers {
		group.Go(func() {
			defer func() { assert.Nil(t, recover(), "a panic of the store's") }()
			key := fmt.Sprint("w", w)
			possible := map[int]bool{0: true} // what the document can have of this writer
			check := func(m map[string]int) {
				if !possible[m[key]] {
					denied.Add(1)
				}
			}
			for n := 1; time.Now().Before(until); n++ {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1000+rand.IntN(25_000))*time.Microsecond)
				doc, err := store.Merge(ctx, "a", raw(`{%q:%d}`, key, n))
				cancel()
				var m map[string]int
				switch {
				case err == nil:
					made.Add(1)
					if json.Unmarshal(doc.Metadata, &m); m[key] != n {
						empty.Add(1)
						continue
					}
					clear(possible)
					possible[n] = true
				case errors.Is(err, metadata.ErrUnknownOutcome):
					possible[n] = true
				default:
					if refused.Add(1)%20 == 0 { // a sample, since this takes time
						doc, err := store.Get(t.Context(), "a")
						if assert.NoError(t, err) && assert.NoError(t, json.Unmarshal(doc.Metadata, &m)) {
							check(m)
						}
					}
				}
			}
			doc, err := store.Get(t.Context(), "a")
			var m map[string]int
			if assert.NoError(t, err) && assert.NoError(t, json.Unmarshal(doc.Metadata, &m)) {
				check(m)
			}
		})
	}
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(lasts + patience):
		require.Fail(t, "writers have no answer")
	}
	t.Logf("%d made, %d refused", made.Load(), refused.Load())
	assert.Positive(t, made.Load())
	assert.Positive(t, refused.Load())
	assert.Zero(t, empty.Load(), "confirmed, but not made")
	assert.Zero(t, denied.Load(), "refused, but made")
}
