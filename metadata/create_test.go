package metadata_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/backoff"
	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
)

// things is a table that takes no empty document, and notes what is done to it.
const things = `
CREATE TABLE things (id text PRIMARY KEY, metadata jsonb NOT NULL CHECK (metadata ? 'kind'), version bigint, email text UNIQUE DEFAULT 'none');
CREATE TABLE audit (n serial, id text, what text);
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	INSERT INTO audit (id, what) VALUES (NEW.id, TG_OP || ' ' || NEW.metadata); RETURN NULL; END $$;
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON things FOR EACH ROW EXECUTE FUNCTION audit();
CREATE FUNCTION alter() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	IF NEW.metadata ? 'vanish' THEN RETURN NULL; END IF;
	IF NEW.metadata ? 'rename' THEN NEW.id := lower(NEW.id); END IF;
	IF NEW.metadata ? 'stamp' THEN NEW.metadata := NEW.metadata || '{"stamped": true}'; END IF;
	IF NOT NEW.metadata ? 'same' THEN NEW.email := NEW.id; END IF;
	RETURN NEW; END $$;
CREATE TRIGGER alter BEFORE INSERT ON things FOR EACH ROW EXECUTE FUNCTION alter();`

func thingsOptions(inGo bool) *metadata.Options {
	return &metadata.Options{MergeInGo: inGo, Table: metadata.Table{Name: "things", Version: "version", Create: true}}
}

// creations are the operations that make a document of a patch.
func creations(t *testing.T, d *database, store *metadata.Postgres) map[string]func(ctx context.Context, id, patch string) (metadata.Document, error) {
	locker := newLocker(t, d.Pool())
	update := func(ctx context.Context, s metadata.MetadataStore, id, patch string) (metadata.Document, error) {
		return s.Update(ctx, id, func(metadata.Document) (json.RawMessage, error) { return raw("%s", patch), nil })
	}
	return map[string]func(ctx context.Context, id, patch string) (metadata.Document, error){
		"Merge": func(ctx context.Context, id, patch string) (metadata.Document, error) {
			return store.Merge(ctx, id, raw("%s", patch))
		},
		"Update": func(ctx context.Context, id, patch string) (metadata.Document, error) {
			return update(ctx, store, id, patch)
		},
		"Replace": func(ctx context.Context, id, patch string) (metadata.Document, error) {
			return store.Replace(ctx, id, raw("%s", patch))
		},
		"MergeMany": func(ctx context.Context, id, patch string) (metadata.Document, error) {
			results, _ := store.MergeMany(ctx, []metadata.Patch{{ID: id, Patch: raw("%s", patch)}})
			return results[0].Document, results[0].Err
		},
		"In": func(ctx context.Context, id, patch string) (doc metadata.Document, err error) {
			err = d.inTx(ctx, func(tx any) error {
				doc, err = update(ctx, store.In(tx), id, patch)
				return err
			})
			return doc, err
		},
		"under a hold": func(ctx context.Context, id, patch string) (doc metadata.Document, err error) {
			err = lock.Do(ctx, locker, store.Key(id), func(ctx context.Context) error {
				doc, err = store.Merge(ctx, id, raw("%s", patch))
				return err
			})
			return doc, err
		},
	}
}

func TestDocumentIsCreatedAsWhatItIs(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		d.exec(t, things)
		for _, inGo := range []bool{false, true} {
			ctx, store := t.Context(), d.migrated(t, thingsOptions(inGo))
			for name, write := range creations(t, d, store) {
				id := fmt.Sprint(name, inGo)
				doc, err := write(ctx, id, `{"kind":"x","stamp":1}`)
				require.NoError(t, err, name)
				assert.Equal(t, `{"kind": "x", "stamp": 1, "stamped": true}`, string(doc.Metadata), "%s: with what a trigger adds", name)
				assert.Equal(t, int64(1), doc.Version, name)
				stored, err := store.Get(ctx, id)
				require.NoError(t, err)
				assert.Equal(t, doc, stored, name)
				rows, err := d.Pool().Query(ctx, "SELECT what FROM audit WHERE id = $1", id)
				require.NoError(t, err)
				told, err := pgx.CollectRows(rows, pgx.RowTo[string])
				require.NoError(t, err)
				assert.Equal(t, []string{"INSERT " + string(doc.Metadata)}, told, name)
			}
		}
	})
}

// What keeps a document from being made is told, in every operation, and at once.
func TestDocumentThatCannotBeCreatedIsRejected(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		d.exec(t, things+`INSERT INTO things VALUES ('taken', '{"kind":1,"same":1}', 1, 'none')`)
		ctx, store := t.Context(), d.migrated(t, thingsOptions(false))
		for name, write := range creations(t, d, store) {
			for patch, why := range map[string]string{
				`{"colour":1}`:            "a constraint",
				`{"kind":1,"vanish":1}`:   "a trigger that suppresses it",
				`{"kind":1,"rename":1}`:   "a trigger that changes the id",
				`{"kind":1,"same":"one"}`: "another unique index",
			} {
				id := "NEW " + name
				_, err := write(ctx, id, patch)
				assert.ErrorIs(t, err, metadata.ErrRejected, "%s: %s", name, why)
				found, err := store.GetMany(ctx, id, "new "+name)
				require.NoError(t, err)
				assert.Empty(t, found, "%s: %s", name, why)
			}
		}
	})
}

// A host's transaction has inserted the document, and not yet committed.
func TestDocumentThatAHostIsInsertingIsWaitedFor(t *testing.T) {
	t.Parallel() // it mostly waits
	eachDriver(t, func(t *testing.T, d *database) {
		t.Parallel()
		ctx, store := t.Context(), d.migrated(t, &metadata.Options{Timeout: time.Second})
		for name, write := range creations(t, d, store) {
			if name == "In" || name == "Update" { // see below
				continue
			}
			host, err := d.Pool().Begin(ctx)
			require.NoError(t, err)
			_, err = host.Exec(ctx, "INSERT INTO lockstore_metadata (id, metadata, version) VALUES ($1, '{\"host\": 1}', 1)", name)
			require.NoError(t, err)
			writing := begin(func() (metadata.Document, error) { return write(ctx, name, `{"n":1}`) })
			_, early := writing.within(3 * time.Second / 2)
			assert.False(t, early, "%s: longer than a statement may take", name)
			require.NoError(t, host.Commit(ctx))
			got := writing.wait(t, name)
			require.NoError(t, got.err, name)
			assert.Equal(t, int64(2), got.doc.Version, name)
		}
	})
}

// What decides has seen that there is none, and does not run again where it must not.
func TestUpdateOfADocumentThatAHostIsInsertingIsBusy(t *testing.T) {
	t.Parallel() // it mostly waits
	eachDriver(t, func(t *testing.T, d *database) {
		t.Parallel()
		ctx, store := t.Context(), d.migrated(t, &metadata.Options{Timeout: time.Second, MaxBatch: 1})
		for _, name := range []string{"Update", "In"} {
			for _, commits := range []bool{false, true} {
				id := fmt.Sprint(name, commits)
				host, err := d.Pool().Begin(ctx)
				require.NoError(t, err)
				_, err = host.Exec(ctx, "INSERT INTO lockstore_metadata (id) VALUES ($1)", id)
				require.NoError(t, err)
				write := begin(func() (metadata.Document, error) { return creations(t, d, store)[name](ctx, id, `{"n":1}`) })
				if commits {
					waitForRow(t, d)
					require.NoError(t, host.Commit(ctx))
				}
				assert.ErrorIs(t, write.wait(t, id).err, lock.ErrBusy, id)
				host.Rollback(ctx)
			}
		}
	})
}

// Who waits for the lock of a document that is not there writes nothing meanwhile.
func TestWaiterForAMissingDocumentWritesNothing(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		ctx, store := t.Context(), d.migrated(t, &metadata.Options{Backoff: backoff.Constant{Base: time.Millisecond}})
		held, err := newLocker(t, d.Pool()).Lock(ctx, store.Key("a"))
		require.NoError(t, err)
		write := begin(func() (metadata.Document, error) { return store.Merge(ctx, "a", raw(`{"n":1}`)) })
		waitForWaits(t, store, 20)
		var dead int64
		require.NoError(t, d.Pool().QueryRow(ctx, "SELECT pg_relation_size('lockstore_metadata')").Scan(&dead))
		assert.Zero(t, dead, "bytes of the table")
		require.NoError(t, held.Unlock())
		assert.Equal(t, int64(1), write.wait(t, "the merge").doc.Version)
	})
}

// In a table whose partitions tell rows of the same id apart, a row that is locked is
// not taken for one that is missing.
func TestLockedRowIsNotInsertedAgain(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		ctx := t.Context()
		d.exec(t, `CREATE TABLE parted (id text, region int NOT NULL DEFAULT 0, metadata jsonb, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
			CREATE TABLE p0 PARTITION OF parted FOR VALUES IN (0); CREATE TABLE p1 PARTITION OF parted FOR VALUES IN (1); INSERT INTO parted VALUES ('a', 1, '{}')`)
		store := d.migrated(t, &metadata.Options{Table: metadata.Table{Name: "parted", Create: true}})
		host, err := d.Pool().Begin(ctx)
		require.NoError(t, err)
		_, err = host.Exec(ctx, "SELECT FROM parted WHERE id = 'a' FOR UPDATE")
		require.NoError(t, err)
		write := begin(func() (metadata.Document, error) {
			_, err := store.MergeMany(ctx, []metadata.Patch{{ID: "a", Patch: raw(`{"n":1}`)}, {ID: "b", Patch: raw(`{"n":1}`)}})
			return metadata.Document{}, err
		})
		require.Eventually(t, func() bool { _, err := store.Get(ctx, "b"); return err == nil }, patience, time.Millisecond)
		require.NoError(t, host.Rollback(ctx))
		require.NoError(t, write.wait(t, "MergeMany").err)
		var rows int
		require.NoError(t, d.Pool().QueryRow(ctx, "SELECT count(*) FROM parted WHERE id = 'a'").Scan(&rows))
		assert.Equal(t, 1, rows)
	})
}

// Writers that create and delete the same document find it there or make it.
func TestCreatingAndDeletingAtOnce(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		ctx, stores := t.Context(), []*metadata.Postgres{d.migrated(t, nil), d.store(t, nil)}
		var writes []pending
		for i := range 200 {
			store := stores[i%2]
			writes = append(writes, begin(func() (metadata.Document, error) {
				switch i % 4 {
				case 0:
					return metadata.Document{}, store.Delete(ctx, "a")
				case 1:
					return store.Replace(ctx, "a", raw(`{"n":%d}`, i))
				case 2:
					return store.Update(ctx, "a", func(metadata.Document) (json.RawMessage, error) { return raw(`{"n":%d}`, i), nil })
				}
				return store.Merge(ctx, "a", raw(`{"n":%d}`, i))
			}))
		}
		for i, w := range writes {
			err := w.wait(t, fmt.Sprint(i)).err
			if i%4 == 0 && err != nil {
				assert.ErrorIs(t, err, metadata.ErrNotFound)
			} else {
				assert.NoError(t, err)
			}
		}
	})
}

func TestRowDeletedInMidMerge(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		for _, create := range []bool{true, false} {
			for _, inGo := range []bool{true, false} {
				d.exec(t, guarded)
				opts := guardedOptions(inGo)
				store := d.migrated(t, opts)
				_, err := store.Merge(t.Context(), "a", raw(`{"old":1}`))
				require.NoError(t, err)
				opts.Table.Create = create
				store = d.store(t, opts)
				host, err := d.Pool().Begin(t.Context())
				require.NoError(t, err)
				_, err = host.Exec(t.Context(), "DELETE FROM guarded")
				require.NoError(t, err)
				failed := make(chan error)
				go func() {
					_, err := store.Merge(t.Context(), "a", raw(`{"new":1}`))
					failed <- err
				}()
				waitForRow(t, d)
				require.NoError(t, host.Commit(t.Context()))
				err = <-failed
				if !create {
					assert.ErrorIs(t, err, metadata.ErrNotFound)
					continue
				}
				require.NoError(t, err)
				doc, err := store.Get(t.Context(), "a")
				require.NoError(t, err)
				assert.Equal(t, `{"new": 1}`, string(doc.Metadata))
			}
		}
	})
}
