package faults_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/internal/faults/neighbour"
	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// hostile are strings that have caused bugs in other programs.
var hostile = []string{
	"", " ", "a", "'", "''", `"`, `""`, `\`, "$$", "$lockstore$", "$lockstore_body$", "{table}", "{1}", "%s%n", "-- x", "/* x", "a.b", "a;b",
	"'; DROP TABLE bystander; --", `"; DROP TABLE bystander; --`, "a') ON CONFLICT DO NOTHING; DELETE FROM bystander; --",
	"\x00", "a\x00b", "\xff", "\xed\xa0\x80", "\u202e", "é", "e\u0301", "😀", "select", "user", "ÀÉÎ", "\n", "\t", "*", "?", "$1",
	strings.Repeat("x", 63), strings.Repeat("x", 64), strings.Repeat("é", 32), strings.Repeat("x", 512), strings.Repeat("x", 513), strings.Repeat("x", 1<<20),
}

// standing is a database with a table that must not be touched.
func standing(tb testing.TB) (*pgtest.DB, *metadata.Postgres) {
	db := pgtest.New(tb)
	_, err := db.Pool().Exec(tb.Context(), "CREATE TABLE bystander AS SELECT 1 AS n")
	require.NoError(tb, err)
	store, err := metadata.NewPostgres(db.Pool(), nil)
	require.NoError(tb, err)
	tb.Cleanup(store.Close)
	require.NoError(tb, store.Migrate(tb.Context()))
	return db, store
}

func stands(tb testing.TB, db *pgtest.DB) {
	var n int
	require.NoError(tb, db.Pool().QueryRow(tb.Context(), "SELECT n FROM bystander").Scan(&n))
	require.Equal(tb, 1, n)
}

func FuzzID(f *testing.F) {
	db, store := standing(f)
	for _, id := range hostile {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		doc, err := store.Merge(t.Context(), id, json.RawMessage(`{"mine":1}`))
		if err != nil {
			require.ErrorIs(t, err, metadata.ErrInvalidID)
			require.Less(t, len(err.Error()), 4096)
			require.Error(t, store.Key(id).Err())
			return
		}
		require.Equal(t, id, doc.ID)
		got, err := store.Get(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, doc, got)
		var n int
		require.NoError(t, db.Pool().QueryRow(t.Context(), "SELECT count(*) FROM lockstore_metadata WHERE id = $1", id).Scan(&n))
		require.Equal(t, 1, n)
		require.NoError(t, store.Delete(t.Context(), id))
		stands(t, db)
	})
}

// If the options accept a table's name, that table is used, and no other.
func FuzzTable(f *testing.F) {
	db, _ := standing(f)
	for i, name := range hostile {
		if len(name) < 1000 {
			f.Add(name, "metadata")
			f.Add("users", name)
			f.Add(name, hostile[(i+7)%len(hostile)])
		}
	}
	f.Fuzz(func(t *testing.T, name, column string) {
		if name == "bystander" || name == metadata.DefaultTable || column == "id" {
			return
		}
		store, err := metadata.NewPostgres(db.Pool(), &metadata.Options{Table: metadata.Table{Name: name, Column: column, Create: true}})
		if err != nil {
			require.ErrorIs(t, err, metadata.ErrInvalidOptions)
			return
		}
		defer store.Close()
		if name == "" { // the default table
			return
		}
		if column == "" {
			column = "metadata"
		}
		table := pgx.Identifier{name}.Sanitize()
		_, err = db.Pool().Exec(t.Context(), fmt.Sprintf("CREATE TABLE %s (id text PRIMARY KEY, %s jsonb NOT NULL)", table, pgx.Identifier{column}.Sanitize()))
		require.NoError(t, err)
		require.NoError(t, store.Migrate(t.Context()))
		_, err = store.Merge(t.Context(), "a", json.RawMessage(`{"mine":1}`))
		require.NoError(t, err)
		var text string
		require.NoError(t, db.Pool().QueryRow(t.Context(), fmt.Sprintf("SELECT %s::text FROM %s", pgx.Identifier{column}.Sanitize(), table)).Scan(&text))
		require.Equal(t, `{"mine": 1}`, text)
		_, err = db.Pool().Exec(t.Context(), "DROP TABLE "+table)
		require.NoError(t, err)
		stands(t, db)
	})
}

func FuzzKey(f *testing.F) {
	for i, part := range hostile {
		f.Add(part, hostile[(i+1)%len(hostile)])
	}
	memory := lock.NewMemory()
	f.Fuzz(func(t *testing.T, a, b string) {
		key := lock.Namespace(a).Name(a, b)
		assert.Equal(t, key, lock.Namespace(a).Name(a, b))
		held, err := memory.TryLock(t.Context(), key)
		if key.Err() != nil {
			require.ErrorIs(t, key.Err(), lock.ErrInvalidKey)
			require.ErrorIs(t, err, lock.ErrInvalidKey)
			require.Less(t, len(err.Error()), 4096)
			return
		}
		require.NoError(t, err)
		require.True(t, lock.Namespace(a).Contains(key.Int64()))
		require.NotEqual(t, key.Int64(), lock.Namespace(a).Name(a+b).Int64())
		if a != b {
			require.NotEqual(t, key.Int64(), lock.Namespace(a).Name(b, a).Int64())
		}
		require.NoError(t, held.Unlock())
	})
}

// A patch is refused with a typed error before it is sent, and changes nothing; or the server
// merges it like the store in memory.
func FuzzPatch(f *testing.F) {
	db, store := standing(f)
	memory, err := metadata.NewMemory(nil, nil)
	require.NoError(f, err)
	for _, s := range hostile {
		if len(s) < 10_000 {
			text, err := json.Marshal(s)
			require.NoError(f, err)
			f.Add([]byte(s))
			f.Add(fmt.Appendf(nil, `{"a":%s,%s:{"b":null}}`, text, text))
		}
	}
	for _, patch := range []string{
		`{}`, `null`, `[]`, `1`, `{"a":1e131071}`, `{"a":1e-16383}`, `{"a":1e400}`, `{"a":-0}`, `{"a":1E+2}`, `{"a":01}`, `{"a":.5}`, `{"a":NaN}`, `{"a":0.` + strings.Repeat("0", 400) + `1}`,
		`{"a":` + strings.Repeat("9", 2000) + `}`, `{"a":"\u0000"}`, `{"\u0000":1}`, `{"a":"\ud800"}`, `{"a":"\udc00\ud800"}`, `{"a":1,"a":2}`, `{"a":1,"\u0061":2}`,
		strings.Repeat(`{"a":`, 64) + `1` + strings.Repeat(`}`, 64), strings.Repeat(`{"a":`, 65) + `1` + strings.Repeat(`}`, 65), `{"a":` + strings.Repeat("[", 10_000), `{"a":1}{}`, `{"a":1},`, "\ufeff{}", "{\"a\":\"\x7f\"}", "{\"a\":\"\x1f\"}",
	} {
		f.Add([]byte(patch))
	}
	f.Fuzz(func(t *testing.T, patch []byte) {
		ctx := t.Context()
		before := json.RawMessage(`{"a": {"b": 1, "c": [null]}, "z": "kept"}`)
		was, err := store.Replace(ctx, "a", before)
		require.NoError(t, err)
		_, err = memory.Replace(ctx, "a", before)
		require.NoError(t, err)
		here, refused := memory.Merge(ctx, "a", bytes.Clone(patch))
		there, err := store.Merge(ctx, "a", bytes.Clone(patch))
		if refused == nil {
			require.NoError(t, err)
			require.Equal(t, string(here.Metadata), string(there.Metadata))
			return
		}
		require.Error(t, err)
		require.ErrorIs(t, err, metadata.ErrInvalidPatch)
		require.ErrorIs(t, refused, metadata.ErrInvalidPatch)
		var where *metadata.PatchError
		require.True(t, errors.As(err, &where) && strings.HasPrefix(where.Path, "$"), "%v", err)
		after, err := store.Get(ctx, "a")
		require.NoError(t, err)
		require.Equal(t, was, after)
		stands(t, db)
	})
}

// A document that was not written by a store.
func FuzzDocument(f *testing.F) {
	db, store := standing(f)
	for _, document := range []string{`{}`, `{"a":{"b":[1,null,{"c":null}]}}`, `null`, `[1]`, `"s"`, `{"a":1e131071}`, `{"a":1e1000}`, `{"": ""}`, `{"a":"😀"}`} {
		f.Add(document)
	}
	f.Fuzz(func(t *testing.T, document string) {
		ctx := t.Context()
		_, err := db.Pool().Exec(ctx, `INSERT INTO lockstore_metadata (id, metadata) VALUES ('raw', $1::text::jsonb)
			ON CONFLICT (id) DO UPDATE SET metadata = excluded.metadata`, document)
		if err != nil {
			return // no jsonb
		}
		doc, err := store.Get(ctx, "raw")
		require.NoError(t, err)
		merged, err := store.Merge(ctx, "raw", json.RawMessage(`{"mine":1}`))
		if err != nil {
			return
		}
		want, err := metadata.MergePatch(doc.Metadata, json.RawMessage(`{"mine":1}`))
		require.NoError(t, err)
		require.Equal(t, string(want), string(merged.Metadata))
	})
}

// A holder reads requests to give up a key from the application_name of other sessions, which
// can be any text. Those that are malformed have no effect, and hide no other.
func TestMalformedRequestsAreIgnored(t *testing.T) {
	w := newWorld(t)
	locker := w.locker(nil, nil)
	held := w.lock(locker, key)
	pid := pidOf(held)
	request := func(what string) {
		conn, err := pgx.Connect(w.ctx, w.db.URL())
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, conn.Close(context.Background())) })
		_, err = conn.Exec(w.ctx, "SELECT set_config('application_name', $1, false), pg_advisory_lock_shared("+neighbour.Flag("$2::bigint")+")",
			fmt.Sprintf("lockstore_evict %d %s", pid, what), pid)
		require.NoError(t, err)
	}
	for _, what := range []string{
		"", " ", "x", "'", "\n", "%d", "1", "1 x", "-1 -1", "9223372036854775808 1", fmt.Sprint(key.Int64()), fmt.Sprint(key.Int64(), " -1"), fmt.Sprint(key.Int64(), " 4294967296"),
	} {
		request(what)
	}
	answered := locker.Stats().Batches + 4 // it has looked at least twice
	w.soon(func() bool { return locker.Stats().Batches >= answered }, "requests to be read")
	assert.NoError(t, held.Context().Err())
	request(fmt.Sprint(key.Int64(), " 1"))
	w.lost(held)
	assert.ErrorIs(t, held.Unlock(), lock.ErrEvicted)
}

// Input that is too large is refused quickly.
func TestFloods(t *testing.T) {
	w := newWorld(t)
	store, locker := w.store(nil, nil), w.locker(nil, nil)
	w.merged(store, "a")
	for name, patch := range map[string]string{
		"deep arrays":  `{"a":` + strings.Repeat("[", 500_000) + strings.Repeat("]", 500_000) + `}`,
		"deep objects": strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000),
		"large":        `{"a":"` + strings.Repeat("x", 8<<20) + `"}`,
		"a number":     `{"a":1e131071}`,
	} {
		begun := time.Now()
		_, err := store.Merge(w.ctx, "a", json.RawMessage(patch))
		t.Logf("%s: %v in %v", name, err, time.Since(begun))
		assert.ErrorIs(t, err, metadata.ErrInvalidPatch, name)
		assert.Less(t, len(err.Error()), 1000, name)
		assert.Less(t, time.Since(begun), 3*time.Second, "%s: milliseconds, on a machine that is not busy", name)
	}
	var many strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&many, `,"%x":1`, i)
	}
	_, err := w.store(nil, &metadata.Options{MaxPatchBytes: 4 << 20}).Merge(w.ctx, "wide", json.RawMessage("{"+many.String()[1:]+"}"))
	assert.NoError(t, err, "100 000 keys")
	keys := make([]lock.Key, 5000)
	for i := range keys {
		keys[i] = lock.ID(int64(i))
	}
	_, err = locker.LockAll(w.ctx, keys...)
	assert.ErrorIs(t, err, lock.ErrTooMany)
	w.soon(func() bool { return len(w.db.Locks(t)) == 0 }, "what LockAll took to be given back")
}
