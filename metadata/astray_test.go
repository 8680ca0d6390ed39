package metadata_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// An astray is a store whose pool can be made to lead to another database, in which the
// documents are older.
type astray struct {
	*metadata.Postgres
	other *metadata.Postgres // the documents there
	dials atomic.Int32
	renew func(t *testing.T) // makes every connection anew

	// What new connections are: they lead elsewhere, or have read-only transactions.
	led, readOnly atomic.Bool
}

const astraySize = 3

// eachAstray runs a test over pgx or over database/sql, which is drawn, on a pool of three
// connections.
func eachAstray(t *testing.T, test func(t *testing.T, s *astray, l *lock.Postgres)) {
	for _, driver := range drawn("pgx", "sql") {
		t.Run(driver, func(t *testing.T) {
			here, elsewhere, s := pgtest.New(t), pgtest.New(t), new(astray)
			redirect := func(_ context.Context, c *pgx.ConnConfig) error {
				s.dials.Add(1)
				if s.led.Load() {
					c.Database = elsewhere.Name()
				}
				if s.readOnly.Load() {
					c.RuntimeParams = map[string]string{"default_transaction_read_only": "on"}
				}
				return nil
			}
			config, err := pgxpool.ParseConfig(here.URL())
			require.NoError(t, err)
			if config.MaxConns, config.BeforeConnect = astraySize, redirect; driver == "pgx" {
				pool := newPool(t, config)
				s.Postgres, err = metadata.NewPostgres(pool, nil)
				require.NoError(t, err)
				s.renew = func(t *testing.T) {
					pool.Reset()
					var conns [astraySize]*pgxpool.Conn
					for i := range conns {
						conns[i], err = pool.Acquire(t.Context())
						require.NoError(t, err)
					}
					for _, c := range conns {
						c.Release()
					}
				}
			} else {
				db := stdlib.OpenDB(*config.ConnConfig, stdlib.OptionBeforeConnect(redirect))
				t.Cleanup(func() { db.Close() })
				db.SetMaxOpenConns(astraySize)
				s.Postgres, err = metadata.NewPostgres(db, nil)
				require.NoError(t, err)
				s.renew = func(t *testing.T) {
					db.SetMaxIdleConns(-1)
					db.SetMaxIdleConns(astraySize)
					for range astraySize {
						c, err := db.Conn(t.Context())
						require.NoError(t, err)
						defer c.Close()
					}
				}
			}
			t.Cleanup(s.Close)
			require.NoError(t, s.Migrate(t.Context()))
			s.other = onPool(elsewhere, elsewhere.Pool()).migrated(t, nil)
			test(t, s, newLocker(t, here.Pool()))
		})
	}
}

// mislead has all idle connections lead elsewhere, and new ones lead here.
func (s *astray) mislead(t *testing.T) {
	s.led.Store(true)
	s.renew(t)
	s.led.Store(false)
	s.dials.Store(0)
}

// underALock are all that can be done under the lock of "a", which says {"n":2} of
// itself, and elsewhere {"n":1}.
var underALock = map[string]func(context.Context, *metadata.Postgres) (metadata.Document, error){
	"Get": func(ctx context.Context, s *metadata.Postgres) (metadata.Document, error) { return s.Get(ctx, "a") },
	"GetMany": func(ctx context.Context, s *metadata.Postgres) (metadata.Document, error) {
		found, err := s.GetMany(ctx, "a", "b")
		return found["a"], err
	},
	"Find": func(ctx context.Context, s *metadata.Postgres) (doc metadata.Document, err error) {
		for doc, err = range s.Find(ctx, raw(`{"n":2}`), nil) {
			return doc, err
		}
		return metadata.Document{}, fmt.Errorf("nothing found: %w", metadata.ErrNotFound)
	},
	"Update that reads": func(ctx context.Context, s *metadata.Postgres) (metadata.Document, error) {
		return s.Update(ctx, "a", func(metadata.Document) (json.RawMessage, error) { return nil, nil })
	},
	"Update": func(ctx context.Context, s *metadata.Postgres) (metadata.Document, error) {
		return s.Update(ctx, "a", func(doc metadata.Document) (json.RawMessage, error) { return doc.Metadata, nil })
	},
	"Merge that changes nothing": func(ctx context.Context, s *metadata.Postgres) (metadata.Document, error) {
		return s.Merge(ctx, "a", raw(`{}`))
	},
	"Merge": func(ctx context.Context, s *metadata.Postgres) (metadata.Document, error) {
		return s.Merge(ctx, "a", raw(`{"n":2}`))
	},
	"Replace": func(ctx context.Context, s *metadata.Postgres) (metadata.Document, error) {
		return s.Replace(ctx, "a", raw(`{"n":2}`))
	},
	"Delete": func(ctx context.Context, s *metadata.Postgres) (metadata.Document, error) {
		if err := s.Delete(ctx, "a"); err != nil {
			return metadata.Document{}, err
		}
		return s.Merge(ctx, "a", raw(`{"n":2}`))
	},
	"MergeMany": func(ctx context.Context, s *metadata.Postgres) (metadata.Document, error) {
		results, err := s.MergeMany(ctx, []metadata.Patch{{ID: "a", Patch: raw(`{"n":2}`)}})
		return results[0].Document, err
	},
}

// lockings are the ways in which a context comes by the lock.
var lockings = map[string]func(context.Context, *lock.Postgres, lock.Key) (context.Context, func() error, error){
	"Do's": func(ctx context.Context, l *lock.Postgres, k lock.Key) (context.Context, func() error, error) {
		held, err := l.Lock(ctx, k)
		return held.Context(), held.Unlock, err
	},
	"Bind's": func(ctx context.Context, l *lock.Postgres, k lock.Key) (context.Context, func() error, error) {
		held, err := l.Lock(ctx, k)
		bound, stop := held.Bind(ctx)
		return bound, func() error { stop(); return held.Unlock() }, err
	},
	"LockAll's": func(ctx context.Context, l *lock.Postgres, k lock.Key) (context.Context, func() error, error) {
		held, err := l.LockAll(ctx, lock.Name("another"), k, lock.Name("a third"))
		return held.Context(), held.Unlock, err
	},
}

// What is done under a lock is done where the lock is held, on whatever connection the
// pool gives, and those that lead elsewhere are closed.
func TestUnderALockNothingIsDoneElsewhere(t *testing.T) {
	t.Parallel() // it mostly waits
	eachAstray(t, func(t *testing.T, s *astray, l *lock.Postgres) {
		_, err := s.Merge(t.Context(), "a", raw(`{"n":2}`))
		require.NoError(t, err)
		before, err := s.other.Merge(t.Context(), "a", raw(`{"n":1}`))
		require.NoError(t, err)
		for how, hold := range lockings {
			for what, do := range underALock {
				if how != "Do's" && what != "Get" && what != "Merge" {
					continue
				}
				ctx, unlock, err := hold(t.Context(), l, s.Key("a"))
				require.NoError(t, err)
				s.mislead(t)
				doc, err := do(ctx, s.Postgres)
				if assert.NoError(t, err, "%s under %s", what, how) {
					assert.JSONEq(t, `{"n":2}`, string(doc.Metadata), "%s under %s", what, how)
				}
				dials := s.dials.Load()
				assert.LessOrEqual(t, dials, int32(astraySize+1))
				_, err = do(ctx, s.Postgres)
				assert.NoError(t, err)
				assert.Equal(t, dials, s.dials.Load(), "%s under %s: the connection stays", what, how)

				s.led.Store(true)
				s.renew(t)
				s.dials.Store(0)
				doc, err = do(ctx, s.Postgres)
				assert.ErrorIs(t, err, metadata.ErrUnknownHold, "%s under %s, while all connections lead elsewhere: %s", what, how, doc.Metadata)
				assert.ErrorIs(t, err, metadata.ErrWrongServer)
				assert.NotErrorIs(t, err, metadata.ErrUnknownOutcome)
				assert.LessOrEqual(t, s.dials.Load(), int32(astraySize+1))
				s.led.Store(false)
				require.NoError(t, unlock())
			}
		}
		after, err := s.other.Get(t.Context(), "a")
		require.NoError(t, err)
		assert.Equal(t, before, after)
	})
}

func TestSharedLockIsProvedByReaders(t *testing.T) {
	eachAstray(t, func(t *testing.T, s *astray, l *lock.Postgres) {
		_, err := s.Merge(t.Context(), "a", raw(`{"n":2}`))
		require.NoError(t, err)
		held, err := l.RLock(t.Context(), s.Key("a"))
		require.NoError(t, err)
		for _, what := range []string{"Get", "GetMany", "Find"} {
			s.mislead(t)
			doc, err := underALock[what](held.Context(), s.Postgres)
			require.NoError(t, err, what)
			assert.JSONEq(t, `{"n":2}`, string(doc.Metadata), what)
		}
		s.mislead(t)
		_, err = s.Get(held.Context(), "missing")
		assert.ErrorIs(t, err, metadata.ErrNotFound, "no lock of it is held")
		require.NoError(t, held.Unlock())
	})
}

// A host's transaction stays where it is.
func TestTransactionElsewhereIsToldThatItDoesNotKnowTheLock(t *testing.T) {
	here, elsewhere := overPgx(t), overPgx(t)
	store, other := here.migrated(t, nil), elsewhere.migrated(t, nil)
	_, err := other.Merge(t.Context(), "a", raw(`{"n":1}`))
	require.NoError(t, err)
	held, err := newLocker(t, here.Pool()).Lock(t.Context(), store.Key("a"))
	require.NoError(t, err)
	defer held.Unlock()

	native, err := elsewhere.Pool().Begin(t.Context())
	require.NoError(t, err)
	defer native.Rollback(context.Background())
	standard, err := elsewhere.SQLX().Beginx()
	require.NoError(t, err)
	defer standard.Rollback()
	for name, tx := range map[string]any{"pgx": native, "sqlx": standard} {
		_, err = store.In(tx).Get(held.Context(), "a")
		assert.ErrorIs(t, err, metadata.ErrUnknownHold, name)
		_, err = store.In(tx).Update(held.Context(), "a", func(metadata.Document) (json.RawMessage, error) {
			t.Error("decided on what another database says")
			return nil, nil
		})
		assert.ErrorIs(t, err, metadata.ErrUnknownHold, name)
		_, err = store.In(tx).Get(t.Context(), "a")
		assert.NoError(t, err, "%s: the transaction goes on", name)
	}
}

// A host that gets read-only transactions is told so, and costs the server no more
// connections than the pool can have, and one. Reading goes on.
func TestReadOnlyTransactionsCostFewConnections(t *testing.T) {
	eachAstray(t, func(t *testing.T, s *astray, l *lock.Postgres) {
		_, err := s.Merge(t.Context(), "a", raw(`{"n":2}`))
		require.NoError(t, err)
		for what, do := range underALock {
			s.readOnly.Store(true)
			s.renew(t)
			s.dials.Store(0)
			_, err := do(t.Context(), s.Postgres)
			if dials := s.dials.Load(); what == "Get" || what == "GetMany" || what == "Find" {
				assert.NoError(t, err, what)
				assert.Zero(t, dials, what)
				continue
			} else {
				assert.LessOrEqual(t, dials, int32(astraySize+1), what)
			}
			assert.ErrorIs(t, err, metadata.ErrReadOnly, what)
			assert.NotErrorIs(t, err, metadata.ErrStandby, what)
			assert.NotErrorIs(t, err, metadata.ErrRejected, what)
			assert.ErrorContains(t, err, "25006", what)
			s.readOnly.Store(false)
			s.dials.Store(0)
			_, err = do(t.Context(), s.Postgres)
			assert.NoError(t, err, "%s: on another connection", what)
			assert.LessOrEqual(t, s.dials.Load(), int32(astraySize+1), what)
		}
	})
}
