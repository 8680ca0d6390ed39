package metadata_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// withTokens are options for stores on the default table, and its tokens.
func withTokens(o metadata.Options) *metadata.Options {
	o.Table.Tokens = metadata.DefaultTokens
	return &o
}

// increment counts in a document.
func increment(doc metadata.Document) (json.RawMessage, error) {
	var counted struct{ N int }
	err := json.Unmarshal(doc.Metadata, &counted)
	return raw(`{"N":%d}`, counted.N+1), err
}

func TestOnceTellsWhatBecameOfALostReply(t *testing.T) {
	for _, driver := range []string{"pgx", "sql"} {
		t.Run(driver, func(t *testing.T) {
			ctx, db := t.Context(), pgtest.New(t)
			proxy := pgtest.NewProxy(t, db)
			store := throughProxy(t, proxy, driver, withTokens(metadata.Options{}))
			require.NoError(t, store.Migrate(ctx))
			for i := range 3 { // the last has the statement prepared
				_, err := store.Once(fmt.Sprint("before", i)).Merge(ctx, "a", raw(`{"n":%d}`, i))
				require.NoError(t, err)
			}
			failed := make(chan error)
			unheard(t, db, proxy, func() {
				_, err := store.Once("t").Merge(ctx, "a", raw(`{"n":"t"}`))
				failed <- err
			})
			require.ErrorIs(t, <-failed, metadata.ErrUnknownOutcome)
			proxy.Restore()
			_, err := store.Merge(ctx, "a", raw(`{"n":"other"}`))
			require.NoError(t, err)

			doc, err := store.Once("t").Merge(ctx, "a", raw(`{"n":"t"}`))
			require.NoError(t, err)
			assert.True(t, doc.Repeated)
			assert.Equal(t, int64(4), doc.Made)
			assert.Equal(t, `{"n": "other"}`, string(doc.Metadata), "what others have written since stays")
		})
	}
}

// Several processes make the same writes at the same time, alone and in each other's
// commits, for all sizes of these.
func TestOnceInManyProcessesAtATime(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		for _, batch := range []int{1, 3, 0} {
			for kind, inGo := range map[string]bool{"function": false, "merge in Go": true} {
				t.Run(fmt.Sprintf("%d/%s", batch, kind), func(t *testing.T) {
					ctx, id := t.Context(), t.Name()
					const processes, writes = 3, 40
					made := make([]map[int64]bool, writes)
					firsts := make([]int, writes)
					var mu sync.Mutex
					var callers sync.WaitGroup
					for range processes {
						store := d.migrated(t, withTokens(metadata.Options{MaxBatch: batch, MergeInGo: inGo}))
						for i := range writes {
							callers.Go(func() {
								once := store.Once(fmt.Sprint(i))
								doc, err := metadata.Document{}, error(nil)
								if i%2 == 0 {
									doc, err = once.Merge(ctx, id, raw(`{"w%d":1}`, i))
								} else {
									doc, err = once.Update(ctx, id, increment)
								}
								if !assert.NoError(t, err) {
									return
								}
								mu.Lock()
								defer mu.Unlock()
								version := doc.Made
								if !doc.Repeated {
									version = doc.Version
									firsts[i]++
								}
								if made[i] == nil {
									made[i] = map[int64]bool{}
								}
								made[i][version] = true
							})
						}
					}
					callers.Wait()
					versions := map[int64]bool{}
					for i := range writes {
						assert.Equal(t, 1, firsts[i], "write %d", i)
						require.Len(t, made[i], 1, "write %d", i)
						for v := range made[i] {
							versions[v] = true
						}
					}
					assert.Len(t, versions, writes, "each has made a version of its own")
					doc, err := d.store(t, nil).Get(ctx, id)
					require.NoError(t, err)
					assert.Equal(t, int64(writes), doc.Version)
				})
			}
		}
	})
}

// Writes that wait for the same commit: one of those with the same token is made, the
// others are told of it, and what is refused leaves no token.
func TestOnceOfOneCommit(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		ctx, store := t.Context(), d.migrated(t, withTokens(metadata.Options{}))
		_, err := store.Merge(ctx, "a", raw(`{"N":0}`))
		require.NoError(t, err)
		d.exec(t, `ALTER TABLE lockstore_metadata ADD CONSTRAINT no_bad CHECK (NOT metadata ? 'bad')`)
		locks := newLocker(t, d.Pool())
		held, err := locks.Lock(ctx, store.Key("a"))
		require.NoError(t, err)
		var callers sync.WaitGroup
		var mu sync.Mutex
		told := map[string][]metadata.Document{}
		for n := range 4 {
			callers.Go(func() {
				doc, err := store.Once("count").Update(ctx, "a", increment)
				assert.NoError(t, err)
				mu.Lock()
				defer mu.Unlock()
				told["count"] = append(told["count"], doc)
			})
			callers.Go(func() {
				_, err := store.Once("bad").Merge(ctx, "a", raw(`{"bad":1}`))
				assert.ErrorIs(t, err, metadata.ErrRejected)
			})
			callers.Go(func() {
				_, err := store.Once("x").Replace(ctx, "b", raw(`{"n":%d}`, n))
				if err != nil {
					assert.ErrorIs(t, err, metadata.ErrTokenReused)
				}
			})
		}
		waitForWaits(t, store, 1)
		require.NoError(t, held.Unlock())
		callers.Wait()
		firsts := 0
		for _, doc := range told["count"] {
			assert.Equal(t, int64(2), max(doc.Made, doc.Version))
			if !doc.Repeated {
				firsts++
			}
		}
		assert.Equal(t, 1, firsts)
		doc, err := store.Get(ctx, "a")
		require.NoError(t, err)
		assert.Equal(t, `{"N": 1}`, string(doc.Metadata))
		doc, err = store.Once("bad").Merge(ctx, "a", raw(`{"good":1}`))
		require.NoError(t, err)
		assert.False(t, doc.Repeated, "what was rejected has left no token")
	})
}

func TestOnceUnderAHold(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		store := d.migrated(t, withTokens(metadata.Options{}))
		locks := newLocker(t, d.Pool())
		for name, key := range map[string]lock.Key{"own": store.Key("own"), "another": lock.Name("another")} {
			for range 2 {
				err := lock.Do(t.Context(), locks, key, func(ctx context.Context) error {
					for _, token := range []string{"merge", "idle"} {
						patch := map[string]json.RawMessage{"merge": raw(`{"n":%q}`, name), "idle": raw(`{}`)}[token]
						doc, err := store.Once(token+name).Merge(ctx, "own", patch)
						if err != nil {
							return err
						}
						again, err := store.Once(token+name).Merge(ctx, "own", patch)
						if err != nil {
							return err
						}
						assert.True(t, again.Repeated)
						if !doc.Repeated {
							doc.Made = doc.Version
						}
						assert.Equal(t, doc.Made, again.Made)
						assert.Equal(t, doc.Version, again.Version)
					}
					return nil
				})
				require.NoError(t, err)
			}
		}
		doc, err := store.Get(t.Context(), "own")
		require.NoError(t, err)
		assert.Equal(t, int64(2), doc.Version)
	})
}

func TestOnceInTheHostsTransaction(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		ctx, store := t.Context(), d.migrated(t, withTokens(metadata.Options{}))
		failed := errors.New("the host's")
		for _, commits := range []bool{false, true, true} {
			var doc metadata.Document
			err := d.inTx(ctx, func(tx any) error {
				for i := range 2 {
					decided := 0
					var err error
					doc, err = store.Once("t").In(tx).Update(ctx, "a", func(doc metadata.Document) (json.RawMessage, error) {
						decided++
						return increment(doc)
					})
					if !assert.NoError(t, err) {
						return err
					}
					assert.Equal(t, doc.Repeated, decided == 0, "a repetition does not decide")
					if i == 1 {
						assert.True(t, doc.Repeated)
					}
				}
				if !commits {
					return failed
				}
				return nil
			})
			if commits {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, failed)
			}
			assert.Equal(t, int64(1), doc.Made)
			assert.Equal(t, `{"N": 1}`, string(doc.Metadata))
		}
		doc, err := store.Get(ctx, "a")
		require.NoError(t, err)
		assert.Equal(t, int64(1), doc.Version)
	})
}

// A table whose rows are the host's, without versions, of several tenants.
func TestOnceInAHostsTable(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		ctx := t.Context()
		d.exec(t, `CREATE SCHEMA app; CREATE TABLE app.users (id bigint, tenant text, profile jsonb, PRIMARY KEY (id, tenant));
			INSERT INTO app.users SELECT 7, tenant, NULL FROM unnest('{a,b}'::text[]) AS tenant`)
		table := metadata.Table{Schema: "app", Name: "users", IDType: metadata.BigInt, Column: "profile", Tokens: `odd "name"`}
		of := func(tenant string) *metadata.Postgres {
			table.Scope = []metadata.Scope{{Column: "tenant", Value: tenant}}
			return d.migrated(t, &metadata.Options{Table: table})
		}
		a, b := of("a"), of("b")
		for _, store := range []*metadata.Postgres{a, b} {
			doc, err := store.Once("t").Merge(ctx, "7", raw(`{"n":1}`))
			require.NoError(t, err)
			assert.False(t, doc.Repeated, "another tenant's document is another")
		}
		doc, err := a.Once("t").Merge(ctx, "07", raw(`{"n":1}`))
		require.NoError(t, err)
		assert.True(t, doc.Repeated)
		assert.Zero(t, doc.Made)
		assert.Equal(t, `{"n": 1}`, string(doc.Metadata))
		d.exec(t, `DELETE FROM app.users`)
		doc, err = a.Once("t").Merge(ctx, "7", raw(`{"n":1}`))
		require.NoError(t, err, "it was made, though the row is gone")
		assert.True(t, doc.Repeated)
		assert.Empty(t, doc.Metadata)
		_, err = a.Once("u").Merge(ctx, "7", raw(`{"n":1}`))
		assert.ErrorIs(t, err, metadata.ErrNotFound)
	})
}

func TestOnceOfMergeMany(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		ctx, store := t.Context(), d.migrated(t, withTokens(metadata.Options{}))
		patches := []metadata.Patch{
			{ID: "a", Patch: raw(`{"n":1}`), Token: "1"}, {ID: "b", Patch: raw(`{"n":1}`), Token: "1"}, {ID: "c", Patch: raw(`{"n":1}`)},
			{ID: "a", Patch: raw(`{"m":1}`), Token: "2"}, {ID: "a", Patch: raw(`{"n":1}`), Token: "1"},
		}
		for i := range 2 {
			results, err := store.MergeMany(ctx, patches)
			require.NoError(t, err)
			for n, r := range results {
				assert.Equal(t, n == 4 || i == 1 && n != 2, r.Document.Repeated, "%d of call %d", n, i)
			}
		}
		patches[0].Patch = raw(`{"n":2}`)
		results, err := store.Once("all").MergeMany(ctx, patches)
		assert.ErrorIs(t, err, metadata.ErrTokenReused)
		assert.ErrorIs(t, results[0].Err, metadata.ErrTokenReused)
		assert.False(t, results[2].Document.Repeated)
		results, err = store.Once("all").MergeMany(ctx, patches[2:3])
		require.NoError(t, err)
		assert.True(t, results[0].Document.Repeated)
		doc, err := store.Get(ctx, "a")
		require.NoError(t, err)
		assert.Equal(t, `{"m": 1, "n": 1}`, string(doc.Metadata))
		assert.Equal(t, int64(2), doc.Version)
	})
}

// Tokens that are old enough go a few at a time, two for each that comes in the mean, those
// that are not stay, and a repetition removes none.
func TestTokensGoByAge(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		ctx, store := t.Context(), d.migrated(t, withTokens(metadata.Options{KeepTokens: time.Hour}))
		count := func() (n int) {
			require.NoError(t, d.Pool().QueryRow(ctx, `SELECT count(*) FROM lockstore_once`).Scan(&n))
			return n
		}
		repeat := func() {
			before := count()
			doc, err := store.Once("kept").Merge(ctx, "a", raw(`{"n":0}`))
			require.NoError(t, err)
			assert.True(t, doc.Repeated)
			assert.Equal(t, before, count())
		}
		_, err := store.Once("kept").Merge(ctx, "a", raw(`{"n":0}`))
		require.NoError(t, err)
		const many = 128
		d.exec(t, `UPDATE lockstore_once SET at = now() - interval '59 minutes'`)
		d.exec(t, fmt.Sprintf(`INSERT INTO lockstore_once SELECT gen_random_uuid(), gen_random_uuid(), 1, now() - interval '61 minutes' FROM generate_series(1, %d)`, 2*many+7))
		old := func(made int) int { return count() - 1 - made }
		made, most := 0, 0
		for ; made < many; made++ {
			before := old(made)
			doc, err := store.Once(fmt.Sprint(made)).Merge(ctx, "a", raw(`{"n":%d}`, made+1))
			require.NoError(t, err)
			require.False(t, doc.Repeated)
			most = max(most, before-old(made+1))
			if made%16 == 0 {
				repeat()
			}
		}
		assert.Equal(t, 32, most, "removed by one commit")
		assert.InDelta(t, 7, old(made), 4*32, "what is left")

		// Others in a commit with others.
		for ; old(made) > 0; made += many {
			require.Less(t, made, 8*many)
			held, err := newLocker(t, d.Pool()).Lock(ctx, store.Key("a"))
			require.NoError(t, err)
			var callers sync.WaitGroup
			for i := range many {
				callers.Go(func() {
					_, err := store.Once(fmt.Sprint(made+i)).Merge(ctx, "a", raw(`{"m%d":1}`, i%4))
					assert.NoError(t, err)
				})
			}
			waitForWaits(t, store, 1)
			require.NoError(t, held.Unlock())
			callers.Wait()
		}
		repeat()
	})
}

func TestOnceTakesATable(t *testing.T) {
	d := overPgx(t)
	store := d.migrated(t, nil)
	_, err := store.Once("t").Merge(t.Context(), "a", raw(`{"n":%q}`, canary))
	assert.ErrorIs(t, err, metadata.ErrUnsupported)
	var tables int
	require.NoError(t, d.Pool().QueryRow(t.Context(), `SELECT count(*) FROM pg_tables WHERE schemaname = 'public'`).Scan(&tables))
	assert.Equal(t, 1, tables, "nothing is made that was not asked for")

	store = d.store(t, withTokens(metadata.Options{}))
	_, err = store.Once("t").Merge(t.Context(), "a", raw(`{"n":%q}`, canary))
	assert.ErrorIs(t, err, metadata.ErrSchema)
	_, err = store.Merge(t.Context(), "a", raw(`{"n":1}`))
	assert.NoError(t, err, "what has no token needs no tokens")
	require.NoError(t, store.Migrate(t.Context()))
	_, err = store.Once("t").Merge(t.Context(), "a", raw(`{"n":%q}`, canary))
	require.NoError(t, err)
	_, err = store.Once("t").Merge(t.Context(), "a", raw(`{"n":%q}`, canary+"2"))
	require.ErrorIs(t, err, metadata.ErrTokenReused)
	assert.NotContains(t, err.Error(), canary)
	var kept string
	require.NoError(t, d.Pool().QueryRow(t.Context(), `SELECT o::text FROM lockstore_once AS o`).Scan(&kept))
	assert.NotContains(t, kept, canary)
}
