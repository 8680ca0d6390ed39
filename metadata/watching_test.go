package metadata_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// A watcher is a Watch whose loop is held between two states.
type watcher struct {
	t    testing.TB
	docs chan metadata.Document
	ends chan error
	stop context.CancelCauseFunc
}

var errEnoughSeen = errors.New("enough seen")

func watch(ctx context.Context, t testing.TB, store interface {
	Watch(context.Context, ...string) iter.Seq2[metadata.Document, error]
}, ids ...string) *watcher {
	ctx, stop := context.WithCancelCause(ctx)
	w := &watcher{t, make(chan metadata.Document), make(chan error, 1), stop}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for doc, err := range store.Watch(ctx, ids...) {
			if err != nil {
				w.ends <- err
				return
			}
			select {
			case w.docs <- doc:
			case <-ctx.Done():
				return
			}
		}
	}()
	t.Cleanup(func() { stop(errEnoughSeen); <-ended })
	return w
}

func (w *watcher) next() metadata.Document {
	w.t.Helper()
	select {
	case doc := <-w.docs:
		return doc
	case err := <-w.ends:
		require.NoError(w.t, err)
	case <-time.After(patience):
		require.Fail(w.t, "nothing is told")
	}
	return metadata.Document{}
}

func (w *watcher) end() error {
	w.t.Helper()
	for {
		select {
		case <-w.docs:
		case err := <-w.ends:
			return err
		case <-time.After(patience):
			require.Fail(w.t, "does not end")
		}
	}
}

// hourly finds nothing by comparison.
var hourly = &metadata.Options{WatchInterval: time.Hour}

// often finds what nobody hints at soon.
var often = &metadata.Options{WatchInterval: 20 * time.Millisecond}

func TestWatcherIsToldWhateverChangesADocument(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		store := d.migrated(t, often)
		w := watch(t.Context(), t, store, "a")
		assert.Equal(t, metadata.Document{ID: "a"}, w.next(), "it is missing")

		want, err := store.Merge(t.Context(), "a", raw(`{"n":1}`))
		require.NoError(t, err)
		assert.Equal(t, want, w.next())

		d.exec(t, `UPDATE lockstore_metadata SET metadata = '{"hand": 1}'`)
		doc := w.next()
		assert.Equal(t, `{"hand": 1}`, string(doc.Metadata))
		assert.Equal(t, int64(1), doc.Version)

		tx, err := d.Pool().Begin(t.Context())
		require.NoError(t, err)
		_, err = store.In(tx).Merge(t.Context(), "a", raw(`{"host":2}`))
		require.NoError(t, err)
		require.NoError(t, tx.Commit(t.Context()))
		assert.Equal(t, int64(2), w.next().Version)

		d.exec(t, `DELETE FROM lockstore_metadata`)
		assert.Equal(t, metadata.Document{ID: "a"}, w.next(), "it has been deleted")
		_, err = store.MergeMany(t.Context(), []metadata.Patch{{ID: "b", Patch: raw(`{}`)}, {ID: "a", Patch: raw(`{"many":1}`)}})
		require.NoError(t, err)
		assert.Equal(t, `{"many": 1}`, string(w.next().Metadata))
		require.NoError(t, store.Delete(t.Context(), "a"))
		assert.Equal(t, metadata.Document{ID: "a"}, w.next())
	})
}

// What a process does itself it need not be hinted at, nor find.
func TestWatcherIsToldOfItsOwnProcessWrites(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		store := d.migrated(t, hourly)
		w := watch(t.Context(), t, store, "a", "b")
		w.next()
		w.next()
		for way, write := range map[string]func() error{
			"Merge": func() error {
				_, err := store.Merge(t.Context(), "a", raw(`{"way":"Merge"}`))
				return err
			},
			"Replace": func() error {
				_, err := store.Replace(t.Context(), "a", raw(`{"way":"Replace"}`))
				return err
			},
			"Update": func() error {
				_, err := store.Update(t.Context(), "b", func(metadata.Document) (json.RawMessage, error) { return raw(`{"way":"Update"}`), nil })
				return err
			},
			"MergeMany": func() error {
				_, err := store.MergeMany(t.Context(), []metadata.Patch{{ID: "a", Patch: raw(`{"way":"MergeMany"}`)}, {ID: "c", Patch: raw(`{}`)}})
				return err
			},
		} {
			require.NoError(t, write())
			assert.Equal(t, fmt.Sprintf(`{"way": %q}`, way), string(w.next().Metadata))
		}
	})
}

func TestSlowWatcherIsToldTheLastState(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		store := d.migrated(t, often)
		slow, quick := watch(t.Context(), t, store, "a"), watch(t.Context(), t, store, "a")
		assert.Zero(t, slow.next().Version)
		var writers sync.WaitGroup
		for range 8 {
			writers.Go(func() {
				for range 20 {
					_, err := store.Update(t.Context(), "a", count)
					assert.NoError(t, err)
				}
			})
		}
		for last := int64(-1); last < 160; {
			doc := quick.next()
			assert.Greater(t, doc.Version, last, "never older than before")
			last = doc.Version
			if last > 0 {
				assert.Equal(t, fmt.Sprintf(`{"n": %d}`, last), string(doc.Metadata), "never one that there was not")
			}
		}
		writers.Wait()
		told := 0
		for last := int64(0); last < 160; told++ {
			doc := slow.next()
			assert.Greater(t, doc.Version, last)
			last = doc.Version
		}
		assert.LessOrEqual(t, told, 2, "what was in its hands, and the last")
	})
}

// count makes {"n": version}.
func count(doc metadata.Document) (json.RawMessage, error) {
	return raw(`{"n":%d}`, doc.Version+1), nil
}

// A watcher that comes later reads a state of which those that are there have not been told.
func TestWhatOneWatcherFindsIsToldToTheOthers(t *testing.T) {
	d := overPgx(t)
	store := d.migrated(t, hourly)
	_, err := store.Merge(t.Context(), "a", raw(`{"n":1}`))
	require.NoError(t, err)
	first := watch(t.Context(), t, store, "a")
	assert.Equal(t, `{"n": 1}`, string(first.next().Metadata))
	waitForListener(t, d)
	d.exec(t, `UPDATE lockstore_metadata SET metadata = '{"n": 2}'`)
	second := watch(t.Context(), t, store, "a")
	assert.Equal(t, `{"n": 2}`, string(second.next().Metadata))
	assert.Equal(t, `{"n": 2}`, string(first.next().Metadata))
}

const listenersSQL = `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock' AND granted
	AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`

// waitForListener returns when a process listens for hints, and what it had to compare then
// has been compared.
func waitForListener(t testing.TB, db *database) {
	t.Helper()
	require.Eventually(t, func() bool {
		var n, idle int
		err := db.Pool().QueryRow(t.Context(), listenersSQL).Scan(&n)
		require.NoError(t, err)
		err = db.Pool().QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle' AND query LIKE '%LISTEN%'`).Scan(&idle)
		require.NoError(t, err)
		return n > 0 && idle > 0
	}, patience, time.Millisecond)
}

// A process that writes has watchers in others told, as soon as it has found that there are
// some, and no comparison has to find it.
func TestWatcherIsToldOfOtherProcessesWrites(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		options := *hourly
		options.Connect = func(ctx context.Context) (*pgx.Conn, error) { return pgx.Connect(ctx, d.URL()) }
		writer, reader := d.migrated(t, &options), d.store(t, &options)
		w := watch(t.Context(), t, reader, "a")
		w.next()
		waitForListener(t, d)
		tellers := func() (n int) {
			require.NoError(t, d.Pool().QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'SELECT pg_catalog.pg_notify%'`).Scan(&n))
			return n
		}
		for told := 0; told < 3 || tellers() == 0; { // what it began with is compared, the rest is told
			_, err := writer.Update(t.Context(), "a", count)
			require.NoError(t, err)
			select {
			case <-w.docs:
				told++
			case <-time.After(10 * time.Millisecond):
			}
		}
		for i := range 20 {
			_, err := writer.MergeMany(t.Context(), []metadata.Patch{{ID: "x", Patch: raw(`{"x":%d}`, i)}, {ID: "a", Patch: raw(`{"i":%d}`, i)}})
			require.NoError(t, err)
			for doc := w.next(); ; doc = w.next() {
				var got struct{ I *int }
				require.NoError(t, json.Unmarshal(doc.Metadata, &got))
				if got.I != nil && *got.I == i {
					break
				}
			}
		}
		assert.Equal(t, 1, tellers(), "one connection tells")
	})
}

// While the connection is gone nothing is heard. What was to be heard then is found when
// there is another.
func TestWatcherMissesNothingWhileItsConnectionIsGone(t *testing.T) {
	d := overPgx(t)
	proxy := pgtest.NewProxy(t, d.DB)
	options := *hourly
	options.Connect = func(ctx context.Context) (*pgx.Conn, error) { return pgx.Connect(ctx, proxy.URL()) }
	store := d.migrated(t, &options)
	w := watch(t.Context(), t, store, "a", "b")
	w.next()
	w.next()
	waitForListener(t, d)
	for i := range 3 {
		proxy.Cut()
		d.exec(t, fmt.Sprintf(`INSERT INTO lockstore_metadata (id, metadata, version) VALUES ('a', '{"n": %d}', 1) ON CONFLICT (id) DO UPDATE SET metadata = excluded.metadata`, i))
		proxy.Restore()
		assert.Equal(t, fmt.Sprintf(`{"n": %d}`, i), string(w.next().Metadata))
	}
}

// That a server is slow, as it has much to do, is no reason to look more seldom.
func TestWatcherIsToldInTimeByASlowServer(t *testing.T) {
	db := pgtest.New(t)
	proxy := pgtest.NewProxy(t, db)
	config, err := pgxpool.ParseConfig(proxy.URL())
	require.NoError(t, err)
	d := onPool(db, newPool(t, config))
	store := d.migrated(t, &metadata.Options{WatchInterval: patience / 8})
	_, err = store.Merge(t.Context(), "a", raw(`{}`))
	require.NoError(t, err)
	w := watch(t.Context(), t, store, "a")
	w.next()
	proxy.Delay(200*time.Millisecond, 0)
	for i := range 2 { // what it is told late begins with the second comparison
		d.exec(t, fmt.Sprintf(`UPDATE lockstore_metadata SET metadata = '{"n": %d}'`, i))
		assert.Equal(t, fmt.Sprintf(`{"n": %d}`, i), string(w.next().Metadata))
	}
}

func TestWatchersSeeWhatTheirCallersMay(t *testing.T) {
	for name, way := range tenancies {
		for _, told := range []bool{true, false} {
			if way.hidden && !told {
				continue
			}
			t.Run(fmt.Sprint(name, ", Principal: ", told), func(t *testing.T) {
				db := pgtest.New(t)
				_, err := db.Pool().Exec(t.Context(), `CREATE ROLE `+db.Name()+`_app LOGIN; CREATE TABLE docs (id text PRIMARY KEY, tenant text DEFAULT current_setting('app.tenant', true), metadata jsonb);
					INSERT INTO docs VALUES ('a', 'one', '{"of": "one"}'), ('b', 'two', '{"of": "two"}');
					GRANT ALL ON docs TO `+db.Name()+`_app; ALTER TABLE docs ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON docs USING (tenant = current_setting('app.tenant', true))`)
				require.NoError(t, err)
				t.Cleanup(func() {
					_, err := db.Pool().Exec(context.Background(), `DROP TABLE docs; DROP ROLE `+db.Name()+`_app`)
					assert.NoError(t, err)
				})
				config := db.Pool().Config()
				config.ConnConfig.RuntimeParams["role"] = db.Name() + "_app"
				options := &metadata.Options{Table: metadata.Table{Name: "docs"}, WatchInterval: 10 * time.Millisecond}
				if told {
					options.Principal = tenantOf
				} else { // and the server does not tell of its timeline
					_, err := db.Pool().Exec(t.Context(), `REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC`)
					require.NoError(t, err)
				}
				store, err := way.open(t, config, options)
				require.NoError(t, err)
				t.Cleanup(store.Close)
				var watchers []*watcher
				for _, tenant := range []string{"one", "two", "one"} {
					w := watch(as(t.Context(), tenant), t, store, "a", "b")
					watchers = append(watchers, w)
				}
				for i, own := range []string{"a", "b", "a"} {
					for range 2 {
						doc := watchers[i].next()
						assert.Equal(t, doc.ID == own, doc.Metadata != nil, "watcher %d, document %s: %s", i, doc.ID, doc.Metadata)
					}
				}
				_, err = db.Pool().Exec(t.Context(), `UPDATE docs SET metadata = metadata || '{"n": 2}'`)
				require.NoError(t, err)
				for i, own := range []string{"a", "b", "a"} {
					doc := watchers[i].next()
					assert.Equal(t, own, doc.ID)
					assert.Contains(t, string(doc.Metadata), `"n": 2`)
				}
			})
		}
	}
}

func TestWatchOfHostsTables(t *testing.T) {
	for name, c := range map[string]struct {
		ddl   string
		table metadata.Table
	}{
		"a partitioned table": {`CREATE TABLE docs (id bigint, tenant text, metadata jsonb, PRIMARY KEY (tenant, id)) PARTITION BY LIST (tenant);
			CREATE TABLE docs_one PARTITION OF docs FOR VALUES IN ('one'); CREATE TABLE docs_two PARTITION OF docs DEFAULT;
			INSERT INTO docs VALUES (7, 'one', '{}'), (7, 'two', '{}'), (8, 'one', NULL)`,
			metadata.Table{Name: "docs", IDType: metadata.BigInt, Scope: []metadata.Scope{{Column: "tenant", Value: "one"}}}},
		"a view": {`CREATE TABLE rows (id bigint PRIMARY KEY, metadata jsonb, tenant text); INSERT INTO rows VALUES (7, '{}', 'one'), (8, NULL, 'one'); CREATE VIEW docs AS SELECT * FROM rows`,
			metadata.Table{Name: "docs", IDType: metadata.BigInt}},
		"a table without a key, and other columns": {`CREATE TABLE docs (id bigint, metadata jsonb, tenant text); INSERT INTO docs VALUES (7, '{}', 'one'), (8, NULL, 'one')`,
			metadata.Table{Name: "docs", IDType: metadata.BigInt}},
	} {
		t.Run(name, func(t *testing.T) {
			eachDriver(t, func(t *testing.T, d *database) {
				d.exec(t, c.ddl)
				store := d.store(t, &metadata.Options{Table: c.table, WatchInterval: 10 * time.Millisecond})
				w := watch(t.Context(), t, store, "7", "8", "9", "7")
				for range 3 {
					doc := w.next()
					assert.Equal(t, doc.ID == "9", doc.Metadata == nil, doc)
				}
				d.exec(t, `UPDATE docs SET tenant = tenant`) // which is no change of a document
				d.exec(t, `UPDATE docs SET metadata = '{"n": 1}' WHERE id = 8`)
				doc := w.next()
				assert.Equal(t, "8", doc.ID)
				assert.Equal(t, `{"n": 1}`, string(doc.Metadata))
				d.exec(t, `DELETE FROM docs WHERE id = 7`)
				assert.Equal(t, metadata.Document{ID: "7"}, w.next())
			})
		})
	}
}

func TestWatchEnds(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		store := d.store(t, often)
		assert.ErrorIs(t, watch(t.Context(), t, store, "a").end(), metadata.ErrSchema)
		store = d.migrated(t, often)
		assert.ErrorIs(t, watch(t.Context(), t, store, "a", "").end(), metadata.ErrInvalidID)
		w := watch(t.Context(), t, store, "a")
		w.next()
		w.stop(errEnoughSeen)
		err := w.end()
		assert.ErrorIs(t, err, errEnoughSeen)
		assert.ErrorIs(t, err, context.Canceled)
		w = watch(t.Context(), t, store, "a")
		w.next()
		store.Close()
		assert.ErrorIs(t, w.end(), metadata.ErrClosed)
		assert.ErrorIs(t, watch(t.Context(), t, store, "a").end(), metadata.ErrClosed)
	})
}

// The one that reads for all leaves, or panics. The others go on.
func TestWatchersGoOnWithoutTheFirst(t *testing.T) {
	d := overPgx(t)
	store := d.migrated(t, hourly)
	var watchers []*watcher
	for range 4 {
		w := watch(t.Context(), t, store, "a")
		w.next()
		watchers = append(watchers, w)
	}
	waitForListener(t, d)
	for i, w := range watchers {
		w.stop(errEnoughSeen)
		for _, rest := range watchers[i+1:] {
			_, err := store.Merge(t.Context(), "a", raw(`{"without %d": true}`, i))
			require.NoError(t, err)
			assert.Contains(t, string(rest.next().Metadata), fmt.Sprintf(`"without %d"`, i))
		}
	}
	assert.PanicsWithValue(t, "no", func() {
		for range store.Watch(t.Context(), "a") {
			panic("no")
		}
	})
	require.Eventually(t, func() bool {
		var n int
		require.NoError(t, d.Pool().QueryRow(t.Context(), listenersSQL).Scan(&n))
		return n == 0
	}, patience, time.Millisecond, "nobody watches, nobody listens")
}

// Where nobody watches, a writer opens no connection, tells nothing, and asks on the
// connection that it has.
func TestNobodyIsTold(t *testing.T) {
	db := pgtest.New(t)
	pool := newPool(t, db.Pool().Config())
	d := onPool(db, pool)
	connected := make(chan struct{}, 100)
	store := d.migrated(t, &metadata.Options{Connect: func(ctx context.Context) (*pgx.Conn, error) {
		connected <- struct{}{}
		return pgx.Connect(ctx, db.URL())
	}})
	before := pool.Stat()
	for begun := time.Now(); time.Since(begun) < 2500*time.Millisecond; { // in which it asks twice
		_, err := store.Update(t.Context(), "a", count)
		require.NoError(t, err)
	}
	assert.Empty(t, connected)
	assert.Equal(t, before.NewConnsCount(), pool.Stat().NewConnsCount())
	var asked int
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'SELECT CASE%'`).Scan(&asked))
	assert.Equal(t, 1, asked)
}

// Without hints a store opens no connection for them, whoever watches, and finds by comparison
// what has changed.
func TestWithoutHintsThereIsNoConnectionForThem(t *testing.T) {
	d := overPgx(t)
	connect := func(connects chan<- struct{}) func(context.Context) (*pgx.Conn, error) {
		return func(ctx context.Context) (*pgx.Conn, error) {
			connects <- struct{}{}
			return pgx.Connect(ctx, d.URL())
		}
	}
	none, some := make(chan struct{}, 1000), make(chan struct{}, 1000)
	without := d.migrated(t, &metadata.Options{NoHints: true, WatchInterval: often.WatchInterval, Connect: connect(none)})
	with := d.store(t, &metadata.Options{Connect: connect(some)})
	here, elsewhere := watch(t.Context(), t, without, "a"), watch(t.Context(), t, d.store(t, hourly), "a")
	here.next()
	elsewhere.next()
	waitForListener(t, d)
	for deadline := time.Now().Add(patience); len(some) == 0 && time.Now().Before(deadline); {
		for _, store := range []*metadata.Postgres{without, with} {
			_, err := store.Update(t.Context(), "a", count)
			require.NoError(t, err)
		}
	}
	assert.NotEmpty(t, some)
	d.exec(t, `UPDATE lockstore_metadata SET metadata = '{"hand": 1}'`)
	for string(here.next().Metadata) != `{"hand": 1}` {
	}
	assert.Empty(t, none)
}

// Whichever way a process writes, it finds that others watch.
func TestEveryWriterFindsWatchers(t *testing.T) {
	for way, write := range map[string]func(context.Context, *metadata.Postgres) error{
		"Merge": func(ctx context.Context, s *metadata.Postgres) error {
			_, err := s.Merge(ctx, "a", raw(`{"n":%d}`, time.Now().UnixNano()))
			return err
		},
		"Update": func(ctx context.Context, s *metadata.Postgres) error {
			_, err := s.Update(ctx, "a", count)
			return err
		},
		"Delete": func(ctx context.Context, s *metadata.Postgres) error {
			if _, err := s.Replace(ctx, "a", raw(`{}`)); err != nil {
				return err
			}
			return s.Delete(ctx, "a")
		},
		"MergeMany": func(ctx context.Context, s *metadata.Postgres) error {
			_, err := s.MergeMany(ctx, []metadata.Patch{{ID: "a", Patch: raw(`{"n":%d}`, time.Now().UnixNano())}, {ID: "b", Patch: raw(`{}`)}})
			return err
		},
		"many Merges": func(ctx context.Context, s *metadata.Postgres) error {
			var group sync.WaitGroup
			var errs [32]error
			for i := range errs {
				group.Go(func() { _, errs[i] = s.Merge(ctx, "a", raw(`{"%d":%d}`, i, time.Now().UnixNano())) })
			}
			group.Wait()
			return errors.Join(errs[:]...)
		},
		"Merges of many": func(ctx context.Context, s *metadata.Postgres) error {
			var group sync.WaitGroup
			var errs [32]error
			for i := range errs {
				group.Go(func() { _, errs[i] = s.Merge(ctx, fmt.Sprint(i), raw(`{"n":%d}`, time.Now().UnixNano())) })
			}
			group.Wait()
			return errors.Join(errs[:]...)
		},
	} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			eachDriver(t, func(t *testing.T, d *database) {
				told := make(chan struct{}, 1000)
				d.migrated(t, nil)
				writer := d.store(t, &metadata.Options{Connect: func(ctx context.Context) (*pgx.Conn, error) {
					told <- struct{}{}
					return pgx.Connect(ctx, d.URL())
				}})
				watcher, err := metadata.NewPostgres(d.Pool(), hourly) // hears, whatever the driver
				require.NoError(t, err)
				t.Cleanup(watcher.Close)
				w := watch(t.Context(), t, watcher, "none")
				w.next()
				waitForListener(t, d)
				for deadline := time.Now().Add(patience); len(told) == 0 && time.Now().Before(deadline); {
					require.NoError(t, write(t.Context(), writer))
				}
				assert.NotEmpty(t, told)
			})
		})
	}
}

// A flaky driver fails in words of its own.
type flaky struct {
	driver.Connector
	fails func(context.Context) error // nil: it does not
}

func (s *flaky) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := s.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return flakyConn{c.(*stdlib.Conn), s}, nil
}

func (*flaky) Driver() driver.Driver { return struct{ driver.Driver }{} }

type flakyConn struct {
	*stdlib.Conn
	flaky *flaky
}

func (c flakyConn) QueryContext(ctx context.Context, sql string, args []driver.NamedValue) (driver.Rows, error) {
	if err := c.flaky.fails(ctx); err != nil && strings.Contains(sql, "WITH ORDINALITY") {
		return nil, err
	}
	return c.Conn.QueryContext(ctx, sql, args)
}

// Of an error of a driver that nothing is known of, a watcher does not end where time was
// up, nor where it has been told something before.
func TestWatchAndErrorsThatNothingIsKnownOf(t *testing.T) {
	db := pgtest.New(t)
	var fails atomic.Pointer[func(context.Context) error]
	host := sql.OpenDB(&flaky{stdlib.GetConnector(*db.Pool().Config().ConnConfig), func(ctx context.Context) error {
		if f := fails.Load(); f != nil {
			return (*f)(ctx)
		}
		return nil
	}})
	t.Cleanup(func() { host.Close() })
	d := &database{db, func(o *metadata.Options) (*metadata.Postgres, error) { return metadata.NewPostgres(host, o) }}
	failed := make(chan struct{}, 1000)
	options := &metadata.Options{WatchInterval: 10 * time.Millisecond, Timeout: 500 * time.Millisecond, Logger: slog.New(unread(failed))}
	store := d.migrated(t, options)
	await := func() {
		t.Helper()
		for range 3 {
			select {
			case <-failed:
			case <-time.After(patience):
				require.Fail(t, "it does not try again")
			}
		}
	}
	late := func(ctx context.Context) error { <-ctx.Done(); return errors.New("fails") }
	atOnce := func(context.Context) error { return errors.New("fails") }

	fails.Store(&atOnce)
	assert.ErrorContains(t, watch(t.Context(), t, store, "a").end(), "driver error")

	fails.Store(&late)
	w := watch(t.Context(), t, store, "a")
	await()
	fails.Store(nil)
	assert.Equal(t, metadata.Document{ID: "a"}, w.next())

	fails.Store(&atOnce)
	await()
	fails.Store(nil)
	d.exec(t, `INSERT INTO lockstore_metadata (id, metadata, version) VALUES ('a', '{"n": 1}', 1)`)
	assert.Equal(t, `{"n": 1}`, string(w.next().Metadata))
}

// unread tells of each record that says that watched documents could not be read.
type unread chan<- struct{}

func (unread) Enabled(context.Context, slog.Level) bool { return true }
func (l unread) WithAttrs([]slog.Attr) slog.Handler     { return l }
func (l unread) WithGroup(string) slog.Handler          { return l }
func (l unread) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "watched documents") {
		l <- struct{}{}
	}
	return nil
}
