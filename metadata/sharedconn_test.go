package metadata_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/internal/hidden"
	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// A crowded store has one connection, which the host has taken. Writers of
// different documents wait for it.
type crowded struct {
	*testing.T
	store *metadata.Postgres
	wg    sync.WaitGroup

	unblock func() // gives the connection back
}

// eachCrowded runs a test over each driver, in a table that refuses the
// member "bad" and has the documents d00 to d19.
func eachCrowded(t *testing.T, opts *metadata.Options, test func(d *database, c *crowded)) {
	eachDriver(t, func(t *testing.T, d *database) {
		d.exec(t, `CREATE TABLE docs (id text PRIMARY KEY, metadata jsonb CHECK (NOT metadata ? 'bad'), version bigint);
			INSERT INTO docs SELECT 'd' || to_char(n, 'FM00'), '{"old":1}', 1 FROM generate_series(0, 19) AS n`)
		o := metadata.Options{}
		if opts != nil {
			o = *opts
		}
		o.Table = metadata.Table{Name: "docs", Version: "version", Create: true}
		d.migrated(t, &o)
		if path.Base(t.Name()) == "pgx" {
			pool := poolOfOne(t, d.DB)
			store := onPool(d.DB, pool).store(t, &o)
			conn, err := pool.Acquire(t.Context())
			require.NoError(t, err)
			test(d, &crowded{T: t, store: store, unblock: conn.Release})
			return
		}
		host := d.SQLX().DB
		if path.Base(t.Name()) == "any" {
			host = hidden.Open(t, d.DB)
		}
		host.SetMaxOpenConns(1)
		store, err := metadata.NewPostgres(host, &o)
		require.NoError(t, err)
		t.Cleanup(func() { closeInTime(t, store) })
		conn, err := host.Conn(t.Context())
		require.NoError(t, err)
		test(d, &crowded{T: t, store: store, unblock: func() { assert.NoError(t, conn.Close()) }})
	})
}

// merge starts a merge and returns when it waits.
func (c *crowded) merge(ctx context.Context, id, patch string) *error {
	watched, err := newArriving(ctx), new(error)
	c.wg.Go(func() {
		var doc metadata.Document
		if doc, *err = c.store.Merge(watched, id, raw("%s", patch)); *err == nil {
			assert.Equal(c, id, doc.ID)
			assert.Equal(c, strings.Contains(patch, `"new":1`), strings.Contains(string(doc.Metadata), `"new": 1`))
		}
	})
	<-watched.arrived
	return err
}

func (c *crowded) mergeAll(n int) {
	for i := range n {
		c.merge(c.Context(), fmt.Sprintf("d%02d", i), `{"new":1}`)
	}
}

func (c *crowded) wait() {
	c.unblock()
	c.wg.Wait()
}

// count is how many documents have the member "new" in their second version.
func (c *crowded) count(d *database) (n int) {
	c.Helper()
	require.NoError(c, d.Pool().QueryRow(context.Background(),
		"SELECT count(*) FROM docs WHERE metadata ? 'new' AND version = 2").Scan(&n))
	return n
}

func TestWritersOfDifferentDocumentsShareACommit(t *testing.T) {
	for name, test := range map[string]struct {
		opts    *metadata.Options
		commits int64
	}{
		"all that wait":         {nil, 1},
		"at most MaxBatch":      {&metadata.Options{MaxBatch: 5}, 4},
		"at most MaxBatchBytes": {&metadata.Options{MaxBatchBytes: 1}, 20},
		"each by itself":        {&metadata.Options{MaxBatch: 1}, 20},
		"each by itself in Go":  {&metadata.Options{MergeInGo: true}, 20},
	} {
		t.Run(name, func(t *testing.T) {
			eachCrowded(t, test.opts, func(d *database, c *crowded) {
				c.mergeAll(20)
				c.wait()
				assert.Equal(t, 20, c.count(d))
				stats := c.store.Stats()
				assert.Equal(t, test.commits, stats.Commits)
				assert.Equal(t, int64(20), stats.Writes)
			})
		})
	}
}

// One that cannot be merged with the others is merged, or fails, alone.
func TestWhatCannotBeSharedGoesAlone(t *testing.T) {
	eachCrowded(t, nil, func(d *database, c *crowded) {
		c.mergeAll(10)
		bad := c.merge(c.Context(), "d10", `{"bad":1}`)
		c.wait()
		assert.ErrorIs(c, *bad, metadata.ErrRejected)
		assert.Equal(c, 10, c.count(d))
	})
	eachCrowded(t, nil, func(d *database, c *crowded) {
		c.mergeAll(10)
		missing := c.merge(c.Context(), "missing", `{"new":1}`)
		unchanged := c.merge(c.Context(), "d10", `{"old":1,"new":null}`)
		nested := c.merge(c.Context(), "d11", `{"new":1,"old":{"a":null}}`)
		c.wg.Go(func() {
			_, err := c.store.Update(c.Context(), "d12", func(metadata.Document) (json.RawMessage, error) { return raw(`{"new":1}`), nil })
			assert.NoError(c, err)
		})
		c.wait()
		require.NoError(c, errors.Join(*missing, *nested))
		assert.NoError(c, *unchanged)
		assert.Equal(c, 12, c.count(d))
		doc, err := c.store.Get(c.Context(), "missing")
		require.NoError(c, err)
		assert.Equal(c, int64(1), doc.Version)
	})
}

// A leader whose own patch is all that a commit may hold has no followers, and
// leaves nobody behind.
func TestConnLeaderWithoutRoomForOthers(t *testing.T) {
	eachCrowded(t, &metadata.Options{MaxBatchBytes: 20}, func(d *database, c *crowded) {
		c.merge(c.Context(), "d19", `{"new":1,"much":"0123456789"}`)
		c.mergeAll(4)
		c.wait()
		assert.Equal(c, 5, c.count(d))
		assert.Equal(c, int64(3), c.store.Stats().Commits)
	})
}

// A document whose row or lock is in somebody's hands does not hold up others,
// which are in the batch with it.
func TestNoBatchWaitsForALockedDocument(t *testing.T) {
	for name, take := range map[string]string{
		"row":  "SELECT FROM docs WHERE id = 'd05' FOR UPDATE",
		"lock": "SELECT pg_advisory_xact_lock($1)",
	} {
		t.Run(name, func(t *testing.T) {
			eachCrowded(t, nil, func(d *database, c *crowded) {
				host, err := d.Pool().Begin(t.Context())
				require.NoError(t, err)
				var args []any
				if name == "lock" {
					args = append(args, c.store.Key("d05").Int64())
				}
				_, err = host.Exec(t.Context(), take, args...)
				require.NoError(t, err)
				c.mergeAll(20)
				c.unblock()
				waitFor(t, d, "SELECT count(*) = 19 FROM docs WHERE metadata ? 'new'")
				require.NoError(t, host.Rollback(t.Context()))
				c.wg.Wait()
				assert.Equal(t, 20, c.count(d))
			})
		})
	}
}

// A writer whose connection does not come, whatever the host's hooks do with it,
// holds up no writers, of the same document or of others.
func TestWriterWhoseConnectionHangsHoldsUpNobody(t *testing.T) {
	hanging, hung := make(chan struct{}), as(t.Context(), "hung")
	hook := func(ctx context.Context, _ *pgx.Conn) error {
		if tenantOf(ctx) == "hung" {
			close(hanging)
			<-ctx.Done()
		}
		return ctx.Err()
	}
	same := func(context.Context) string { return "" }
	for name, open := range map[string]func(*pgtest.DB, *metadata.Options) (*metadata.Postgres, error){
		"pgx": func(db *pgtest.DB, o *metadata.Options) (*metadata.Postgres, error) {
			config := db.Pool().Config()
			config.PrepareConn = func(ctx context.Context, c *pgx.Conn) (bool, error) { return true, hook(ctx, c) }
			return metadata.NewPostgres(newPool(t, config), o)
		},
		"sql": func(db *pgtest.DB, o *metadata.Options) (*metadata.Postgres, error) {
			return openedSQL(t, stdlib.OpenDB(*db.Pool().Config().ConnConfig, stdlib.OptionResetSession(orBad(hook))), o)
		},
	} {
		t.Run(name, func(t *testing.T) {
			hanging = make(chan struct{})
			d := &database{DB: pgtest.New(t)}
			d.open = func(o *metadata.Options) (*metadata.Postgres, error) { return open(d.DB, o) }
			store := d.migrated(t, &metadata.Options{Principal: same})
			ctx, cancel := context.WithCancel(hung)
			var wg sync.WaitGroup
			wg.Go(func() {
				_, err := store.Merge(ctx, "hung", raw(`{}`))
				assert.ErrorIs(t, err, context.Canceled)
			})
			defer wg.Wait()
			defer cancel()
			<-hanging
			patient, done := context.WithTimeout(t.Context(), 20*time.Second)
			defer done()
			for i := range 10 {
				id := fmt.Sprint("d", i)
				if i%2 == 0 {
					id = "hung"
				}
				wg.Go(func() {
					_, err := store.Merge(patient, id, raw(`{}`))
					assert.NoError(t, err)
				})
			}
			assert.Eventually(t, func() bool { return store.Stats().Writes == 10 }, 20*time.Second, time.Millisecond)
		})
	}
}

// What leaves while it waits is not merged. If the others waited for it to get a connection, the
// next one gets it.
func TestLeavingBeforeTheConnectionComes(t *testing.T) {
	eachCrowded(t, nil, func(d *database, c *crowded) {
		ctx, cancel := context.WithCancel(c.Context())
		leader := c.merge(ctx, "d10", `{"gone":1}`)
		follower := c.merge(ctx, "d11", `{"gone":1}`)
		c.mergeAll(10)
		cancel()
		last := c.merge(c.Context(), "d12", `{"new":1}`)
		c.wait()
		for _, err := range []error{*leader, *follower} {
			assert.ErrorIs(c, err, context.Canceled)
			assert.NotErrorIs(c, err, metadata.ErrUnknownOutcome)
		}
		assert.NoError(c, *last)
		assert.Equal(c, 11, c.count(d))
		var gone int
		require.NoError(c, d.Pool().QueryRow(c.Context(), "SELECT count(*) FROM docs WHERE metadata ? 'gone'").Scan(&gone))
		assert.Zero(c, gone)
	})
}

// A session that ends in mid-statement leaves all who share it in the dark, and
// nothing behind.
func TestLostConnectionLeavesAllOfABatchUnknown(t *testing.T) {
	eachCrowded(t, nil, func(d *database, c *crowded) {
		d.exec(c, `CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
				PERFORM pg_advisory_xact_lock(42); RETURN NEW; END $$;
			CREATE TRIGGER linger BEFORE UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION linger()`)
		host, err := d.Pool().Begin(c.Context())
		require.NoError(c, err)
		_, err = host.Exec(c.Context(), "SELECT pg_advisory_xact_lock(42)")
		require.NoError(c, err)
		var errs []*error
		for i := range 5 {
			errs = append(errs, c.merge(c.Context(), fmt.Sprintf("d%02d", i), `{"new":1}`))
		}
		c.unblock()
		const lingering = `FROM pg_locks WHERE objid = 42 AND locktype = 'advisory' AND NOT granted
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`
		waitFor(c, d, "SELECT EXISTS (SELECT "+lingering+")")
		d.exec(c, "SELECT pg_terminate_backend(pid) "+lingering)
		c.wg.Wait()
		for _, err := range errs {
			assert.ErrorIs(c, *err, metadata.ErrUnknownOutcome)
		}
		require.NoError(c, host.Rollback(c.Context()))
		assert.Zero(c, c.count(d))
		assert.Equal(c, int64(5), c.store.Stats().Unknown)
		_, err = c.store.Merge(c.Context(), "d00", raw(`{"new":1}`))
		assert.NoError(c, err)
	})
}

func TestCloseWhileWritersWaitForAConnection(t *testing.T) {
	eachCrowded(t, nil, func(d *database, c *crowded) {
		var errs []*error
		for i := range 10 {
			errs = append(errs, c.merge(c.Context(), fmt.Sprintf("d%02d", i), `{"new":1}`))
		}
		c.store.Close()
		c.wait()
		for _, err := range errs {
			assert.ErrorIs(c, *err, metadata.ErrClosed)
		}
		assert.Zero(c, c.count(d))
	})
}
