package metadata_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// hostile are ids, and names of keys, that would do something to whoever reads them
// in a terminal or a log, if they stood there as they are.
var hostile = map[string]string{
	"line":       "42\nlevel=ERROR msg=forged",
	"return":     "42\rroot logged in",
	"escape":     "42\x1b[2J\x1b]0;title\x07",
	"C1":         "42\u009b2J",
	"delete":     "42\x7f\x7f",
	"bidi":       "42\u202e24 ton si",
	"isolate":    "\u206642\u2069",
	"zero width": "4\u200b2",
	"separator":  "42\u2028forged\u2029",
	"byte order": "\ufeff42",
	"tag":        "42\U000e0041",
	"long":       strings.Repeat("4", 63) + "\u202e\n" + strings.Repeat("2", 200),
}

// assertInert fails a test if a text has anything of an id in it that does not print.
func assertInert(t *testing.T, text, id, of string) {
	t.Helper()
	assert.NotContains(t, text, id, of)
	for _, r := range strings.ReplaceAll(text, "\n", "") { // which errors.Join has
		assert.True(t, strconv.IsPrint(r), "%s: %q", of, text)
	}
	assert.Contains(t, text, strings.Trim(strconv.Quote(id[:min(len(id), 40)]), `"`), "%s: it is still told which id it is", of)
}

// failing are the operations on a document, with the error of each.
func failing(s full, id string) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Merge": func(ctx context.Context) error { _, err := s.Merge(ctx, id, raw(`{"a":{"b":null}}`)); return err },
		"MergeValue": func(ctx context.Context) error {
			_, err := metadata.MergeValue(ctx, s, id, map[string]int{"a": 1})
			return err
		},
		"Replace": func(ctx context.Context) error { _, err := s.Replace(ctx, id, raw(`{"a":2}`)); return err },
		"Update": func(ctx context.Context) error {
			_, err := s.Update(ctx, id, func(metadata.Document) (json.RawMessage, error) { return raw(`{"a":3}`), nil })
			return err
		},
	}
}

func TestHostileIDsAreQuotedInErrors(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		locker := newLocker(t, d.Pool())
		inMemory := lock.NewMemory()
		opts := &metadata.Options{Protect: []string{"protected"}}
		store, memory := d.migrated(t, opts), must(metadata.NewMemory(inMemory, opts))
		inGo := d.store(t, &metadata.Options{MergeInGo: true})
		hosts := d.store(t, &metadata.Options{Table: metadata.Table{Name: "lockstore_metadata"}})
		elsewhere := d.store(t, &metadata.Options{Table: metadata.Table{Name: "elsewhere"}})
		closed := d.store(t, nil)
		closed.Close()
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		for name, id := range hostile {
			check := func(of string, err error) {
				t.Helper()
				if assert.Error(t, err, "%s, %s", name, of) {
					assertInert(t, err.Error(), id, name+", "+of)
				}
			}
			tx, _ := d.hostTx(t)
			for _, s := range []full{store, store.In(tx), memory} {
				of := fmt.Sprintf("%T: ", s)
				_, err := s.Get(t.Context(), id)
				check(of+"Get", err)
				check(of+"Delete", s.Delete(t.Context(), id))
				_, err = s.Merge(t.Context(), id, raw(`{"a":[{"b":tru}]}`))
				check(of+"bad patch", err)
				_, err = s.Merge(t.Context(), id, raw(`{"protected":1}`))
				check(of+"protected", err)
				_, err = s.Replace(t.Context(), id, raw(`{"protected":1}`))
				check(of+"Replace protected", err)
			}
			require.NoError(t, rollback(tx))
			for what, s := range map[string]full{"version": store.IfVersion(7), "in memory": memory.IfVersion(7), "schema": elsewhere, "closed": closed, "missing": hosts} {
				for operation, fail := range failing(s, id) {
					check(what+": "+operation, fail(t.Context()))
				}
			}
			_, err := store.Merge(t.Context(), id, raw(`{}`))
			require.NoError(t, err)
			for _, held := range []*lock.Held{must(locker.Lock(t.Context(), store.Key(id))), must(inMemory.Lock(t.Context(), memory.Key(id)))} {
				tx, _ := d.hostTx(t)
				tried := map[string]full{"store": store, "in Go": inGo, "tx": store.In(tx)}
				if _, ok := held.Backend(store.Key(id)); !ok {
					tried = map[string]full{"memory": memory}
				}
				for what, s := range tried {
					operations := failing(s, id)
					operations["MergeMany"] = func(ctx context.Context) error {
						_, err := store.MergeMany(ctx, []metadata.Patch{{ID: id, Patch: raw(`{"a":1}`)}})
						return err
					}
					if what == "memory" {
						delete(operations, "MergeMany")
					}
					for operation, fail := range operations {
						brief, cancel := context.WithTimeout(t.Context(), 3*time.Millisecond)
						check(what+": busy "+operation, fail(brief))
						cancel()
						check(what+": ended "+operation, fail(ended))
					}
				}
				require.NoError(t, rollback(tx))
				assert.NoError(t, held.Unlock())
			}
			shared := must(locker.RLock(t.Context(), store.Key(id)))
			for operation, fail := range failing(store, id) {
				check("shared: "+operation, fail(shared.Context()))
			}
			require.NoError(t, shared.Unlock())
			for operation, fail := range failing(store, id) {
				check("released: "+operation, fail(releasedContext(t, locker, store.Key(id))))
			}
			_, err = metadata.Decode[struct{ A string }](metadata.Document{ID: id, Metadata: raw(`{"a":1}`)})
			check("Decode", err)
			_, err = metadata.Decode[string](metadata.Document{ID: id, Metadata: raw(`{"a":1}`)})
			check("Decode as another type", err)
		}
	})
}

// releasedContext carries a hold that has ended.
func releasedContext(t *testing.T, l lock.Locker, key lock.Key) context.Context {
	held := must(l.Lock(t.Context(), key))
	require.NoError(t, held.Unlock())
	return held.Context()
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func rollback(tx any) error {
	switch tx := tx.(type) {
	case interface{ Rollback() error }:
		return tx.Rollback()
	case interface{ Rollback(context.Context) error }:
		return tx.Rollback(context.Background())
	}
	return nil
}

// Names of keys are quoted, too, where a path has them or they are protected.
func TestHostileKeysAreQuotedInErrors(t *testing.T) {
	db := pgtest.New(t)
	for name, key := range hostile {
		memory := must(metadata.NewMemory(nil, &metadata.Options{Protect: []string{key}}))
		for what, patch := range map[string]any{
			"protected": map[string]int{key: 1},
			"in a path": map[string]any{"a": map[string]any{key: []any{json.RawMessage(`1e99999`)}}},
		} {
			_, err := metadata.MergeValue(t.Context(), memory, "a", patch)
			require.ErrorIs(t, err, map[string]error{"protected": metadata.ErrProtected, "in a path": metadata.ErrInvalidPatch}[what])
			assertInert(t, err.Error(), key, name+", "+what)
		}
		text, err := json.Marshal(map[string]map[string]string{key: {"b": "c"}})
		require.NoError(t, err)
		_, err = metadata.Decode[map[string]struct{ B int }](metadata.Document{ID: key, Metadata: text})
		require.ErrorIs(t, err, metadata.ErrInvalidDocument)
		assertInert(t, err.Error(), key, name+", Decode")
		_, err = metadata.NewPostgres(db.Pool(), &metadata.Options{Table: metadata.Table{Name: "t", Scope: []metadata.Scope{{Column: key, Type: "no " + metadata.Type(key)}}}})
		require.ErrorIs(t, err, metadata.ErrInvalidOptions)
		assertInert(t, err.Error(), key, name+", Scope")
	}
}

func TestHostileIDsAreQuotedInLogs(t *testing.T) {
	t.Parallel() // it mostly waits
	eachDriver(t, func(t *testing.T, d *database) {
		t.Parallel()
		d.migrated(t, nil)
		d.exec(t, `CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
				PERFORM pg_sleep(10); RETURN NEW; END $$;
			CREATE TRIGGER linger BEFORE UPDATE ON lockstore_metadata FOR EACH ROW EXECUTE FUNCTION linger()`)
		for name, handler := range map[string]func(*bytes.Buffer) slog.Handler{
			"text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
			"JSON": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
		} {
			var log bytes.Buffer
			hasty := d.store(t, &metadata.Options{Timeout: 500 * time.Millisecond, Logger: slog.New(handler(&log))})
			for _, id := range hostile {
				id += name // another row than the one before, which may still be locked
				d.exec(t, `INSERT INTO lockstore_metadata (id, metadata) VALUES (`+quoted(id)+`, '{}')`)
				_, err := hasty.Merge(t.Context(), id, raw(`{"a":1}`))
				require.ErrorIs(t, err, metadata.ErrUnknownOutcome)
			}
			lines := strings.Split(strings.TrimSpace(log.String()), "\n")
			assert.Len(t, lines, len(hostile), name)
			for _, line := range lines {
				for _, r := range line {
					assert.True(t, strconv.IsPrint(r), "%s: %q", name, line)
				}
			}
		}
	})
}

// quoted is a literal of SQL.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
