package metadata_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

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

// newChain has merges line up.
func newChain(t *testing.T, d *database, opts metadata.Options) *chain {
	opts.MaxBatch = 2
	c := &chain{blocked: newBlocked(t, d, &opts)}
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

// saving is in the statements that store a document and tell in which row.
const saving = "stored.told"

// Who leads after another does not read the document again.
func TestHotDocumentIsReadOnce(t *testing.T) {
	eachTraced(t, func(t *testing.T, d *database, tr *tracer) {
		c := newChain(t, d, metadata.Options{})
		reads, saves := tr.count("FOR NO KEY UPDATE"), tr.count(saving)
		doc := c.run(t)
		assert.Equal(t, int64(1+links), doc.Version)
		assert.Zero(t, reads.Load(), "as the first merge was one statement")
		assert.Equal(t, int64(links/2), saves.Load())
		assert.Equal(t, int64(1+1+links/2), c.store.Stats().Commits, "and the first")
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
				c := newChain(t, d, metadata.Options{})
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
		c := newChain(t, d, metadata.Options{})
		doc := c.run(t)
		assert.Contains(t, string(doc.Metadata), fmt.Sprintf(`"again": %d`, c.store.Stats().Commits-1), "all but the one that made the document")
	})
}

// Where a role may not ask which row it is, or there is none, hot documents are written all
// the same, and the server has nothing to say.
func TestHotDocumentsWhereRowsAreNotTold(t *testing.T) {
	for name, set := range map[string]string{
		"a view":             `ALTER TABLE docs RENAME TO below; CREATE VIEW docs AS SELECT * FROM below; GRANT SELECT, UPDATE ON docs TO %[1]s`,
		"rights of columns":  `GRANT SELECT (id, metadata, version), UPDATE (metadata, version) ON docs TO %[1]s`,
		"rights of a column": `GRANT SELECT (id, metadata, version, xmin), UPDATE (metadata, version) ON docs TO %[1]s`,
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
		c := newChain(t, d, metadata.Options{Principal: tenantOf})
		reads := tr.count("FOR NO KEY UPDATE")
		c.calls = append(c.calls, lineUp(as(t.Context(), "b"), func(ctx context.Context) (metadata.Document, error) {
			return c.store.Update(ctx, "a", func(metadata.Document) (json.RawMessage, error) {
				assert.Equal(t, int64(1), reads.Load())
				return raw(`{"b":1}`), nil
			})
		}))
		c.run(t)
	})
}
