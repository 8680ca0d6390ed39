package faults_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/internal/faults/neighbour"
	"example.com/lockstore/lock"
	"example.com/lockstore/lock/locktest"
	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

const (
	patience = 20 * time.Second       // limits each wait; the machine may be slow
	atOnce   = 500 * time.Millisecond // much less than any timeout; as it may be slow, the fastest of several trials counts
)

// A world is a database, its users, and a ledger of their merges. When the test ends, it
// checks what must hold after every fault: no lock, connection or goroutine is left, and each
// merge is in its document as often as its outcome said.
type world struct {
	*testing.T
	db  *pgtest.DB
	ctx context.Context

	neighbour *neighbour.Neighbour // nil: there is none

	mu     sync.Mutex
	merges []merge
}

// A merge adds a unique key to a document, which is empty at first. So the document's version is
// the number of its merges.
type merge struct {
	id, key string
	err     error
}

func newWorld(t *testing.T, opts ...pgtest.Option) *world {
	t.Helper()
	t.Parallel()
	return newSerialWorld(t, opts...)
}

// newSerialWorld is newWorld for a test that runs alone.
func newSerialWorld(t *testing.T, opts ...pgtest.Option) *world {
	t.Helper()
	w := &world{T: t, db: pgtest.New(t, opts...), ctx: t.Context()}
	pprof.SetGoroutineLabels(pprof.WithLabels(w.ctx, pprof.Labels("fault", t.Name())))
	store, err := metadata.NewPostgres(w.db.Pool(), nil)
	require.NoError(t, err)
	defer store.Close()
	require.NoError(t, store.Migrate(w.ctx))
	t.Cleanup(w.settle)
	return w
}

// settle runs after everything that the test has opened is closed.
func (w *world) settle() {
	require.Eventually(w, func() bool { return len(w.db.Locks(w)) == 0 }, patience, 5*time.Millisecond, "advisory locks are left")
	w.db.Pool().Reset()
	others := func() (n int) {
		err := w.db.Pool().QueryRow(context.Background(), `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()`).Scan(&n)
		assert.NoError(w, err)
		return n
	}
	assert.Eventually(w, func() bool { return others() == 0 }, patience, 5*time.Millisecond, "connections are left")
	left := w.goroutines()
	for deadline := time.Now().Add(patience); left != "" && time.Now().Before(deadline); left = w.goroutines() {
		time.Sleep(5 * time.Millisecond) // not assert.Eventually, which starts a goroutine itself
	}
	assert.Empty(w, left, "goroutines are left")
	w.audit()
}

// goroutines returns those that this test has started, by the label that they inherit.
func (w *world) goroutines() string {
	var all bytes.Buffer
	_ = pprof.Lookup("goroutine").WriteTo(&all, 1)
	var left strings.Builder
	for g := range strings.SplitSeq(all.String(), "\n\n") {
		mine := strings.Contains(g, fmt.Sprintf("%q:%q", "fault", w.Name()))
		if mine && !strings.Contains(g, "testing.tRunner") && !strings.Contains(g, "lockstore/pgtest") &&
			!strings.Contains(g, "pgxpool.(*Pool).backgroundHealthCheck") { // the database's own pool
			left.WriteString(g + "\n\n")
		}
	}
	return left.String()
}

// audit compares the ledger with the documents.
func (w *world) audit() {
	type count struct{ acknowledged, unknown int }
	counts := map[string]count{}
	for _, m := range w.merges {
		c := counts[m.id]
		switch {
		case m.err == nil:
			c.acknowledged++
		case errors.Is(m.err, metadata.ErrUnknownOutcome):
			c.unknown++
		}
		counts[m.id] = c
	}
	documents := map[string]map[string]json.RawMessage{}
	for id, c := range counts {
		var text []byte
		var version int
		err := w.db.Pool().QueryRow(context.Background(), "SELECT metadata, version FROM lockstore_metadata WHERE id = $1", id).Scan(&text, &version)
		if errors.Is(err, pgx.ErrNoRows) {
			assert.Zero(w, c.acknowledged, "%s is missing", id)
			continue
		}
		require.NoError(w, err)
		var document map[string]json.RawMessage
		require.NoError(w, json.Unmarshal(text, &document))
		documents[id] = document
		assert.Len(w, document, version, "%s: its version counts the merges that are in it", id)
		assert.LessOrEqual(w, c.acknowledged, version, id)
		assert.LessOrEqual(w, version, c.acknowledged+c.unknown, id)
	}
	for _, m := range w.merges {
		_, found := documents[m.id][m.key]
		switch {
		case m.err == nil:
			assert.True(w, found, "%s: %s was acknowledged and is lost", m.id, m.key)
		case !errors.Is(m.err, metadata.ErrUnknownOutcome):
			assert.False(w, found, "%s: %s is there, though it failed: %v", m.id, m.key, m.err)
		}
	}
}

// merge merges a unique key into a document, and records the outcome.
func (w *world) merge(ctx context.Context, store metadata.MetadataStore, id string) (metadata.Document, error) {
	w.mu.Lock()
	key := fmt.Sprintf("k%d", len(w.merges))
	w.merges = append(w.merges, merge{id, key, metadata.ErrUnknownOutcome})
	n := len(w.merges) - 1
	w.mu.Unlock()
	doc, err := store.Merge(ctx, id, json.RawMessage(fmt.Sprintf("{%q:1}", key)))
	w.mu.Lock()
	w.merges[n].err = err
	w.mu.Unlock()
	return doc, err
}

// merged is merge that must succeed.
func (w *world) merged(store metadata.MetadataStore, id string) metadata.Document {
	w.Helper()
	doc, err := w.merge(w.ctx, store, id)
	require.NoError(w, err)
	return doc
}

// pool returns a pool for url; empty is the database itself.
func (w *world) pool(url string, max int32) *pgxpool.Pool {
	w.Helper()
	if url == "" {
		url = w.db.URL()
	}
	config, err := pgxpool.ParseConfig(url)
	require.NoError(w, err)
	config.MaxConns = max
	config.ConnConfig.ConnectTimeout = 5 * time.Second
	return w.open(config)
}

// open opens a pool until the test ends.
func (w *world) open(config *pgxpool.Config) *pgxpool.Pool {
	w.Helper()
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	require.NoError(w, err)
	w.Cleanup(func() { // a failed test may leave a connection in use
		closed := make(chan struct{})
		go func() { pool.Close(); close(closed) }()
		select {
		case <-closed:
		case <-time.After(patience):
			assert.Fail(w, "a pool's connections were not released")
		}
	})
	return pool
}

func (w *world) locker(pool *pgxpool.Pool, opts *lock.PostgresOptions) *lock.Postgres {
	w.Helper()
	if pool == nil {
		pool = w.pool("", 4)
	}
	locker, err := lock.NewPostgres(w.ctx, pool, opts)
	require.NoError(w, err)
	w.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		assert.NoError(w, locker.Close(ctx))
	})
	return locker
}

func (w *world) store(pool *pgxpool.Pool, opts *metadata.Options) *metadata.Postgres {
	w.Helper()
	if pool == nil {
		pool = w.pool("", 4)
	}
	store, err := metadata.NewPostgres(pool, opts)
	require.NoError(w, err)
	w.Cleanup(store.Close)
	return store
}

func (w *world) lock(l lock.Locker, key lock.Key) *lock.Held {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	held, err := l.Lock(ctx, key)
	require.NoError(w, err)
	return held
}

// unlocked locks and unlocks, to show that the key is free and the locker works.
func (w *world) unlocked(l lock.Locker, key lock.Key) {
	w.Helper()
	assert.NoError(w, w.lock(l, key).Unlock())
}

// waiter waits for a key, in another goroutine, and then unlocks it. It returns when the waiter
// is in the wait queue.
func (w *world) waiter(l lock.Locker, key lock.Key) (got <-chan struct{}) {
	w.Helper()
	ctx, done := locktest.Arriving(w.ctx), make(chan struct{})
	go func() {
		defer close(done)
		held, err := l.Lock(ctx, key)
		if assert.NoError(w, err) {
			assert.NoError(w, held.Unlock())
		}
	}()
	w.await(ctx.Arrived(), "the waiter to wait")
	return done
}

// lost waits until the holder learns of the loss.
func (w *world) lost(held *lock.Held) time.Time {
	w.Helper()
	w.await(held.Context().Done(), "the holder to be told")
	at := time.Now()
	assert.ErrorIs(w, context.Cause(held.Context()), lock.ErrLost)
	return at
}

func (w *world) await(done <-chan struct{}, what string) {
	w.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		require.FailNow(w, "still waiting", what)
	}
}

// soon waits for a condition.
func (w *world) soon(condition func() bool, what string) {
	w.Helper()
	require.Eventually(w, condition, patience, 2*time.Millisecond, what)
}

func (w *world) exec(sql string, args ...any) {
	w.Helper()
	_, err := w.db.Pool().Exec(w.ctx, sql, args...)
	require.NoError(w, err, sql)
}

func one[T any](w *world, sql string, args ...any) (value T) {
	w.Helper()
	require.NoError(w, w.db.Pool().QueryRow(w.ctx, sql, args...).Scan(&value), sql)
	return value
}

// blocked returns the number of backends of this database that wait for a lock.
func (w *world) blocked() int {
	return one[int](w, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
}

// queued returns the backend that waits in the server's queue for an advisory lock.
func (w *world) queued() (pid uint32) {
	for _, l := range w.db.Locks(w) {
		if !l.Granted {
			return l.PID
		}
	}
	return 0
}

func pidOf(held *lock.Held) uint32 {
	b, _ := held.Backend(held.Key())
	return b.PID
}

func raw(format string, args ...any) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(format, args...))
}

// silence is the Silence of impatient lockers.
const silence = 300 * time.Millisecond

// impatient returns a locker's options with a short Silence.
func impatient() *lock.PostgresOptions {
	return &lock.PostgresOptions{Silence: silence, HandOff: time.Millisecond}
}
