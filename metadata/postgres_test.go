package metadata_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/internal/hidden"
	"example.com/lockstore/metadata"
	"example.com/lockstore/metadata/internal/jsonb/jsonbtest"
	"example.com/lockstore/pgtest"
)

// canary is a value that no error and no log line may show.
const canary = "canary-5c1e"

func raw(format string, args ...any) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(format, args...))
}

// database is one driver's view of a test's database.
type database struct {
	*pgtest.DB
	open func(*metadata.Options) (*metadata.Postgres, error)
}

// store opens a store that the test closes.
func (d *database) store(t testing.TB, opts *metadata.Options) *metadata.Postgres {
	t.Helper()
	store, err := d.open(opts)
	require.NoError(t, err)
	t.Cleanup(func() { closeInTime(t, store) })
	return store
}

// migrated is store with what Migrate creates.
func (d *database) migrated(t testing.TB, opts *metadata.Options) *metadata.Postgres {
	t.Helper()
	store := d.store(t, opts)
	require.NoError(t, store.Migrate(t.Context()))
	return store
}

func (d *database) exec(t testing.TB, statements string) {
	t.Helper()
	_, err := d.Pool().Exec(context.Background(), statements)
	require.NoError(t, err)
}

var everyDriver = flag.Bool("every-driver", jsonbtest.Slowdown > 1, "run what is asked of each driver over all of them: the default under the race detector; else drivers are drawn")

// overPgx is a database over pgx, for what is the same over every driver.
func overPgx(t testing.TB) *database {
	db := pgtest.New(t)
	return onPool(db, db.Pool())
}

// onPool is a database whose stores use a pool.
func onPool(db *pgtest.DB, pool *pgxpool.Pool) *database {
	return &database{db, func(o *metadata.Options) (*metadata.Postgres, error) { return metadata.NewPostgres(pool, o) }}
}

// drawn returns one of drivers; all with -every-driver.
func drawn(drivers ...string) []string {
	if *everyDriver {
		return drivers
	}
	return drivers[rand.IntN(len(drivers)):][:1]
}

// eachDriver runs a test over pgx, and over sqlx or a driver of which nothing is known.
func eachDriver(t *testing.T, test func(t *testing.T, d *database)) {
	onDrivers(t, append([]string{"pgx"}, drawn("sqlx", "any")...), test)
}

// aDriver runs a test that connects anew all the time, which takes long, over one of them.
func aDriver(t *testing.T, test func(t *testing.T, d *database)) {
	onDrivers(t, drawn("pgx", "sqlx", "any"), test)
}

func onDrivers(t *testing.T, drivers []string, test func(t *testing.T, d *database)) {
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			db := pgtest.New(t)
			any := hidden.Open(t, db)
			test(t, &database{db, map[string]func(*metadata.Options) (*metadata.Postgres, error){
				"pgx":  func(o *metadata.Options) (*metadata.Postgres, error) { return metadata.NewPostgres(db.Pool(), o) },
				"sqlx": func(o *metadata.Options) (*metadata.Postgres, error) { return metadata.NewPostgres(db.SQLX(), o) },
				"any":  func(o *metadata.Options) (*metadata.Postgres, error) { return metadata.NewPostgres(any, o) },
			}[driver]})
		})
	}
}

func TestHostsOwnTable(t *testing.T) {
	const ada, bob, nobody = "7f3f9a3e-0000-4000-8000-00000000000a", "7f3f9a3e-0000-4000-8000-00000000000b", "7f3f9a3e-0000-4000-8000-00000000000c"
	eachDriver(t, func(t *testing.T, d *database) {
		for _, inGo := range []bool{false, true} {
			t.Run(fmt.Sprintf("MergeInGo=%v", inGo), func(t *testing.T) {
				ctx := t.Context()
				d.exec(t, `DROP TABLE IF EXISTS users; CREATE TABLE users (id uuid PRIMARY KEY, email text NOT NULL, metadata jsonb)`)
				d.exec(t, `INSERT INTO users VALUES ('`+ada+`', 'ada', NULL), ('`+bob+`', 'bob', '[1,2]')`)
				store := d.migrated(t, &metadata.Options{Table: metadata.Table{Name: "users", IDType: metadata.UUID}, MergeInGo: inGo})

				doc, err := store.Get(ctx, ada)
				require.NoError(t, err)
				assert.Equal(t, metadata.Document{ID: ada, Metadata: raw(`{}`)}, doc, "NULL is empty")
				doc, err = store.Merge(ctx, strings.ToUpper(ada), raw(`{"plan":"pro","gone":null}`))
				require.NoError(t, err)
				assert.Equal(t, metadata.Document{ID: ada, Metadata: raw(`{"plan": "pro"}`)}, doc)
				doc, err = store.Merge(ctx, bob, raw(`{"plan":"free"}`))
				require.NoError(t, err)
				assert.Equal(t, `{"plan": "free"}`, string(doc.Metadata), "what is no object is replaced")

				assert.Equal(t, store.Key(ada), store.Key(strings.ToUpper(ada)))
				_, err = store.Merge(ctx, nobody, raw(`{"a":1}`))
				assert.ErrorIs(t, err, metadata.ErrNotFound)
				_, err = store.Update(ctx, nobody, func(metadata.Document) (json.RawMessage, error) { return raw(`{}`), nil })
				assert.ErrorIs(t, err, metadata.ErrNotFound)
				_, err = store.Get(ctx, "ada")
				assert.ErrorIs(t, err, metadata.ErrInvalidID)
				assert.ErrorIs(t, store.Delete(ctx, ada), metadata.ErrUnsupported)
				_, err = store.IfVersion(1).Merge(ctx, ada, raw(`{}`))
				assert.ErrorIs(t, err, metadata.ErrUnsupported)

				var email string
				require.NoError(t, d.Pool().QueryRow(ctx, "SELECT email FROM users WHERE id = $1", ada).Scan(&email))
				assert.Equal(t, "ada", email)
			})
		}
	})
}

func TestScopeKeepsTenantsApart(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		ctx := t.Context()
		d.exec(t, `CREATE TABLE "odd "" {1}%s$1" (tenant int, "the id" bigint, "m""d" jsonb, rev bigint, touched timestamptz, PRIMARY KEY (tenant, "the id"))`)
		scoped := func(tenant string) *metadata.Postgres {
			return d.migrated(t, &metadata.Options{Table: metadata.Table{
				Name: `odd " {1}%s$1`, ID: "the id", IDType: metadata.BigInt, Column: `m"d`, Version: "rev", UpdatedAt: "touched", Create: true,
				Scope: []metadata.Scope{{Column: "tenant", Type: metadata.BigInt, Value: tenant}},
			}})
		}
		one, two := scoped("1"), scoped("2")
		for range 2 {
			_, err := one.Merge(ctx, "7", raw(`{"of":1}`))
			require.NoError(t, err)
			_, err = two.Update(ctx, "007", func(metadata.Document) (json.RawMessage, error) { return raw(`{"of":2}`), nil })
			require.NoError(t, err)
		}
		doc, err := one.Get(ctx, "+7")
		require.NoError(t, err)
		assert.Equal(t, `{"of": 1}`, string(doc.Metadata))
		assert.Equal(t, int64(1), doc.Version)
		assert.NotZero(t, doc.UpdatedAt)
		assert.NotEqual(t, one.Key("7"), two.Key("7"))

		found, err := two.GetMany(ctx, "7", "007", "8")
		require.NoError(t, err)
		assert.Len(t, found, 2)
		assert.Equal(t, `{"of": 2}`, string(found["007"].Metadata))
		docs, err := find(ctx, one, `{}`, nil)
		require.NoError(t, err)
		require.Len(t, docs, 1)
		assert.Equal(t, `{"of": 1}`, string(docs[0].Metadata))
		results, err := two.MergeMany(ctx, []metadata.Patch{{ID: "7", Patch: raw(`{"many":true}`)}, {ID: "9", Patch: raw(`{"new":true}`)}})
		require.NoError(t, err)
		assert.Equal(t, `{"of": 2, "many": true}`, string(results[0].Document.Metadata))
		require.NoError(t, two.Delete(ctx, "7"))
		_, err = two.Get(ctx, "7")
		assert.ErrorIs(t, err, metadata.ErrNotFound)
		doc, err = one.Get(ctx, "7")
		require.NoError(t, err)
		assert.Equal(t, `{"of": 1}`, string(doc.Metadata))
	})
}

func TestInvalidOptionsAreRefused(t *testing.T) {
	db := pgtest.New(t)
	long := strings.Repeat("x", 64)
	for name, opts := range map[string]*metadata.Options{
		"NUL in a name":       {Table: metadata.Table{Name: "a\x00b"}},
		"name too long":       {Table: metadata.Table{Name: long}},
		"name not UTF-8":      {Table: metadata.Table{Name: "\xff"}},
		"column too long":     {Table: metadata.Table{Name: "a", Column: long}},
		"id with NUL":         {Table: metadata.Table{Name: "a", ID: "\x00"}},
		"schema too long":     {Table: metadata.Table{Schema: long}},
		"version too long":    {Table: metadata.Table{Name: "a", Version: long}},
		"unknown type":        {Table: metadata.Table{Name: "a", IDType: "text; DROP TABLE users"}},
		"unknown scope type":  {Table: metadata.Table{Name: "a", Scope: []metadata.Scope{{Column: "t", Type: "int8", Value: "1"}}}},
		"scope of no type":    {Table: metadata.Table{Name: "a", Scope: []metadata.Scope{{Column: "t", Type: metadata.UUID, Value: "1"}}}},
		"empty scope":         {Table: metadata.Table{Name: "a", Scope: []metadata.Scope{{Column: "t"}}}},
		"nameless scope":      {Table: metadata.Table{Name: "a", Scope: []metadata.Scope{{Value: "1"}}}},
		"scope of default":    {Table: metadata.Table{Scope: []metadata.Scope{{Column: "t", Value: "1"}}}},
		"columns but no name": {Table: metadata.Table{Column: "a"}},
		"negative limit":      {MaxDepth: -1},
		"negative size":       {MaxDocumentBytes: -1},
		"negative queue":      {MaxWaitingBytes: -1},
		"negative time":       {Timeout: -1},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := metadata.NewPostgres(db.Pool(), opts)
			assert.ErrorIs(t, err, metadata.ErrInvalidOptions)
			_, err = metadata.NewMemory(nil, opts)
			assert.ErrorIs(t, err, metadata.ErrInvalidOptions)
		})
	}
	_, err := metadata.NewPostgres((*pgxpool.Pool)(nil), nil)
	assert.ErrorIs(t, err, metadata.ErrInvalidOptions)
	_, err = metadata.NewPostgres((*sql.DB)(nil), nil)
	assert.ErrorIs(t, err, metadata.ErrInvalidOptions)
	_, err = metadata.NewPostgres((*sqlx.DB)(nil), nil)
	assert.ErrorIs(t, err, metadata.ErrInvalidOptions)
}

func TestKeyIsTheSameInEveryProcess(t *testing.T) {
	d := overPgx(t)
	store := d.store(t, nil)
	assert.Equal(t, int64(-2359899030073422753), store.Key("ada").Int64(), "a rolling deploy depends on it")
	assert.Error(t, store.Key("").Err())
	assert.Error(t, store.Key(strings.Repeat("x", 513)).Err())
	assert.NoError(t, store.Key(strings.Repeat("x", 512)).Err())
	named := d.store(t, &metadata.Options{Namespace: "billing"})
	assert.NotEqual(t, store.Key("ada"), named.Key("ada"))
}

func TestClosedStoreRefuses(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		store := d.migrated(t, nil)
		store.Close()
		store.Close()
		ctx := t.Context()
		_, err := store.Get(ctx, "a")
		assert.ErrorIs(t, err, metadata.ErrClosed)
		_, err = store.Merge(ctx, "a", raw(`{}`))
		assert.ErrorIs(t, err, metadata.ErrClosed)
		_, err = store.MergeMany(ctx, []metadata.Patch{{ID: "a", Patch: raw(`{}`)}})
		assert.ErrorIs(t, err, metadata.ErrClosed)
		tx, err := d.Pool().Begin(ctx)
		require.NoError(t, err)
		defer tx.Rollback(ctx)
		_, err = store.In(tx).Merge(ctx, "a", raw(`{}`))
		assert.ErrorIs(t, err, metadata.ErrClosed)
		_, err = store.GetMany(ctx, "a")
		assert.ErrorIs(t, err, metadata.ErrClosed)
		_, err = find(ctx, store, `{}`, nil)
		assert.ErrorIs(t, err, metadata.ErrClosed)
		_, err = store.Check(ctx)
		assert.ErrorIs(t, err, metadata.ErrClosed)
		assert.ErrorIs(t, store.Migrate(ctx), metadata.ErrClosed)
	})
}

// The server merges in one of several ways, by what the patch is made of. Each is
// that of the RFC, from whatever is in the column, and tells a change from none.
func TestMergesInTheServerAreThoseOfTheRFC(t *testing.T) {
	targets := []string{`NULL`, `[1, 2]`, `"text"`, `7`, `null`, `{}`, `{"a": 1}`, `{"a": [1, 2]}`, `{"a": null}`,
		`{"a": {"b": 1, "c": [2]}, "d": "x"}`, `{"a": {"b": {"e": null}}}`, `{"d": "y", "n": 1.0}`}
	patches := []string{`{}`, `{"a": 1}`, `{"a": [1]}`, `{"a": [1, 2]}`, `{"a": [null]}`, `{"a": null}`, `{"x": null}`,
		`{"a": {}}`, `{"a": {"b": 1}}`, `{"a": {"b": null}}`, `{"a": {"b": {"e": null}}}`, `{"a": {"c": [2]}, "d": "x"}`,
		`{"d": "y", "a": null}`, `{"n": 1.0}`, `{"n": 2}`, `{"a": {"b": {"e": [{"f": null}]}}}`}
	ways := map[string]func(context.Context, *metadata.Postgres, []metadata.Patch) ([]metadata.Result, error){
		"Merge": func(ctx context.Context, store *metadata.Postgres, patches []metadata.Patch) (results []metadata.Result, err error) {
			for _, p := range patches {
				doc, failed := store.Merge(ctx, p.ID, p.Patch)
				results, err = append(results, metadata.Result{Document: doc}), errors.Join(err, failed)
			}
			return results, err
		},
		"MergeMany": func(ctx context.Context, store *metadata.Postgres, patches []metadata.Patch) ([]metadata.Result, error) {
			return store.MergeMany(ctx, patches)
		},
	}
	eachDriver(t, func(t *testing.T, d *database) {
		ctx := t.Context()
		store := d.migrated(t, &metadata.Options{Table: metadata.Table{Name: "users", Version: "version"}})
		for way, merge := range ways {
			d.exec(t, `DROP TABLE IF EXISTS users; CREATE TABLE users (id text PRIMARY KEY, metadata jsonb, version bigint NOT NULL DEFAULT 1)`)
			var all []metadata.Patch
			for i, target := range targets {
				for j, patch := range patches {
					all = append(all, metadata.Patch{ID: fmt.Sprint(i, "/", j), Patch: raw("%s", patch)})
					_, err := d.Pool().Exec(ctx, "INSERT INTO users VALUES ($1, nullif($2, 'NULL')::jsonb)", fmt.Sprint(i, "/", j), target)
					require.NoError(t, err)
				}
			}
			results, err := merge(ctx, store, all)
			require.NoError(t, err)
			for n, r := range results {
				target, patch := targets[n/len(patches)], string(all[n].Patch)
				before := target
				if target == `NULL` {
					before = `{}` // as which it is read
				}
				want, err := metadata.MergePatch(raw("%s", before), all[n].Patch)
				require.NoError(t, err)
				assert.Equal(t, string(want), string(r.Document.Metadata), "%s: %s on %s", way, patch, target)
				assert.Equal(t, string(want) != before, r.Document.Version == 2, "%s: %s on %s: version %d", way, patch, target, r.Document.Version)
			}
		}
	})
}
