package metadata_test

import (
	"context"
	"encoding/json"
	"path"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
)

// A succession is two holds of the document a's lock, one after the other, in one
// process. The first has a write under way when it ends.
type succession struct {
	*testing.T
	d      *database
	store  *metadata.Postgres
	locker *lock.Postgres
	first  *lock.Held
}

func newSuccession(t *testing.T, d *database) *succession {
	s := &succession{T: t, d: d, store: d.migrated(t, nil)}
	_, err := s.store.Merge(t.Context(), "a", raw(`{"n":0}`))
	require.NoError(t, err)
	// A key that is unlocked or evicted goes to the next waiter here, however
	// slow the machine is.
	s.locker, err = lock.NewPostgres(t.Context(), d.Pool(), &lock.PostgresOptions{HandOff: time.Minute})
	require.NoError(t, err)
	t.Cleanup(func() { s.locker.Close(context.Background()) })
	s.first, err = s.locker.Lock(t.Context(), s.store.Key("a"))
	require.NoError(t, err)
	return s
}

// ending is how the first hold ends.
type ending func(*succession)

func evicted(s *succession)  { go s.locker.Evict(s.Context(), s.store.Key("a"), time.Hour) }
func unlocked(s *succession) { go s.first.Unlock() } // which may wait for the write

// taking is how the next hold begins.
type taking func(*lock.Postgres, context.Context, lock.Key) (*lock.Held, error)

func lockAll(l *lock.Postgres, ctx context.Context, key lock.Key) (*lock.Held, error) {
	return l.LockAll(ctx, key, lock.Name("another"))
}

// follow ends the first hold and has the next one begin, before or after finish
// ends the write under the first. It checks what the next holder relies on: once
// it holds the lock, the document stays as it is.
func (s *succession) follow(end ending, take taking, finish func()) {
	s.Helper()
	type reading struct {
		held *lock.Held
		doc  metadata.Document
		err  error
	}
	locked, began := make(chan struct{}), make(chan reading, 1)
	waiting := newArriving(s.Context())
	go func() {
		var r reading
		r.held, r.err = take(s.locker, waiting, s.store.Key("a"))
		close(locked)
		if r.err == nil {
			r.doc, r.err = s.store.Get(context.Background(), "a")
		}
		began <- r
	}()
	<-waiting.arrived
	require.Eventually(s, func() bool { return s.locker.Stats().Waiters == 1 }, patience, time.Millisecond)
	end(s)
	select {
	case <-s.first.Context().Done():
	case <-time.After(time.Second): // it, too, may wait for the write
	}
	var next reading
	select {
	case <-locked:
		next = <-began
	case <-time.After(100 * time.Millisecond): // it may have to wait for the write
	}
	finish()
	if next.held == nil {
		select {
		case next = <-began:
		case <-time.After(patience):
			require.Fail(s, "the next holder has not begun")
		}
	}
	require.NoError(s, next.err)
	after, err := s.store.Get(context.Background(), "a")
	require.NoError(s, err)
	assert.Equal(s, string(next.doc.Metadata), string(after.Metadata), "the document has changed under the next hold")
	assert.NoError(s, next.held.Context().Err())
	assert.NoError(s, next.held.Unlock())
}

// A write that has begun under a hold, and not ended with it, is either refused or
// made before the next holder begins.
func TestWriteOfAnEarlierHoldIsNotMadeUnderTheNext(t *testing.T) {
	t.Parallel() // it mostly waits
	type store = *metadata.Postgres
	merge := func(ctx context.Context, s store) error {
		_, err := s.Merge(ctx, "a", raw(`{"first":1}`))
		return err
	}
	mergeMany := func(ctx context.Context, s store) error {
		_, err := s.MergeMany(ctx, []metadata.Patch{{ID: "a", Patch: raw(`{"first":1}`)}})
		return err
	}
	update := func(ctx context.Context, s store) error {
		_, err := s.Update(ctx, "a", func(metadata.Document) (json.RawMessage, error) { return raw(`{"first":1}`), nil })
		return err
	}
	for name, c := range map[string]struct {
		write func(context.Context, store) error
		end   ending
		next  taking
	}{
		"evicted, then Lock":     {merge, evicted, (*lock.Postgres).Lock},
		"evicted, then RLock":    {merge, evicted, (*lock.Postgres).RLock},
		"unlocked, then Lock":    {merge, unlocked, (*lock.Postgres).Lock},
		"unlocked, then LockAll": {merge, unlocked, lockAll},
		"MergeMany, evicted":     {mergeMany, evicted, (*lock.Postgres).Lock},
		"Update, unlocked":       {update, unlocked, (*lock.Postgres).Lock},
	} {
		t.Run(name, func(t *testing.T) {
			eachTraced(t, func(t *testing.T, d *database, tr *tracer) {
				t.Parallel()
				s := newSuccession(t, d)
				stopped, resume := make(chan struct{}), make(chan struct{})
				tr.once(sending, "stored AS", func() { close(stopped); <-resume }) // the hold has been looked at
				write := begin(func() (metadata.Document, error) { return metadata.Document{}, c.write(s.first.Context(), s.store) })
				<-stopped
				var err error
				s.follow(c.end, c.next, func() {
					close(resume)
					err = write.wait(t, "the write").err
				})
				_, made := d.members(t)["first"]
				assert.Equal(t, made, err == nil, "%v", err)
				if err != nil {
					assert.ErrorIs(t, err, lock.ErrLost)
				}
			})
		})
	}
}

// A write in the host's transaction, which the host commits when the hold under
// which it was made is over.
func TestCommitOfAnEarlierHoldIsNotMadeUnderTheNext(t *testing.T) {
	t.Parallel() // it mostly waits
	for name, c := range map[string]struct {
		end  ending
		next taking
	}{
		"evicted, then Lock":     {evicted, (*lock.Postgres).Lock},
		"evicted, then RLock":    {evicted, (*lock.Postgres).RLock},
		"unlocked, then Lock":    {unlocked, (*lock.Postgres).Lock},
		"unlocked, then LockAll": {unlocked, lockAll},
	} {
		t.Run(name, func(t *testing.T) {
			eachDriver(t, func(t *testing.T, d *database) {
				t.Parallel()
				s := newSuccession(t, d)
				tx, commit := d.hostTx(t)
				_, err := s.store.In(tx).Merge(s.first.Context(), "a", raw(`{"first":1}`))
				require.NoError(t, err)
				s.follow(c.end, c.next, func() { require.NoError(t, commit()) })
				assert.Contains(t, d.members(t), "first")
			})
		})
	}
}

// hostTx begins a transaction of the host's by the test's driver.
func (d *database) hostTx(t *testing.T) (tx any, commit func() error) {
	t.Helper()
	if path.Base(t.Name()) == "pgx" {
		tx, err := d.Pool().Begin(t.Context())
		require.NoError(t, err)
		t.Cleanup(func() { tx.Rollback(context.Background()) })
		return tx, func() error { return tx.Commit(context.Background()) }
	}
	txx, err := d.SQLX().Beginx()
	require.NoError(t, err)
	t.Cleanup(func() { txx.Rollback() })
	return txx, txx.Commit
}
