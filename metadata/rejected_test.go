package metadata_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
)

const guarded = `
DROP TABLE IF EXISTS guarded;
CREATE TABLE guarded (
	id text PRIMARY KEY, metadata jsonb NOT NULL CONSTRAINT "no bad" CHECK (NOT metadata ? 'bad'), version bigint NOT NULL
);
CREATE OR REPLACE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	IF NEW.metadata ? 'raise' THEN RAISE EXCEPTION 'will not have %', NEW.metadata; END IF;
	IF NEW.metadata ? 'vanish' THEN RETURN NULL; END IF;
	IF NEW.metadata ? 'stamp' THEN NEW.metadata := NEW.metadata || '{"stamped": true}'; END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE UPDATE ON guarded FOR EACH ROW EXECUTE FUNCTION guard();`

func guardedOptions(inGo bool) *metadata.Options {
	return &metadata.Options{MergeInGo: inGo, Table: metadata.Table{Name: "guarded", Version: "version", Create: true}}
}

func TestWhatTheDatabaseRejects(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		for _, inGo := range []bool{false, true} {
			ctx := t.Context()
			d.exec(t, guarded)
			var log bytes.Buffer
			opts := guardedOptions(inGo)
			opts.Logger = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			store := d.migrated(t, opts)
			before, err := store.Merge(ctx, "a", raw(`{"fine":true}`))
			require.NoError(t, err)
			for key, state := range map[string]string{"bad": "23514", "raise": "P0001", "vanish": ""} {
				_, err := store.Merge(ctx, "a", raw(`{%q:%q}`, key, canary))
				require.ErrorIs(t, err, metadata.ErrRejected, key)
				var rejected *metadata.RejectedError
				require.ErrorAs(t, err, &rejected)
				assert.Equal(t, state, rejected.SQLState)
				assert.NotContains(t, fmt.Sprintf("%v %+v %#v", err, rejected, rejected.Cause), canary)
				if key == "bad" {
					assert.Equal(t, "no bad", rejected.Constraint)
					assert.Equal(t, "guarded", rejected.Table)
				}
			}
			after, err := store.Get(ctx, "a")
			require.NoError(t, err)
			assert.Equal(t, before, after)
			assert.NotContains(t, log.String(), canary)
			assert.Equal(t, int64(3), store.Stats().Rejected)
		}
	})
}

func TestTriggersChangesAreInTheAnswer(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		for _, inGo := range []bool{false, true} {
			d.exec(t, guarded)
			store := d.migrated(t, guardedOptions(inGo))
			_, err := store.Merge(t.Context(), "a", raw(`{}`))
			require.NoError(t, err)
			doc, err := store.Merge(t.Context(), "a", raw(`{"stamp":1}`))
			require.NoError(t, err)
			assert.Equal(t, `{"stamp": 1, "stamped": true}`, string(doc.Metadata))
		}
	})
}

// TestBadPatchFailsAlone has all patches but the first share a commit, by
// keeping the first waiting for the row.
func TestBadPatchFailsAlone(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		ctx := t.Context()
		d.exec(t, guarded)
		store := d.migrated(t, guardedOptions(false))
		_, err := store.Merge(ctx, "a", raw(`{"first":true}`))
		require.NoError(t, err)
		host, err := d.Pool().Begin(ctx)
		require.NoError(t, err)
		defer host.Rollback(ctx)
		_, err = host.Exec(ctx, "SELECT FROM guarded WHERE id = 'a' FOR UPDATE")
		require.NoError(t, err)

		const n, bad = 256, 77
		errs := make([]error, n)
		var wg sync.WaitGroup
		for i := range n {
			ctx := newArriving(ctx)
			key := fmt.Sprintf("k%d", i)
			if i == bad {
				key = "bad"
			}
			wg.Go(func() { _, errs[i] = store.Merge(ctx, "a", raw(`{%q:%d}`, key, i)) })
			if i > 0 {
				<-ctx.arrived // it lines up
			} else {
				waitForRow(t, d)
			}
		}
		require.NoError(t, host.Rollback(ctx))
		wg.Wait()
		for i, err := range errs {
			if i == bad {
				assert.ErrorIs(t, err, metadata.ErrRejected)
			} else {
				assert.NoError(t, err)
			}
		}
		doc, err := store.Get(ctx, "a")
		require.NoError(t, err)
		assert.Equal(t, n-1, strings.Count(string(doc.Metadata), `"k`))
		assert.Equal(t, int64(n), doc.Version, "the first, and n-1")
		assert.Less(t, store.Stats().Commits, int64(30))
	})
}

func TestRowLevelSecurity(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		ctx := t.Context()
		role := "limited_" + d.Name()
		d.exec(t, `
			CREATE ROLE `+role+`;
			CREATE TABLE owned (id text PRIMARY KEY, owner text NOT NULL DEFAULT 'me', metadata jsonb NOT NULL);
			INSERT INTO owned VALUES ('mine', 'me', '{}'), ('theirs', 'them', '{}');
			ALTER TABLE owned ENABLE ROW LEVEL SECURITY;
			CREATE POLICY own ON owned USING (owner = 'me') WITH CHECK (NOT metadata ? 'secret');
			GRANT ALL ON owned TO `+role)
		t.Cleanup(func() { d.exec(t, "RESET ROLE; DROP OWNED BY "+role+"; DROP ROLE "+role) })
		opts := &metadata.Options{Table: metadata.Table{Name: "owned"}}
		require.NoError(t, d.store(t, opts).Migrate(ctx))
		for _, inGo := range []bool{false, true} {
			opts.MergeInGo = inGo
			tx, err := d.Pool().Begin(ctx)
			require.NoError(t, err)
			_, err = tx.Exec(ctx, "SET LOCAL ROLE "+role)
			require.NoError(t, err)
			store := d.store(t, opts).In(tx)
			_, err = store.Merge(ctx, "mine", raw(`{"a":1}`))
			assert.NoError(t, err)
			_, err = store.Merge(ctx, "theirs", raw(`{"a":1}`))
			assert.ErrorIs(t, err, metadata.ErrNotFound)
			_, err = store.Merge(ctx, "mine", raw(`{"secret":%q}`, canary))
			assert.ErrorIs(t, err, metadata.ErrRejected)
			assert.NotContains(t, err.Error(), canary)
			doc, err := store.Merge(ctx, "mine", raw(`{"b":1}`))
			assert.NoError(t, err, "the transaction goes on")
			assert.Equal(t, `{"a": 1, "b": 1}`, string(doc.Metadata))
			require.NoError(t, tx.Rollback(ctx))
		}
	})
}

func TestPartitionedTable(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		d.exec(t, `
			CREATE TABLE parted (id bigint PRIMARY KEY, metadata jsonb NOT NULL, version bigint NOT NULL, updated_at timestamptz NOT NULL) PARTITION BY HASH (id);
			CREATE TABLE parted_0 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 0);
			CREATE TABLE parted_1 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 1)`)
		store := d.migrated(t, &metadata.Options{Table: metadata.Table{
			Name: "parted", IDType: metadata.BigInt, Version: "version", UpdatedAt: "updated_at", Create: true}})
		var patches []metadata.Patch
		for i := range 20 {
			patches = append(patches, metadata.Patch{ID: fmt.Sprint(i), Patch: raw(`{"n":%d}`, i)})
		}
		for range 2 {
			_, err := store.MergeMany(t.Context(), patches)
			require.NoError(t, err)
		}
		for i := range 20 {
			doc, err := store.Merge(t.Context(), fmt.Sprint(i), raw(`{"m":{"a":null}}`))
			require.NoError(t, err)
			assert.Equal(t, fmt.Sprintf(`{"m": {}, "n": %d}`, i), string(doc.Metadata))
			assert.Equal(t, int64(2), doc.Version)
		}
	})
}

// What is found only as the transaction commits is no less an error: the
// documents have been sent by then.
func TestDeferredConstraintIsHeeded(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		ctx := t.Context()
		store := d.migrated(t, nil)
		d.exec(t, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
				IF NEW.metadata ? 'bad' THEN RAISE check_violation; END IF; RETURN NULL; END $$;
			CREATE CONSTRAINT TRIGGER refuse AFTER INSERT OR UPDATE ON lockstore_metadata
				DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()`)
		for _, id := range []string{"a", "b", "c"} {
			_, err := store.Merge(ctx, id, raw(`{"n":0}`))
			require.NoError(t, err)
		}
		_, err := store.Merge(ctx, "a", raw(`{"bad":1}`))
		assert.ErrorIs(t, err, metadata.ErrRejected)
		_, err = store.Merge(ctx, "new", raw(`{"bad":1}`))
		assert.ErrorIs(t, err, metadata.ErrRejected)
		_, err = store.Update(ctx, "a", func(metadata.Document) (json.RawMessage, error) { return raw(`{"bad":1}`), nil })
		assert.ErrorIs(t, err, metadata.ErrRejected)
		results, err := store.MergeMany(ctx, []metadata.Patch{{ID: "a", Patch: raw(`{"n":1}`)}, {ID: "b", Patch: raw(`{"bad":1}`)}, {ID: "c", Patch: raw(`{"n":1}`)}})
		assert.ErrorIs(t, err, metadata.ErrRejected)
		require.Len(t, results, 3)
		assert.NoError(t, results[0].Err)
		assert.ErrorIs(t, results[1].Err, metadata.ErrRejected)
		assert.NoError(t, results[2].Err)
		found, err := store.GetMany(ctx, "a", "b", "c", "new")
		require.NoError(t, err)
		require.Len(t, found, 3)
		for id, want := range map[string]string{"a": `{"n": 1}`, "b": `{"n": 0}`, "c": `{"n": 1}`} {
			assert.Equal(t, want, string(found[id].Metadata), id)
		}
	})
}
