package metadata_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// TestWatchersStory has a process write documents which others watch, of whom one has
// nothing but hints, over a network that breaks, one nothing but comparisons, and one both.
// Its rules:
//
//	MISSED    the last state is told to everybody
//	ORDER     no state is told after a later one
//	INVENTED  there was each state that is told
func TestWatchersStory(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	db := pgtest.New(t)
	proxy := pgtest.NewProxy(t, db)
	slow := pgtest.NewProxy(t, db) // so that documents change while they are read
	slow.Delay(time.Millisecond, 12*time.Millisecond)
	config, err := pgxpool.ParseConfig(slow.URL())
	require.NoError(t, err)
	violated := func(rule, format string, args ...any) {
		t.Errorf("seed %d: %s: %s", seed, rule, fmt.Sprintf(format, args...))
	}
	by := func(pool *pgxpool.Pool, interval time.Duration, url string) *metadata.Postgres {
		store, err := metadata.NewPostgres(pool, &metadata.Options{WatchInterval: interval, Connect: func(ctx context.Context) (*pgx.Conn, error) { return pgx.Connect(ctx, url) }})
		require.NoError(t, err)
		t.Cleanup(store.Close)
		return store
	}
	writer, far := by(db.Pool(), time.Hour, db.URL()), newPool(t, config)
	require.NoError(t, writer.Migrate(t.Context()))
	hinted, compared, both := by(far, time.Hour, proxy.URL()), by(far, 20*time.Millisecond, "host=/nowhere"), by(far, time.Second, proxy.URL())
	ids := []string{"a", "b", "c"}

	var followers []*follower
	var group sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	defer group.Wait()
	defer stop()
	for _, store := range []*metadata.Postgres{hinted, compared, both} { // who comes first reads for all, and leaves
		came := make(chan struct{})
		group.Go(func() {
			told := 0
			for range store.Watch(ctx, ids...) {
				if told++; told == 1 {
					close(came)
				}
				if told == 50 {
					return
				}
			}
		})
		<-came
	}
	follow := func(name string, store *metadata.Postgres, slow bool) {
		f := &follower{name: name, last: map[string]metadata.Document{}}
		followers = append(followers, f)
		group.Go(func() {
			for doc, err := range store.Watch(ctx, ids...) {
				if err != nil {
					return
				}
				f.told(doc, violated)
				if slow {
					time.Sleep(30 * time.Millisecond)
				}
			}
		})
	}
	for name, store := range map[string]*metadata.Postgres{"hints": hinted, "comparisons": compared, "both": both} {
		for i := range 3 {
			follow(fmt.Sprint(name, " ", i), store, i == 0)
		}
	}
	reach := func(what string, want func(id string) metadata.Document, who ...*follower) {
		deadline := time.Now().Add(patience)
		for _, f := range who {
			for _, id := range ids {
				doc := want(id)
				for !f.has(doc) && time.Now().Before(deadline) {
					time.Sleep(time.Millisecond)
				}
				if !f.has(doc) {
					violated("MISSED", "%s: version %d of %s, by who watches by %s, after %v", what, doc.Version, id, f.name, f.versions())
				}
			}
		}
	}
	now := func(id string) metadata.Document {
		doc, err := writer.Get(t.Context(), id)
		require.NoError(t, err)
		return doc
	}
	// A process that writes finds those who watch within a second, or two.
	for until := time.Now().Add(2200 * time.Millisecond); time.Now().Before(until); {
		for _, id := range ids {
			_, err := writer.Update(t.Context(), id, count)
			require.NoError(t, err)
		}
	}
	for round := range 12 {
		cuts := round%3 == 2
		var writers sync.WaitGroup
		for range 6 {
			id, n := ids[r.IntN(len(ids))], 1+r.IntN(20)
			writers.Go(func() {
				for range n {
					if _, err := writer.Update(t.Context(), id, count); err != nil {
						t.Error(err)
					}
				}
			})
		}
		if cuts {
			time.Sleep(time.Duration(r.IntN(5)) * time.Millisecond)
			proxy.Cut()
		}
		writers.Wait()
		if cuts {
			proxy.Restore()
		}
		for _, id := range ids { // the last one while the one before is read
			for range 3 {
				_, err := writer.Update(t.Context(), id, count)
				require.NoError(t, err)
			}
		}
		reach("written", now, followers...)
	}
	// What nobody hints at is found by comparison, or by whoever comes later.
	_, err = db.Pool().Exec(t.Context(), `UPDATE lockstore_metadata SET metadata = metadata || '{"hand": 1}' WHERE id = 'b'`)
	require.NoError(t, err)
	follow("late", hinted, false)
	reach("written by hand", now, followers...)
}

// A follower is what one watcher was told.
type follower struct {
	name string
	mu   sync.Mutex
	last map[string]metadata.Document
}

func (f *follower) told(doc metadata.Document, violated func(rule, format string, args ...any)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before, told := f.last[doc.ID]
	f.last[doc.ID] = doc
	var counts struct {
		N    int64
		Hand int
	}
	err := json.Unmarshal(doc.Metadata, &counts)
	switch {
	case doc.Metadata == nil && before.Metadata == nil && doc.Version == 0:
	case told && (doc.Version < before.Version || doc.Version == before.Version && counts.Hand == 0):
		violated("ORDER", "version %d of %s after %d, by %s", doc.Version, doc.ID, before.Version, f.name)
	case err != nil || counts.N != doc.Version:
		violated("INVENTED", "version %d of %s is %s, by %s", doc.Version, doc.ID, doc.Metadata, f.name)
	}
}

func (f *follower) has(doc metadata.Document) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	last, told := f.last[doc.ID]
	return told && last.Version == doc.Version && string(last.Metadata) == string(doc.Metadata)
}

func (f *follower) versions() map[string]int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	versions := map[string]int64{}
	for id, doc := range f.last {
		versions[id] = doc.Version
	}
	return versions
}
