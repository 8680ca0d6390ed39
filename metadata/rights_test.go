package metadata_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

type tenantKey struct{}

func as(ctx context.Context, tenant string) context.Context {
	return context.WithValue(ctx, tenantKey{}, tenant)
}

func tenantOf(ctx context.Context) string {
	tenant, _ := ctx.Value(tenantKey{}).(string)
	return tenant
}

// setTenant tells the server for whom a connection is used.
func setTenant(ctx context.Context, c *pgx.Conn) error {
	_, err := c.Exec(ctx, "SELECT set_config('app.tenant', $1, false)", tenantOf(ctx))
	return err
}

func prepareConn(ctx context.Context, c *pgx.Conn) (bool, error) {
	err := setTenant(ctx, c)
	return err == nil, err
}

// orBad makes one for ResetSession, of which database/sql heeds no other error.
func orBad(prepare func(context.Context, *pgx.Conn) error) func(context.Context, *pgx.Conn) error {
	return func(ctx context.Context, c *pgx.Conn) error {
		if prepare(ctx, c) != nil {
			return driver.ErrBadConn
		}
		return nil
	}
}

// tenancies are the ways in which a host tells the server who the caller is, for each
// use of a connection.
var tenancies = map[string]struct {
	hidden bool // from the store, which has to be told what tells callers apart
	open   func(*testing.T, *pgxpool.Config, *metadata.Options) (*metadata.Postgres, error)
}{
	"PrepareConn": {false, func(t *testing.T, c *pgxpool.Config, o *metadata.Options) (*metadata.Postgres, error) {
		c.PrepareConn = prepareConn
		return metadata.NewPostgres(newPool(t, c), o)
	}},
	"BeforeAcquire": {false, func(t *testing.T, c *pgxpool.Config, o *metadata.Options) (*metadata.Postgres, error) {
		//lint:ignore SA1019 hosts have it
		c.BeforeAcquire = func(ctx context.Context, c *pgx.Conn) bool { return setTenant(ctx, c) == nil }
		return metadata.NewPostgres(newPool(t, c), o)
	}},
	"ResetSession": {true, func(t *testing.T, c *pgxpool.Config, o *metadata.Options) (*metadata.Postgres, error) {
		db := stdlib.OpenDB(*c.ConnConfig, stdlib.OptionAfterConnect(setTenant), stdlib.OptionResetSession(orBad(setTenant)))
		db.SetMaxOpenConns(int(c.MaxConns))
		return openedSQL(t, db, o)
	}},
	"a pool behind database/sql": {true, func(t *testing.T, c *pgxpool.Config, o *metadata.Options) (*metadata.Postgres, error) {
		c.PrepareConn = prepareConn
		return openedSQL(t, stdlib.OpenDBFromPool(newPool(t, c)), o)
	}},
}

func newPool(t testing.TB, config *pgxpool.Config) *pgxpool.Pool {
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func openedSQL(t *testing.T, db *sql.DB, o *metadata.Options) (*metadata.Postgres, error) {
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	return metadata.NewPostgres(db, o)
}

// Row-level security lets each tenant write its own documents. That holds whoever
// writes the same documents, and over the same few connections, at the same time.
func TestCallersOfDifferentRightsShareNoCommit(t *testing.T) {
	for name, tenancy := range tenancies {
		for _, principal := range []func(context.Context) string{nil, tenantOf} {
			if principal == nil && tenancy.hidden {
				continue
			}
			t.Run(fmt.Sprintf("%s, Principal %t", name, principal != nil), func(t *testing.T) {
				db, ctx := pgtest.New(t), t.Context()
				d := &database{db, func(o *metadata.Options) (*metadata.Postgres, error) {
					o.Principal = principal
					config := db.Pool().Config()
					config.MaxConns = 3
					config.ConnConfig.RuntimeParams["role"] = "tenants_" + db.Name()
					return tenancy.open(t, config, o)
				}}
				options := &metadata.Options{Table: metadata.Table{Name: "docs", Version: "version"}}
				d.exec(t, `CREATE TABLE docs (id text PRIMARY KEY, tenant text, metadata jsonb NOT NULL DEFAULT '{}', version bigint NOT NULL DEFAULT 0);
					INSERT INTO docs SELECT tenant || n, tenant FROM generate_series(1, 40) n, unnest('{a,b}'::text[]) tenant;
					ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
					CREATE POLICY own ON docs USING (tenant = current_setting('app.tenant', true))`)
				migrator, err := metadata.NewPostgres(db.Pool(), options)
				require.NoError(t, err)
				require.NoError(t, migrator.Migrate(ctx))
				d.exec(t, fmt.Sprintf(`CREATE ROLE "tenants_%[1]s"; GRANT ALL ON docs TO "tenants_%[1]s"`, db.Name()))
				t.Cleanup(func() { d.exec(t, fmt.Sprintf(`DROP OWNED BY "tenants_%[1]s"; DROP ROLE "tenants_%[1]s"`, db.Name())) })
				store := d.store(t, options)

				for _, documents := range []int{1, 40} { // which share commits by document, and by connection
					var wg sync.WaitGroup
					var crossed, refused atomic.Int32
					for i := range 400 {
						owner, writer := "ab"[i%2:i%2+1], "ab"[i/2%2:i/2%2+1]
						id := fmt.Sprint(owner, i/4%documents+1)
						wg.Go(func() {
							_, err := store.Merge(as(ctx, writer), id, raw(`{"%s%d":1}`, writer, i))
							if owner == writer && !assert.NoError(t, err) {
								refused.Add(1)
							} else if owner != writer && !assert.ErrorIs(t, err, metadata.ErrNotFound) {
								crossed.Add(1)
							}
						})
					}
					wg.Wait()
					for i := range 400 {
						owner, reader := "ab"[i%2:i%2+1], "ab"[i/2%2:i/2%2+1]
						wg.Go(func() {
							_, err := store.Get(as(ctx, reader), fmt.Sprint(owner, i/4%documents+1))
							assert.Equal(t, owner != reader, errors.Is(err, metadata.ErrNotFound), "%s reads what is %s's: %v", reader, owner, err)
						})
					}
					wg.Wait()
					require.Zero(t, crossed.Load(), "of 200 writes were made to documents of others (%d documents)", documents)
					require.Zero(t, refused.Load(), "of 200 writes were refused to the documents' tenant (%d documents)", documents)
				}
			})
		}
	}
}

// sharing are commits that five writes take, of tenants a, a, b, b and a.
var sharing = map[string]struct {
	principal          func(context.Context) string
	prepared           bool
	ofOne, ofDifferent int64 // document
}{
	"callers are not told apart":                {nil, false, 1, 1},
	"callers are told apart":                    {tenantOf, false, 3, 2},
	"told apart, and with prepared connections": {tenantOf, true, 3, 2},
	"nobody knows who has the rights":           {nil, true, 5, 5},
}

var tenants = []string{"a", "a", "b", "b", "a"}

func TestWritersOfTheSameRightsShareACommit(t *testing.T) {
	for name, c := range sharing {
		t.Run(name, func(t *testing.T) {
			d := &database{DB: pgtest.New(t)}
			d.open = func(o *metadata.Options) (*metadata.Postgres, error) {
				config := d.Pool().Config()
				if c.prepared {
					config.PrepareConn = prepareConn
				}
				return metadata.NewPostgres(newPool(t, config), o)
			}
			b := newBlocked(t, d, &metadata.Options{Principal: c.principal})
			b.merge(t.Context(), true, "first")
			for i, tenant := range tenants {
				b.merge(as(t.Context(), tenant), false, fmt.Sprint("key", i))
			}
			b.unblock()
			b.wg.Wait()
			assert.Equal(t, `{"key0": 1, "key1": 1, "key2": 1, "key3": 1, "key4": 1, "zero": 0, "first": 1}`, string(b.document().Metadata))
			assert.Equal(t, 2+c.ofOne, b.store.Stats().Commits, "with those of %q and %q", "zero", "first")
		})
	}
}

func TestWritersOfTheSameRightsShareAConnection(t *testing.T) {
	for name, c := range sharing {
		t.Run(name, func(t *testing.T) {
			opts := &metadata.Options{Principal: c.principal}
			eachCrowded(t, opts, func(d *database, crowd *crowded) {
				if c.prepared {
					config := d.Pool().Config()
					config.MaxConns, config.PrepareConn = 1, prepareConn
					pool := newPool(t, config)
					conn, err := pool.Acquire(t.Context())
					require.NoError(t, err)
					defer crowd.unblock()
					crowd.unblock = conn.Release
					o := *opts
					o.Table = metadata.Table{Name: "docs", Version: "version", Create: true}
					crowd.store, err = metadata.NewPostgres(pool, &o)
					require.NoError(t, err)
				}
				for i, tenant := range tenants {
					crowd.merge(as(t.Context(), tenant), fmt.Sprintf("d%02d", i), `{"new":1}`)
				}
				crowd.wait()
				assert.Equal(t, 5, crowd.count(d))
				commits := crowd.store.Stats().Commits
				assert.GreaterOrEqual(t, commits, c.ofDifferent)
				if most := int64(len(tenants)); c.ofDifferent < most {
					assert.Less(t, commits, most)
				}
			})
		})
	}
}

// The host's function is asked once for each call. Its panic is its caller's own, and
// leaves nothing behind.
func TestPrincipalIsAskedOnceForEachCall(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		var asked atomic.Int32
		store := d.migrated(t, &metadata.Options{Principal: func(ctx context.Context) string {
			asked.Add(1)
			if tenantOf(ctx) == "" {
				panic("nobody")
			}
			return tenantOf(ctx)
		}})
		held, err := newLocker(t, d.Pool()).Lock(t.Context(), store.Key("a"))
		require.NoError(t, err)
		for _, ctx := range []context.Context{t.Context(), held.Context()} {
			assert.PanicsWithValue(t, "nobody", func() { store.Merge(ctx, "a", raw(`{}`)) })
		}
		go store.Merge(as(t.Context(), "a"), "a", raw(`{"a":1}`))
		waitForWaits(t, store, 3) // attempts, each on a connection of its own
		require.NoError(t, held.Unlock())
		_, err = store.Merge(as(t.Context(), "b"), "a", raw(`{"b":1}`))
		require.NoError(t, err)
		assert.EqualValues(t, 4, asked.Load())
	})
}
