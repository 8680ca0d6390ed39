package metadata_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/backoff"
	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

func newLocker(t testing.TB, pool *pgxpool.Pool) *lock.Postgres {
	locker, err := lock.NewPostgres(t.Context(), pool, nil)
	require.NoError(t, err)
	t.Cleanup(func() { locker.Close(context.Background()) })
	return locker
}

func TestHolderKeepsWritersOut(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		for _, inGo := range []bool{false, true} {
			ctx := t.Context()
			store, locker := d.migrated(t, &metadata.Options{MergeInGo: inGo}), newLocker(t, d.Pool())
			before, err := store.Merge(ctx, "a", raw(`{"n":0}`))
			require.NoError(t, err)
			for name, hold := range map[string]func(context.Context, lock.Key) (*lock.Held, error){"alone": locker.Lock, "shared": locker.RLock} {
				held, err := hold(ctx, store.Key("a"))
				require.NoError(t, err)
				impatient, cancel := context.WithCancelCause(ctx)
				failed := make(chan error)
				waits := store.Stats().Waits
				go func() {
					_, err := store.Merge(impatient, "a", raw(`{"n":1}`))
					failed <- err
				}()
				waitForWaits(t, store, waits+1)
				why := errors.New("impatience")
				cancel(why)
				err = <-failed
				require.ErrorIs(t, err, lock.ErrBusy, name)
				assert.ErrorIs(t, err, context.Canceled)
				assert.ErrorIs(t, err, why)
				var busy *lock.BusyError
				require.ErrorAs(t, err, &busy)
				assert.Equal(t, store.Key("a"), busy.Key)
				assert.Positive(t, busy.Attempts)
				doc, err := store.Get(ctx, "a")
				require.NoError(t, err)
				assert.Equal(t, before, doc, "nobody is kept from reading")

				_, err = store.Merge(ctx, "other", raw(`{"n":1}`))
				assert.NoError(t, err)
				waited := make(chan error)
				go func() {
					_, err := store.Merge(ctx, "a", raw(`{"n":0}`))
					waited <- err
				}()
				require.NoError(t, held.Unlock())
				assert.NoError(t, <-waited)
			}
			stats := store.Stats()
			assert.Equal(t, int64(2), stats.Busy)
		}
	})
}

func TestWriterGivesUpWithItsPolicy(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		store := d.migrated(t, &metadata.Options{Backoff: backoff.Limit(backoff.Exponential{Cap: time.Millisecond}, 3)})
		held, err := newLocker(t, d.Pool()).Lock(t.Context(), store.Key("a"))
		require.NoError(t, err)
		_, err = store.Merge(t.Context(), "a", raw(`{}`))
		assert.ErrorIs(t, err, lock.ErrBusy)
		assert.ErrorIs(t, err, backoff.ErrExhausted)
		require.NoError(t, held.Unlock())
		_, err = store.Get(t.Context(), "a")
		assert.ErrorIs(t, err, metadata.ErrNotFound, "nothing was created")
	})
}

// A write that waits for a lock fails as that is busy, also when its time is over just as it
// waits for a connection to ask again.
func TestBusyIsToldWhileWaitingForAConnection(t *testing.T) {
	db := pgtest.New(t)
	locker, pool := newLocker(t, db.Pool()), poolOfOne(t, db)
	store := onPool(db, pool).migrated(t, &metadata.Options{Backoff: backoff.Constant{Base: time.Microsecond}})
	_, err := store.Merge(t.Context(), "a", raw(`{}`))
	require.NoError(t, err)
	held, err := locker.Lock(t.Context(), store.Key("a"))
	require.NoError(t, err)
	for range 50 {
		ctx, cancel := context.WithCancel(t.Context())
		failed, waits := make(chan error), store.Stats().Waits
		go func() {
			_, err := store.Merge(ctx, "a", raw(`{"n":1}`))
			failed <- err
		}()
		waitForWaits(t, store, waits+1)
		conn, err := pool.Acquire(t.Context())
		require.NoError(t, err)
		cancel()
		err = <-failed
		assert.ErrorIs(t, err, lock.ErrBusy)
		assert.ErrorIs(t, err, context.Canceled)
		conn.Release()
	}
	require.NoError(t, held.Unlock())
}

func TestBusyTellsTheHolderWhereAskedFor(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		locker := newLocker(t, d.Pool())
		store := d.migrated(t, &metadata.Options{LockStatus: locker.Status, Backoff: backoff.Limit(backoff.Constant{}, 1)})
		held, err := locker.Lock(t.Context(), store.Key("a"))
		require.NoError(t, err)
		backend, _ := held.Backend(held.Key())
		_, err = store.Merge(t.Context(), "a", raw(`{"n":1}`))
		var busy *lock.BusyError
		require.ErrorAs(t, err, &busy)
		require.NotNil(t, busy.Status)
		require.Len(t, busy.Status.Holders, 1)
		assert.Equal(t, backend.PID, busy.Status.Holders[0].PID)
		assert.True(t, busy.Status.Holders[0].InThisLocker)
		require.NoError(t, held.Unlock())
	})
}

func TestHoldersOwnWritesGoThrough(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		store, locker := d.migrated(t, nil), newLocker(t, d.Pool())
		held, err := locker.Lock(t.Context(), store.Key("a"))
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		ctx, stop := held.Bind(ctx)
		defer stop()

		_, err = store.Merge(ctx, "a", raw(`{"merge":1}`))
		require.NoError(t, err)
		_, err = store.Update(ctx, "a", func(metadata.Document) (json.RawMessage, error) { return raw(`{"update":1}`), nil })
		require.NoError(t, err)
		_, err = store.MergeMany(ctx, []metadata.Patch{{ID: "a", Patch: raw(`{"many":1}`)}, {ID: "b", Patch: raw(`{"many":1}`)}})
		require.NoError(t, err)
		tx, err := d.SQLX().Beginx()
		require.NoError(t, err)
		defer tx.Rollback()
		doc, err := store.In(tx).Merge(ctx, "a", raw(`{"tx":1}`))
		require.NoError(t, err)
		assert.Equal(t, `{"tx": 1, "many": 1, "merge": 1, "update": 1}`, string(doc.Metadata))
		guard := func() (free bool) {
			require.NoError(t, d.Pool().QueryRow(ctx, "SELECT pg_try_advisory_xact_lock($1)", store.Key("a").Guard()).Scan(&free))
			return free
		}
		assert.False(t, guard(), "until the write is committed")
		require.NoError(t, tx.Commit())
		assert.True(t, guard())
		_, err = store.Replace(ctx, "a", raw(`{}`))
		require.NoError(t, err)
		require.NoError(t, store.Delete(ctx, "a"))

		require.NoError(t, held.Unlock())
		_, err = store.Merge(held.Context(), "a", raw(`{"late":1}`))
		assert.ErrorIs(t, err, lock.ErrReleased)
		_, err = store.Get(t.Context(), "a")
		assert.ErrorIs(t, err, metadata.ErrNotFound)
	})
}

// Who waits for a connection is told of the loss, too.
func TestLossIsToldWhileWaitingForAConnection(t *testing.T) {
	d := &database{DB: pgtest.New(t)}
	locker, pool := newLocker(t, d.Pool()), poolOfOne(t, d.DB)
	single := stdlib.OpenDB(*d.Pool().Config().ConnConfig)
	defer single.Close()
	single.SetMaxOpenConns(1)
	overPgx, err := metadata.NewPostgres(pool, nil)
	require.NoError(t, err)
	overSQL, err := metadata.NewPostgres(single, nil)
	require.NoError(t, err)
	require.NoError(t, overPgx.Migrate(t.Context()))
	inUse, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer inUse.Release()
	inUseToo, err := single.Conn(t.Context())
	require.NoError(t, err)
	defer inUseToo.Close()

	for name, store := range map[string]*metadata.Postgres{"pgx": overPgx, "sql": overSQL} {
		held, err := locker.Lock(t.Context(), store.Key("a"))
		require.NoError(t, err)
		merging, reading := newArriving(held.Context()), newArriving(held.Context())
		failed := make(chan error, 2)
		go func() {
			_, err := store.Merge(merging, "a", raw(`{"n":1}`))
			failed <- err
		}()
		go func() {
			_, err := store.Get(reading, "a")
			failed <- err
		}()
		<-merging.arrived
		<-reading.arrived
		backend, _ := held.Backend(store.Key("a"))
		require.NoError(t, d.Terminate(backend.PID))
		for range 2 {
			err := <-failed
			assert.ErrorIs(t, err, lock.ErrLost, name)
			assert.ErrorIs(t, err, context.Canceled, name)
		}
		assert.ErrorIs(t, held.Unlock(), lock.ErrLost)
	}
}

// A caller that stands still in the middle of a write, with or without a hold, keeps neither
// the key nor the document for good: the server ends its transaction, or Evict does before.
func TestStuckWriterKeepsNothingForGood(t *testing.T) {
	t.Parallel() // it mostly waits
	eachDriver(t, func(t *testing.T, d *database) {
		t.Parallel()
		locker := newLocker(t, d.Pool())
		for name, c := range map[string]struct {
			timeout time.Duration
			hold    bool
			evict   bool
		}{
			"hold, ended by the server":    {time.Second, true, false},
			"no hold, ended by the server": {time.Second, false, false},
			"hold, evicted":                {time.Hour, true, true},
			"no hold, evicted":             {time.Hour, false, true},
		} {
			t.Run(name, func(t *testing.T) {
				stuck, store := d.migrated(t, &metadata.Options{Timeout: c.timeout}), d.migrated(t, nil)
				before, err := store.Merge(t.Context(), "a", raw(`{"n":0}`))
				require.NoError(t, err)
				key, ctx := store.Key("a"), t.Context()
				if c.hold {
					held, err := locker.Lock(t.Context(), key)
					require.NoError(t, err)
					defer held.Unlock()
					ctx = held.Context()
				}
				deciding, resume, failed := make(chan struct{}), make(chan struct{}), make(chan error)
				go func() {
					_, err := stuck.Update(ctx, "a", func(metadata.Document) (json.RawMessage, error) {
						close(deciding)
						<-resume // like a process that is stopped
						return raw(`{"n":1}`), nil
					})
					failed <- err
				}()
				<-deciding
				if c.hold {
					backend, _ := lock.FromContext(ctx, key).Backend(key)
					require.NoError(t, d.Terminate(backend.PID))
				}
				if c.evict {
					status, err := locker.Status(t.Context(), key)
					require.NoError(t, err)
					if assert.Len(t, status.Holders, 1) {
						assert.Equal(t, c.hold, status.Holders[0].Writing)
					}
					require.NoError(t, locker.Evict(t.Context(), key, time.Millisecond))
				}
				successor, err := locker.Lock(t.Context(), key)
				require.NoError(t, err)
				after, err := store.Merge(successor.Context(), "a", raw(`{"successor":1}`))
				require.NoError(t, err)
				assert.Equal(t, before.Version+1, after.Version)
				assert.NoError(t, successor.Unlock())
				close(resume)
				err = <-failed
				assert.Error(t, err)
				if !c.evict { // whoever is terminated cannot tell when
					assert.NotErrorIs(t, err, metadata.ErrUnknownOutcome)
				}
				if c.hold {
					assert.ErrorIs(t, err, lock.ErrLost)
				}
				doc, err := store.Get(t.Context(), "a")
				require.NoError(t, err)
				assert.Equal(t, after, doc)
				require.NoError(t, store.Delete(t.Context(), "a"))
			})
		}
	})
}

func TestSharedHoldDoesNotAllowToWrite(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		store := d.migrated(t, nil)
		held, err := newLocker(t, d.Pool()).RLock(t.Context(), store.Key("a"))
		require.NoError(t, err)
		_, err = store.Merge(held.Context(), "a", raw(`{"n":1}`))
		assert.ErrorIs(t, err, metadata.ErrSharedHold)
		require.NoError(t, held.Unlock())
	})
}

func TestHoldOfAMemoryLockerIsNoHold(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		store := d.migrated(t, nil)
		held := locked(t, lock.NewMemory().Lock, t.Context(), store.Key("a"))
		_, err := store.Merge(held.Context(), "a", raw(`{"n":1}`))
		require.NoError(t, err)
	})
}

// A keeper keeps the last error that it was told of.
type keeper struct{ err error }

func (*keeper) AcquireStart(ctx context.Context, _ lock.AcquireStart) context.Context { return ctx }
func (k *keeper) AcquireEnd(_ context.Context, a lock.AcquireEnd)                     { k.err = a.Err }

// An observer of the locker may read an error later, so the one that it was given does not change.
func TestErrorThatALockersObserverWasToldOfStaysAsItIs(t *testing.T) {
	var kept keeper
	locker := lock.NewMemory(&kept)
	store, err := metadata.NewMemory(locker, &metadata.Options{LockStatus: locker.Status})
	require.NoError(t, err)
	held := locked(t, locker.Lock, t.Context(), store.Key("a"))
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err = store.Merge(ctx, "a", raw(`{}`))
	var busy, told *lock.BusyError
	require.ErrorAs(t, err, &busy)
	assert.NotNil(t, busy.Status)
	require.ErrorAs(t, kept.err, &told)
	assert.Nil(t, told.Status)
	require.NoError(t, held.Unlock())
}

func TestMemoryHeedsTheHoldsOfItsOwnLocker(t *testing.T) {
	own := lock.NewMemory()
	store, err := metadata.NewMemory(own, nil)
	require.NoError(t, err)
	held, err := own.Lock(t.Context(), store.Key("a"))
	require.NoError(t, err)
	other, err := lock.NewMemory().Lock(t.Context(), store.Key("a"))
	require.NoError(t, err)

	ctx, cancel := context.WithTimeout(other.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = store.Merge(ctx, "a", raw(`{"n":1}`))
	assert.ErrorIs(t, err, lock.ErrBusy, "another has the document's lock")

	within, stop := other.Bind(held.Context())
	defer stop()
	_, err = store.Merge(within, "a", raw(`{"n":1}`))
	assert.NoError(t, err, "the hold that counts is further out in the context")
	require.NoError(t, held.Unlock())
}

// stopped is the hold of a process that does not know what has become of it
// since: stopped, say, and continued.
type stopped struct{ backend lock.Backend }

func (s stopped) Unlock() error                         { return nil }
func (s stopped) Fence(context.Context) (int64, error)  { return 0, errors.New("stopped") }
func (s stopped) Backend(lock.Key) (lock.Backend, bool) { return s.backend, true }

func TestTheServerKnowsBetterWhoHoldsTheLock(t *testing.T) {
	t.Parallel() // it mostly waits
	eachDriver(t, func(t *testing.T, d *database) {
		ctx := t.Context()
		store := d.migrated(t, nil)
		key := store.Key("a")
		before, err := store.Merge(ctx, "a", raw(`{"n":0}`))
		require.NoError(t, err)
		session := func() (*pgx.Conn, lock.Backend) {
			conn, err := pgx.Connect(ctx, d.URL())
			require.NoError(t, err)
			t.Cleanup(func() { conn.Close(context.Background()) })
			var b lock.Backend
			require.NoError(t, conn.QueryRow(ctx, "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()").Scan(&b.PID, &b.Start))
			return conn, b
		}
		conn, backend := session()
		other, _ := session()
		_, err = conn.Exec(ctx, "SELECT pg_advisory_lock($1)", key.Int64())
		require.NoError(t, err)

		refused := func(b lock.Backend, why string) {
			t.Helper()
			held, _ := lock.NewHeld(ctx, stopped{b}, false, key)
			writes := map[string]func() error{
				"merge":  func() error { _, err := store.Merge(held.Context(), "a", raw(`{"n":1}`)); return err },
				"delete": func() error { return store.Delete(held.Context(), "a") },
				"update": func() error {
					_, err := store.Update(held.Context(), "a", func(metadata.Document) (json.RawMessage, error) { return raw(`{"n":1}`), nil })
					return err
				},
			}
			for name, write := range writes {
				assert.ErrorIs(t, write(), lock.ErrLost, "%s, %s", name, why)
			}
			doc, err := store.Get(ctx, "a")
			require.NoError(t, err)
			assert.Equal(t, before, doc, why)
		}
		refused(lock.Backend{PID: backend.PID, Start: backend.Start.Add(-time.Microsecond)}, "the process id has been used again")
		held, _ := lock.NewHeld(ctx, stopped{backend}, false, key)
		before, err = store.Merge(held.Context(), "a", raw(`{"n":2}`))
		require.NoError(t, err, "the session still holds the lock")

		_, err = conn.Exec(ctx, "SELECT pg_advisory_unlock($1)", key.Int64())
		require.NoError(t, err)
		refused(backend, "the lock is free")
		_, err = conn.Exec(ctx, "SELECT pg_advisory_lock_shared($1)", key.Int64())
		require.NoError(t, err)
		refused(backend, "the lock is shared")
		_, err = conn.Exec(ctx, "SELECT pg_advisory_unlock_all()")
		require.NoError(t, err)
		_, err = other.Exec(ctx, "SELECT pg_advisory_lock($1)", key.Int64())
		require.NoError(t, err)
		refused(backend, "another session has the lock")
		_, err = other.Exec(ctx, "SELECT pg_advisory_unlock_all(), pg_advisory_lock_shared($1)", key.Guard())
		require.NoError(t, err)
		_, err = conn.Exec(ctx, "SELECT pg_advisory_lock($1)", key.Int64())
		require.NoError(t, err)
		brief, cancel := context.WithTimeout(held.Context(), 500*time.Millisecond)
		defer cancel()
		_, err = store.Merge(brief, "a", raw(`{"n":3}`))
		assert.ErrorIs(t, err, lock.ErrBusy, "somebody looks at the guard")
		_, err = other.Exec(ctx, "SELECT pg_advisory_unlock_all()")
		require.NoError(t, err)
		_, err = store.Merge(held.Context(), "a", raw(`{"n":3}`))
		assert.NoError(t, err)
	})
}

// A locker can be led to another database than the store, by PostgresOptions.Connect. What
// it holds there is no lock of the document, and nothing is written under it.
func TestLockInAnotherDatabaseIsNoLock(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		ctx := t.Context()
		store, other := d.migrated(t, nil), pgtest.New(t)
		before, err := store.Merge(ctx, "a", raw(`{"n":1}`))
		require.NoError(t, err)
		locker, err := lock.NewPostgres(ctx, other.Pool(), &lock.PostgresOptions{Connect: lock.ConnectTo(other.URL())})
		require.NoError(t, err)
		t.Cleanup(func() { locker.Close(context.Background()) })
		err = lock.Do(ctx, locker, store.Key("a"), func(ctx context.Context) error {
			_, err := store.Merge(ctx, "a", raw(`{"n":2}`))
			return err
		})
		assert.ErrorIs(t, err, lock.ErrLost)
		doc, err := store.Get(ctx, "a")
		require.NoError(t, err)
		assert.Equal(t, before, doc)
	})
}

// A write is as good as every hold that its context carries, whatever they are of: that of
// a leader, say, who leads no longer.
func TestWriteIsAsGoodAsEveryHoldOfItsContext(t *testing.T) {
	t.Parallel() // it connects anew all the time, while others wait
	aDriver(t, func(t *testing.T, d *database) {
		operator := newLocker(t, d.Pool())
		writes := map[string]func(ctx context.Context, s *metadata.Postgres) error{
			"Merge": func(ctx context.Context, s *metadata.Postgres) error {
				_, err := s.Merge(ctx, "a", raw(`{"late":1}`))
				return err
			},
			"Merge of a new document": func(ctx context.Context, s *metadata.Postgres) error {
				_, err := s.Merge(ctx, "new", raw(`{"late":1}`))
				return err
			},
			"Update": func(ctx context.Context, s *metadata.Postgres) error {
				_, err := s.Update(ctx, "a", func(metadata.Document) (json.RawMessage, error) { return raw(`{"late":1}`), nil })
				return err
			},
			"Replace": func(ctx context.Context, s *metadata.Postgres) error {
				_, err := s.Replace(ctx, "a", raw(`{"late":1}`))
				return err
			},
			"Delete": func(ctx context.Context, s *metadata.Postgres) error { return s.Delete(ctx, "a") },
			"MergeMany": func(ctx context.Context, s *metadata.Postgres) error {
				_, err := s.MergeMany(ctx, []metadata.Patch{{ID: "a", Patch: raw(`{"late":1}`)}, {ID: "new", Patch: raw(`{"late":1}`)}})
				return err
			},
			"In": func(ctx context.Context, s *metadata.Postgres) error {
				tx, err := d.SQLX().Beginx()
				if err != nil {
					return err
				}
				_, err = s.In(tx).Merge(context.WithoutCancel(ctx), "a", raw(`{"late":1}`))
				return errors.Join(err, tx.Commit())
			},
		}
		store := d.migrated(t, &metadata.Options{Timeout: time.Minute}) // each write connects anew
		for name, write := range writes {
			for carried, hold := range map[string]func(context.Context, *lock.Postgres) (lost, other *lock.Held){
				"one": func(ctx context.Context, l *lock.Postgres) (lost, other *lock.Held) {
					lost = locked(t, l.Lock, ctx, lock.Name("leader"))
					return lost, lost
				},
				"a shared one": func(ctx context.Context, l *lock.Postgres) (lost, other *lock.Held) {
					lost = locked(t, l.RLock, ctx, lock.Name("leader"))
					return lost, lost
				},
				"the document's and another": func(ctx context.Context, l *lock.Postgres) (lost, other *lock.Held) {
					lost = locked(t, l.Lock, ctx, lock.Name("leader"))
					return lost, locked(t, operator.Lock, lost.Context(), store.Key("a"))
				},
				"several": func(ctx context.Context, l *lock.Postgres) (lost, other *lock.Held) {
					other = locked(t, operator.RLock, ctx, lock.Name("term"))
					lost = locked(t, l.Lock, other.Context(), lock.Name("leader"))
					return lost, other
				},
			} {
				name := name + " under " + carried
				l := newLocker(t, d.Pool())
				before, err := store.Replace(t.Context(), "a", raw(`{"n":0}`))
				require.NoError(t, err)
				lost, other := hold(t.Context(), l)
				ctx := context.WithoutCancel(lost.Context())
				if carried == "the document's and another" {
					ctx = context.WithoutCancel(other.Context())
				}
				_, err = store.Merge(ctx, "a", raw(`{"n":1}`))
				require.NoError(t, err, name)
				_, err = store.Merge(t.Context(), "b", raw(`{}`))
				require.NoError(t, err)
				// It is lost to the server, which nobody here can know.
				backend, _ := lost.Backend(lost.Key())
				unknown, _ := lock.NewHeld(ctx, staleHold{lost, backend}, lost.Shared(), lost.Key())
				require.NoError(t, d.Terminate(backend.PID))
				require.Eventually(t, func() bool { return lost.Context().Err() != nil }, 10*time.Second, time.Millisecond)
				assert.ErrorIs(t, write(ctx, store), lock.ErrLost, name)
				assert.ErrorIs(t, write(unknown.Context(), store), metadata.ErrUnknownHold, name)
				doc, err := store.Get(t.Context(), "a")
				require.NoError(t, err, name)
				assert.Equal(t, `{"n": 1}`, string(doc.Metadata), name)
				assert.Equal(t, before.Version+1, doc.Version)
				_, err = store.Get(t.Context(), "new")
				assert.ErrorIs(t, err, metadata.ErrNotFound, name)
				if other != lost {
					require.NoError(t, other.Unlock())
				}
			}
		}
	})
}

// A staleHold is one whose end its holder has not heard of.
type staleHold struct {
	*lock.Held
	backend lock.Backend
}

func (h staleHold) Backend(lock.Key) (lock.Backend, bool) { return h.backend, true }
func (staleHold) Writing() (func(), error)                { return func() {}, nil }

func locked(t testing.TB, take func(context.Context, lock.Key) (*lock.Held, error), ctx context.Context, key lock.Key) *lock.Held {
	held, err := take(ctx, key)
	require.NoError(t, err)
	return held
}

// What follows a hold comes after the last write that was made under it, also where that
// is a write of something else in a transaction that takes its time: and writes under one
// hold are not in each other's way.
func TestNextHolderComesAfterEveryWriteUnderTheHold(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		store, one, other := d.migrated(t, nil), newLocker(t, d.Pool()), newLocker(t, d.Pool())
		leader := lock.Name("leader")
		held := locked(t, one.Lock, t.Context(), leader)
		tx, err := d.SQLX().Beginx()
		require.NoError(t, err)
		defer tx.Rollback()
		_, err = store.In(tx).Merge(held.Context(), "a", raw(`{"n":1}`))
		require.NoError(t, err)
		_, err = store.Merge(held.Context(), "b", raw(`{"n":1}`))
		require.NoError(t, err, "beside the other")
		status, err := other.Status(t.Context(), leader)
		require.NoError(t, err)
		require.Len(t, status.Holders, 2)
		assert.True(t, status.Holders[1].Writing)

		require.NoError(t, held.Unlock())
		for _, l := range []*lock.Postgres{one, other} {
			_, err = l.TryLock(t.Context(), leader)
			assert.ErrorIs(t, err, lock.ErrBusy)
			share, err := l.TryRLock(t.Context(), leader)
			require.NoError(t, err, "who shares does not wait for it")
			require.NoError(t, share.Unlock())
		}
		require.NoError(t, tx.Commit())
		for _, l := range []*lock.Postgres{one, other} {
			held, err := l.TryLock(t.Context(), leader)
			require.NoError(t, err)
			require.NoError(t, held.Unlock())
		}
	})
}
