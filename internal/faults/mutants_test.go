package faults_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/internal/faults/history"
	"example.com/lockstore/internal/faults/workload"
	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
)

// observe runs the workload on lockers and stores, two of each, and judges it:
// for d, and again until it has seen enough, or will not see it.
func (w *world) observe(d time.Duration, lockers []lock.Locker, stores []workload.Store, enough func(history.Verdict) bool) history.Verdict {
	w.Helper()
	var log history.Log
	recorders := []*history.Recorder{history.NewRecorder(0, log.Add), history.NewRecorder(1, log.Add)}
	store := w.store(nil, nil)
	for round := 0; ; round++ {
		ctx, stop := context.WithTimeout(w.ctx, d<<round)
		var group sync.WaitGroup
		for i := range lockers {
			group.Go(func() {
				workload.Run(ctx, lockers[i], stores[i], recorders[i], workload.Config{
					Process: i, Generation: round, Workers: 8, Hasty: 32, Hot: 2, Cold: 20, Patience: 5 * time.Second, Pause: 2 * time.Millisecond, Seed: uint64(round),
				})
			})
		}
		group.Wait()
		stop()
		events := log.Events()
		final := map[string]history.Final{}
		for _, e := range events {
			if _, known := final[e.Key]; !known && e.Kind != history.Tenure {
				doc, err := store.Get(w.ctx, e.Key)
				if !errors.Is(err, metadata.ErrNotFound) {
					require.NoError(w, err)
				}
				final[e.Key] = history.Final{Version: doc.Version, Document: doc.Metadata}
			}
		}
		v := history.Check(events, final, nil, time.Second)
		w.Logf("%d events, %d windows, %d violations", len(events), v.Windows, len(v.Violations))
		if enough(v) || round == 4 {
			return v
		}
	}
}

func (w *world) pair() (lockers []lock.Locker, stores []workload.Store) {
	for range 2 {
		lockers, stores = append(lockers, w.locker(nil, impatient())), append(stores, workload.Hosted{Postgres: w.store(nil, nil), Pool: w.pool("", 4)})
	}
	return lockers, stores
}

func TestWhatWorksIsNotRejected(t *testing.T) {
	w := newWorld(t)
	lockers, stores := w.pair()
	v := w.observe(3*time.Second, lockers, stores, func(history.Verdict) bool { return true })
	for _, violation := range v.Violations {
		t.Error(violation)
	}
	assert.Positive(t, v.Windows)
}

// Each of these is wrong in a way in which real systems are, and must be
// rejected by the rule that it breaks.
func TestMutants(t *testing.T) {
	for name, c := range map[string]struct {
		rule   string
		mutate func(w *world, lockers []lock.Locker, stores []workload.Store)
	}{
		"pool-level lock and unlock": {history.Exclusion, func(w *world, lockers []lock.Locker, _ []workload.Store) {
			db := stdlib.OpenDBFromPool(w.pool("", 3))
			w.Cleanup(func() { db.Close() })
			w.Cleanup(func() { // it leaks locks
				for len(w.db.Locks(w)) > 0 {
					assert.NoError(w, w.db.Terminate(w.db.Locks(w)[0].PID))
				}
			})
			for i := range lockers {
				lockers[i] = poolLocker{db}
			}
		}},
		"hand-off without the queue": {history.Exclusion, func(_ *world, lockers []lock.Locker, _ []workload.Store) {
			for i := range lockers {
				lockers[i] = &handOffLocker{Locker: lockers[i], held: map[lock.Key]*shareable{}}
			}
		}},
		"fence drawn before the lock": {history.FenceOrder, func(_ *world, lockers []lock.Locker, _ []workload.Store) {
			fences := new(counter)
			for i := range lockers {
				lockers[i] = earlyFence{lockers[i], fences}
			}
		}},
		"a writer that does not ask for the lock": {history.KeptOut, func(w *world, _ []lock.Locker, stores []workload.Store) {
			for i := range stores {
				stores[i] = &ignorantStore{Store: stores[i], pool: w.pool("", 4)}
			}
		}},
		"many merges that do not ask for the locks": {history.KeptOut, func(w *world, _ []lock.Locker, stores []workload.Store) {
			for i := range stores {
				stores[i] = ignorantMany{Store: stores[i], one: &ignorantStore{Store: stores[i], pool: w.pool("", 4)}}
			}
		}},
		"acknowledgement before commit": {history.OneVersion, func(w *world, _ []lock.Locker, stores []workload.Store) {
			for i := range stores {
				stores[i] = &earlyStore{Store: stores[i], postgres: stores[i].(workload.Hosted).Postgres, pool: w.pool("", 8)}
			}
		}},
		"a batch that loses its last patch": {history.OneVersion, func(_ *world, _ []lock.Locker, stores []workload.Store) {
			for i := range stores {
				stores[i] = &lossyBatch{Store: stores[i]}
			}
		}},
		"read, then write": {history.OneVersion, func(_ *world, _ []lock.Locker, stores []workload.Store) {
			for i := range stores {
				stores[i] = readThenWrite{stores[i]}
			}
		}},
		"a read from long ago": {history.FreshRead, func(_ *world, _ []lock.Locker, stores []workload.Store) {
			for i := range stores {
				stores[i] = &staleReader{Store: stores[i], seen: map[string]metadata.Document{}}
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			lockers, stores := w.pair()
			c.mutate(w, lockers, stores)
			v := w.observe(time.Second, lockers, stores, func(v history.Verdict) bool { return rules(v)[c.rule] > 0 })
			t.Log(rules(v))
			assert.Contains(t, rules(v), c.rule)
		})
	}
}

// rules are those that were broken, and how often.
func rules(v history.Verdict) map[string]int {
	rules := map[string]int{}
	for _, violation := range v.Violations {
		rules[violation.Rule]++
	}
	return rules
}

// counter counts.
type counter struct {
	mu sync.Mutex
	n  int64
}

func (c *counter) next() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	return c.n
}

// poolLocker locks through a pool, and so on any session, as does its unlock,
// whose answer it ignores.
type poolLocker struct{ db *sql.DB }

func (l poolLocker) TryLock(ctx context.Context, key lock.Key) (*lock.Held, error) {
	var granted bool
	if err := l.db.QueryRowContext(ctx, "SELECT pg_try_advisory_lock($1)", key.Int64()).Scan(&granted); err != nil {
		return nil, err
	}
	if !granted {
		return nil, lock.ErrBusy
	}
	t := &poolTenure{db: l.db, key: key}
	held, cancel := lock.NewHeld(ctx, t, false, key)
	t.cancel = cancel
	return held, nil
}

func (l poolLocker) Lock(ctx context.Context, key lock.Key) (held *lock.Held, err error) {
	for range 8 {
		if held, err = l.TryLock(ctx, key); err == nil {
			return held, nil
		}
		time.Sleep(time.Millisecond)
	}
	return nil, err
}

func (l poolLocker) RLock(ctx context.Context, key lock.Key) (*lock.Held, error) {
	return nil, lock.ErrBusy
}

func (l poolLocker) TryRLock(ctx context.Context, key lock.Key) (*lock.Held, error) {
	return nil, lock.ErrBusy
}

type poolTenure struct {
	db     *sql.DB
	key    lock.Key
	cancel context.CancelCauseFunc
}

func (t *poolTenure) Unlock() error {
	t.cancel(lock.ErrReleased)
	_, err := t.db.Exec("SELECT pg_advisory_unlock($1)", t.key.Int64())
	return err
}

func (t *poolTenure) Fence(context.Context) (int64, error)  { return 0, errors.New("has none") }
func (t *poolTenure) Backend(lock.Key) (lock.Backend, bool) { return lock.Backend{}, false }

// handOffLocker hands a key on as soon as somebody here wants it.
type handOffLocker struct {
	lock.Locker
	mu   sync.Mutex
	held map[lock.Key]*shareable
}

type shareable struct {
	of      *handOffLocker
	held    *lock.Held
	holders int
}

func (l *handOffLocker) Lock(ctx context.Context, key lock.Key) (*lock.Held, error) {
	l.mu.Lock()
	s := l.held[key]
	if s != nil {
		s.holders++
	}
	l.mu.Unlock()
	if s == nil {
		held, err := l.Locker.Lock(ctx, key)
		if err != nil {
			return nil, err
		}
		s = &shareable{l, held, 1}
		l.mu.Lock()
		l.held[key] = s
		l.mu.Unlock()
	}
	held, _ := lock.NewHeld(s.held.Context(), s, false, key)
	return held, nil
}

func (s *shareable) Unlock() error {
	s.of.mu.Lock()
	s.holders--
	last := s.holders == 0
	if last && s.of.held[s.held.Key()] == s {
		delete(s.of.held, s.held.Key())
	}
	s.of.mu.Unlock()
	if last {
		return s.held.Unlock()
	}
	return nil
}

func (s *shareable) Fence(ctx context.Context) (int64, error)  { return s.held.Fence(ctx) }
func (s *shareable) Backend(key lock.Key) (lock.Backend, bool) { return s.held.Backend(key) }

// earlyFence draws the fence when the lock is asked for, not when it is held.
type earlyFence struct {
	lock.Locker
	fences *counter
}

type earlyTenure struct {
	*lock.Held
	fence int64
}

func (t earlyTenure) Fence(context.Context) (int64, error) { return t.fence, nil }

func (l earlyFence) Lock(ctx context.Context, key lock.Key) (*lock.Held, error) {
	fence := l.fences.next()
	held, err := l.Locker.Lock(ctx, key)
	if err != nil {
		return nil, err
	}
	wrapped, _ := lock.NewHeld(held.Context(), earlyTenure{held, fence}, false, key)
	return wrapped, nil
}

// ignorantStore merges without asking for the document's lock.
type ignorantStore struct {
	workload.Store
	pool *pgxpool.Pool
}

func (s *ignorantStore) Merge(ctx context.Context, id string, patch json.RawMessage) (doc metadata.Document, err error) {
	err = s.pool.QueryRow(ctx, `INSERT INTO lockstore_metadata AS t (id, metadata, version) VALUES ($1, $2, 1)
		ON CONFLICT (id) DO UPDATE SET metadata = t.metadata || $2, version = t.version + 1
		RETURNING id, metadata, version`, id, patch).Scan(&doc.ID, (*[]byte)(&doc.Metadata), &doc.Version)
	return doc, err
}

// ignorantMany merges many so.
type ignorantMany struct {
	workload.Store
	one *ignorantStore
}

func (s ignorantMany) MergeMany(ctx context.Context, patches []metadata.Patch) ([]metadata.Result, error) {
	results := make([]metadata.Result, len(patches))
	for i, p := range patches {
		results[i].Document, results[i].Err = s.one.Merge(ctx, p.ID, p.Patch)
	}
	return results, nil
}

// earlyStore answers before it commits, and one time in five has no luck.
type earlyStore struct {
	workload.Store
	postgres *metadata.Postgres
	pool     *pgxpool.Pool
	merges   counter
}

func (s *earlyStore) Merge(ctx context.Context, id string, patch json.RawMessage) (metadata.Document, error) {
	tx, err := s.pool.Begin(ctx)
	if err != nil {
		return metadata.Document{}, err
	}
	defer tx.Rollback(ctx)
	doc, err := s.postgres.In(tx).Merge(ctx, id, patch)
	if err == nil && s.merges.next()%5 > 0 {
		err = tx.Commit(ctx)
	}
	return doc, err
}

// lossyBatch folds the patches that come while it is busy, and stores all of
// them but the last.
type lossyBatch struct {
	workload.Store
	mu    sync.Mutex
	batch map[string][]chan<- answer
	todo  map[string][]json.RawMessage
}

type answer struct {
	doc metadata.Document
	err error
}

func (s *lossyBatch) Merge(ctx context.Context, id string, patch json.RawMessage) (metadata.Document, error) {
	if lock.FromContext(ctx, s.Key(id)) != nil {
		return s.Store.Merge(ctx, id, patch)
	}
	mine := make(chan answer, 1)
	s.mu.Lock()
	if s.batch == nil {
		s.batch, s.todo = map[string][]chan<- answer{}, map[string][]json.RawMessage{}
	}
	leads := len(s.batch[id]) == 0
	s.batch[id], s.todo[id] = append(s.batch[id], mine), append(s.todo[id], patch)
	s.mu.Unlock()
	if leads {
		time.Sleep(time.Millisecond) // others come
		s.mu.Lock()
		batch, todo := s.batch[id], s.todo[id]
		delete(s.batch, id)
		delete(s.todo, id)
		s.mu.Unlock()
		for i, patch := range todo {
			var a answer
			if i == 0 || i < len(todo)-1 {
				a.doc, a.err = s.Store.Merge(ctx, id, patch)
			} else if a.doc, a.err = s.Store.Get(ctx, id); a.err == nil {
				a.doc.Version++
				a.doc.Metadata, a.err = metadata.MergePatch(a.doc.Metadata, patch)
			}
			batch[i] <- a
		}
	}
	a := <-mine
	return a.doc, a.err
}

// readThenWrite updates what it has read without keeping others out.
type readThenWrite struct{ workload.Store }

func (s readThenWrite) Update(ctx context.Context, id string, decide func(metadata.Document) (json.RawMessage, error)) (metadata.Document, error) {
	doc, err := s.Get(ctx, id)
	if err != nil && !errors.Is(err, metadata.ErrNotFound) {
		return doc, err
	}
	patch, err := decide(doc)
	if err != nil {
		return doc, err
	}
	return s.Merge(ctx, id, patch)
}

// staleReader reads a document once.
type staleReader struct {
	workload.Store
	mu   sync.Mutex
	seen map[string]metadata.Document
}

func (s *staleReader) Get(ctx context.Context, id string) (metadata.Document, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	doc, ok := s.seen[id]
	if ok {
		return doc, nil
	}
	doc, err := s.Store.Get(ctx, id)
	if err == nil {
		s.seen[id] = doc
	}
	return doc, err
}
