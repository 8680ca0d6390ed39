package metadata_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// A chain is commits of one document, of two merges each but for the first.
type chain struct {
	*blocked
	calls []pending
}

const links = 21

// newChain has so many merges line up, whose commits may overlap.
func newChain(t *testing.T, d *database, opts metadata.Options, links int) *chain {
	opts.MaxBatch, opts.NoHints = 2, true // nothing is asked that a commit would be sent alone with
	c := &chain{blocked: newBlocked(t, d, &opts)}
	c.store.Overlap()
	c.merge(t.Context(), true, "k0")
	for i := 1; i < links; i++ {
		c.calls = append(c.calls, lineUp(t.Context(), merging(c.store, fmt.Sprintf(`{"k%d":1}`, i))))
	}
	return c
}

// run has them go on. All of them are in the document then.
func (c *chain) run(t *testing.T) metadata.Document {
	c.unblock()
	c.wg.Wait()
	for i, p := range c.calls {
		assert.NoError(t, p.wait(t, fmt.Sprint("call ", i+1)).err)
	}
	doc := c.document()
	for i := range links {
		assert.Contains(t, string(doc.Metadata), fmt.Sprintf(`"k%d": 1`, i))
	}
	return doc
}

// share has merges of a store share a commit: from then on a lone one leaves its document
// to the next, too.
func share(t *testing.T, store *metadata.Postgres) {
	for store.Stats().Largest < 2 {
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				_, err := store.Merge(t.Context(), "shared", raw(`{"k%d":%d}`, i, store.Stats().Writes))
				assert.NoError(t, err)
			})
		}
		wg.Wait()
	}
}

// saving is in the statement that stores a document if it is what the commit before has left.
const saving = "pg_catalog.sha256("

// Who leads after another does not read the document again.
func TestHotDocumentIsReadOnce(t *testing.T) {
	eachTraced(t, func(t *testing.T, d *database, tr *tracer) {
		c := newChain(t, d, metadata.Options{}, links)
		reads, saves := tr.count("FOR NO KEY UPDATE"), tr.count(saving)
		doc := c.run(t)
		assert.Equal(t, int64(1+links), doc.Version)
		assert.Equal(t, int64(1), reads.Load())
		assert.Equal(t, int64(links/2-1), saves.Load(), "all but the one that has read it")
		assert.Equal(t, int64(1+1+links/2), c.store.Stats().Commits, "and the first")
	})
}

// Who waits for a version that others make finds it, however many lose meanwhile to what the
// process itself has left.
func TestVersionThatOthersMakeIsFound(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		here, other := d.migrated(t, nil), d.migrated(t, nil)
		share(t, here)
		here.Overlap()
		for n := range 2 {
			_, err := here.Merge(t.Context(), "a", raw(`{"n":%d}`, n))
			require.NoError(t, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var losers sync.WaitGroup
		defer losers.Wait()
		defer cancel()
		var lost atomic.Int32
		for range 16 {
			losers.Go(func() {
				for ctx.Err() == nil {
					_, err := here.IfVersion(1).Merge(t.Context(), "a", raw(`{"lost":1}`))
					assert.ErrorIs(t, err, metadata.ErrConflict)
					lost.Add(1)
				}
			})
		}
		require.Eventually(t, func() bool { return lost.Load() > 100 }, patience, time.Millisecond)
		doc, err := other.Merge(t.Context(), "a", raw(`{"n":2}`))
		require.NoError(t, err)
		_, err = here.IfVersion(doc.Version).Merge(t.Context(), "a", raw(`{"won":1}`))
		assert.NoError(t, err, "who knows of it loses to nobody")
		_, err = other.Merge(t.Context(), "a", raw(`{"n":3}`))
		require.NoError(t, err)
		assert.Eventually(t, func() bool {
			doc, err := here.IfVersion(2).Merge(t.Context(), "a", raw(`{"lost":1}`))
			return assert.ErrorIs(t, err, metadata.ErrConflict) && doc.Version == 5
		}, patience, time.Millisecond)
	})
}

// What others write between two commits of a hot document is not lost, whatever way they
// write it.
func TestHotDocumentThatOthersWrite(t *testing.T) {
	const update = `UPDATE lockstore_metadata SET metadata = metadata || '{"other":1}' WHERE id = 'a'`
	for name, write := range map[string]func(t *testing.T, d *database, c *chain){
		"by hand": func(t *testing.T, d *database, _ *chain) { d.exec(t, update) },
		"by hand, and commit later": func(t *testing.T, d *database, _ *chain) {
			tx, err := d.Pool().Begin(context.Background())
			require.NoError(t, err)
			_, err = tx.Exec(context.Background(), update)
			require.NoError(t, err)
			go func() {
				waitForRow(t, d)
				assert.NoError(t, tx.Commit(context.Background()))
			}()
		},
		"anew": func(t *testing.T, d *database, _ *chain) {
			d.exec(t, `WITH old AS (DELETE FROM lockstore_metadata WHERE id = 'a' RETURNING *)
				SELECT * INTO old FROM old; INSERT INTO lockstore_metadata SELECT * FROM old; `+update)
		},
		"by another store": func(t *testing.T, d *database, _ *chain) {
			other, err := metadata.NewPostgres(d.Pool(), nil)
			require.NoError(t, err)
			_, err = other.Merge(context.Background(), "a", raw(`{"other":1}`))
			assert.NoError(t, err)
		},
		"in the host's transaction": func(t *testing.T, d *database, c *chain) {
			tx, err := d.Pool().Begin(context.Background())
			require.NoError(t, err)
			_, err = c.store.In(tx).Merge(context.Background(), "a", raw(`{"other":1}`))
			assert.NoError(t, err)
			assert.NoError(t, tx.Commit(context.Background()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachTraced(t, func(t *testing.T, d *database, tr *tracer) {
				c := newChain(t, d, metadata.Options{}, links)
				tr.once(sending, saving, func() { tr.once(sending, saving, func() { write(t, d, c) }) })
				assert.Contains(t, string(c.run(t).Metadata), `"other": 1`)
			})
		})
	}
}

// A trigger may write the row once more, in the same transaction.
func TestHotDocumentThatATriggerWritesAgain(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		d.migrated(t, nil)
		d.exec(t, `CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
				UPDATE lockstore_metadata SET metadata = metadata || jsonb_build_object('again', coalesce((metadata->'again')::int, 0) + 1) WHERE id = NEW.id;
				RETURN NULL;
			END $$;
			CREATE TRIGGER again AFTER UPDATE ON lockstore_metadata FOR EACH ROW WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION again()`)
		c := newChain(t, d, metadata.Options{}, links)
		doc := c.run(t)
		assert.Contains(t, string(doc.Metadata), fmt.Sprintf(`"again": %d`, c.store.Stats().Commits-1), "all but the one that made the document")
	})
}

// Hot documents are written whatever the table is, and whatever of it a role may see; the
// server has nothing to say.
func TestHotDocumentsInAnyTable(t *testing.T) {
	for name, set := range map[string]string{
		"a view":            `ALTER TABLE docs RENAME TO below; CREATE VIEW docs AS SELECT * FROM below; GRANT SELECT, UPDATE ON docs TO %[1]s`,
		"rights of columns": `GRANT SELECT (id, metadata, version), UPDATE (metadata, version) ON docs TO %[1]s`,
		"a partition": `DROP TABLE docs; CREATE TABLE docs (id text PRIMARY KEY, metadata jsonb, version bigint) PARTITION BY HASH (id);
			CREATE TABLE docs_0 PARTITION OF docs FOR VALUES WITH (MODULUS 1, REMAINDER 0); INSERT INTO docs VALUES ('a', '{}', 1); GRANT SELECT, UPDATE ON docs TO %[1]s`,
	} {
		t.Run(name, func(t *testing.T) {
			for _, driver := range []string{"pgx", "sqlx"} {
				d := &database{DB: pgtest.New(t)}
				role := "writer_" + d.Name()
				d.open = func(o *metadata.Options) (*metadata.Postgres, error) {
					config := d.Pool().Config()
					config.ConnConfig.RuntimeParams["role"] = role
					return openOn(newPool(t, config), driver, o)
				}
				options := metadata.Options{Table: metadata.Table{Name: "docs", Version: "version"}}
				d.exec(t, `CREATE TABLE docs (id text PRIMARY KEY, metadata jsonb, version bigint); INSERT INTO docs VALUES ('a', '{}', 1); CREATE ROLE `+role)
				t.Cleanup(func() { d.exec(t, "DROP OWNED BY "+role+"; DROP ROLE "+role) })
				owner, err := metadata.NewPostgres(d.Pool(), &options)
				require.NoError(t, err)
				require.NoError(t, owner.Migrate(t.Context()))
				d.exec(t, fmt.Sprintf(set, role))
				log, store := serverLog(t, d), d.store(t, &options)
				var wg sync.WaitGroup
				for writer := range 16 {
					wg.Go(func() {
						for i := range 20 {
							_, err := store.Merge(t.Context(), "a", raw(`{"k%d":%d}`, 20*writer+i, i))
							assert.NoError(t, err)
						}
					})
				}
				wg.Wait()
				doc, err := store.Get(t.Context(), "a")
				require.NoError(t, err)
				assert.Equal(t, int64(321), doc.Version)
				assert.Equal(t, 320, strings.Count(string(doc.Metadata), `"k`))
				assert.Empty(t, log())
			}
		})
	}
}

// What the commit of some has left is not shown to who has other rights: that is asked for
// anew.
func TestHotDocumentIsReadByWhomItIsShown(t *testing.T) {
	eachTraced(t, func(t *testing.T, d *database, tr *tracer) {
		c := newChain(t, d, metadata.Options{Principal: tenantOf}, links)
		reads := tr.count("FOR NO KEY UPDATE")
		c.calls = append(c.calls, lineUp(as(t.Context(), "b"), func(ctx context.Context) (metadata.Document, error) {
			return c.store.Update(ctx, "a", func(metadata.Document) (json.RawMessage, error) {
				assert.Equal(t, int64(2), reads.Load())
				return raw(`{"b":1}`), nil
			})
		}))
		c.run(t)
	})
}

// A server that crashes can lose its last commits, where the host allows for that, and then
// gives their transactions' numbers, and their rows' places, to others.
func TestHotDocumentAfterCommitsWereLost(t *testing.T) {
	db, ctx := pgtest.New(t, pgtest.Dedicated(), pgtest.Setting("synchronous_commit", "off"), pgtest.Setting("wal_writer_delay", "10s"), pgtest.Setting("autovacuum", "off")), context.Background()
	var uses atomic.Int32
	var reached, goOn [2]chan struct{}
	for i := range 2 {
		reached[i], goOn[i] = make(chan struct{}), make(chan struct{})
	}
	config := db.Pool().Config()
	config.PrepareConn = func(ctx context.Context, c *pgx.Conn) (bool, error) {
		if i := uses.Add(1) - 1; i >= 0 && i < 2 {
			close(reached[i])
			<-goOn[i]
		}
		return c.Ping(ctx) == nil, nil
	}
	uses.Store(-1000)
	store, err := metadata.NewPostgres(newPool(t, config), &metadata.Options{MaxBatch: 2, Principal: func(context.Context) string { return "" }})
	require.NoError(t, err)
	require.NoError(t, store.Migrate(ctx))
	_, err = store.Merge(ctx, "a", raw(`{"zero":0}`))
	require.NoError(t, err)
	_, err = db.Pool().Exec(ctx, "CHECKPOINT")
	require.NoError(t, err)

	uses.Store(0)
	first := begin(func() (metadata.Document, error) { return store.Merge(ctx, "a", raw(`{"a":1}`)) })
	<-reached[0]
	second := lineUp(ctx, merging(store, `{"with":1}`)) // in the same commit
	third := lineUp(ctx, merging(store, `{"b":1}`))     // which builds on that
	close(goOn[0])
	require.NoError(t, first.wait(t, "first").err)
	require.NoError(t, second.wait(t, "second").err)
	<-reached[1]
	require.NoError(t, db.Server().Kill(ctx))
	require.NoError(t, db.Server().Restart(ctx))
	db.Pool().Reset()
	other, err := metadata.NewPostgres(newPool(t, db.Pool().Config()), nil)
	require.NoError(t, err)
	_, err = other.Merge(ctx, "a", raw(`{"other":1}`))
	require.NoError(t, err)
	close(goOn[1])
	assert.NoError(t, third.wait(t, "third").err)
	doc, err := other.Get(ctx, "a")
	require.NoError(t, err)
	assert.Contains(t, string(doc.Metadata), `"other": 1`)
}

// A row may leave a partition for one whose columns lie otherwise, for which the server has
// no system columns to return.
func TestHotDocumentThatMovesBetweenPartitions(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		d.exec(t, `CREATE TABLE docs (old int, id text, metadata jsonb, version bigint) PARTITION BY LIST ((metadata->>'region'));
			CREATE TABLE docs_eu PARTITION OF docs FOR VALUES IN ('eu');
			ALTER TABLE docs DROP COLUMN old;
			CREATE TABLE docs_us PARTITION OF docs FOR VALUES IN ('us');
			INSERT INTO docs VALUES ('a', '{"region": "us"}', 1)`)
		store := d.migrated(t, &metadata.Options{Table: metadata.Table{Name: "docs", Version: "version"}})
		log := serverLog(t, d)
		for _, region := range []string{"eu", "us", "eu"} {
			_, err := store.Update(t.Context(), "a", func(metadata.Document) (json.RawMessage, error) { return raw(`{"region":%q}`, region), nil })
			assert.NoError(t, err, region)
		}
		_, err := store.Replace(t.Context(), "a", raw(`{"region":"us","replaced":true}`))
		assert.NoError(t, err)
		assert.Empty(t, log())
	})
}

// A trigger may write a number otherwise, which is equal to the one that it was given.
func TestHotDocumentKeepsHowATriggerWritesANumber(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		d.migrated(t, nil)
		d.exec(t, `CREATE FUNCTION cents() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
				NEW.metadata := jsonb_set(NEW.metadata, '{price}', to_jsonb((NEW.metadata->>'price')::numeric(10,2))); RETURN NEW; END $$;
			CREATE TRIGGER cents BEFORE UPDATE ON lockstore_metadata FOR EACH ROW
				WHEN (OLD.metadata->'price' IS DISTINCT FROM NEW.metadata->'price') EXECUTE FUNCTION cents()`)
		c := newBlocked(t, d, &metadata.Options{MaxBatch: 2})
		c.merge(t.Context(), true, "a")
		var calls []pending
		for _, p := range []string{`{"price":1}`, `{"with":1}`, `{"after":1}`} {
			calls = append(calls, lineUp(t.Context(), merging(c.store, p)))
		}
		c.unblock()
		for i, p := range calls {
			assert.NoError(t, p.wait(t, fmt.Sprint("call ", i)).err)
		}
		assert.Contains(t, string(c.document().Metadata), `"price": 1.00`)
	})
}
