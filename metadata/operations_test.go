package metadata_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
)

// full is what Postgres, Memory and Tx have in common.
type full interface {
	metadata.MetadataStore
	Replace(ctx context.Context, id string, document json.RawMessage) (metadata.Document, error)
	Delete(ctx context.Context, id string) error
	Key(id string) lock.Key
	Stats() metadata.Stats
}

// eachStore runs a test on every store; its views are made by the options
// privileged and version.
func eachStore(t *testing.T, opts *metadata.Options, test func(t *testing.T, view func(privileged bool, version ...int64) full)) {
	eachDriver(t, func(t *testing.T, d *database) { test(t, viewsOf(d.migrated(t, opts))) })
	t.Run("memory", func(t *testing.T) { test(t, viewsOf(must(metadata.NewMemory(nil, opts)))) })
}

// viewsOf makes views of a Postgres or a Memory.
func viewsOf[S interface {
	full
	Privileged() S
	IfVersion(version int64) S
}](store S) func(privileged bool, version ...int64) full {
	return func(privileged bool, version ...int64) full {
		view := store
		if privileged {
			view = view.Privileged()
		}
		for _, v := range version {
			view = view.IfVersion(v)
		}
		return view
	}
}

// find returns the documents that Find yields, and the error that it ends with.
func find(ctx context.Context, s *metadata.Postgres, contained string, opts *metadata.FindOptions) (docs []metadata.Document, err error) {
	for doc, err := range s.Find(ctx, json.RawMessage(contained), opts) {
		if err != nil {
			return docs, err
		}
		docs = append(docs, doc)
	}
	return docs, nil
}

func TestReplaceAndDelete(t *testing.T) {
	eachStore(t, nil, func(t *testing.T, view func(bool, ...int64) full) {
		ctx, store := t.Context(), view(false)
		doc, err := store.Replace(ctx, "a", raw(`{"b":null,"a":[1, {"z":1,"y":2}]}`))
		require.NoError(t, err)
		assert.Equal(t, `{"a": [1, {"y": 2, "z": 1}], "b": null}`, string(doc.Metadata))
		assert.Equal(t, int64(1), doc.Version)
		doc, err = store.Replace(ctx, "a", doc.Metadata)
		require.NoError(t, err)
		assert.Equal(t, int64(1), doc.Version, "nothing has changed")
		doc, err = store.Replace(ctx, "a", raw(`{"c":3}`))
		require.NoError(t, err)
		assert.Equal(t, `{"c": 3}`, string(doc.Metadata))
		_, err = store.Replace(ctx, "a", raw(`[]`))
		assert.ErrorIs(t, err, metadata.ErrInvalidPatch)

		require.NoError(t, store.Delete(ctx, "a"))
		_, err = store.Get(ctx, "a")
		assert.ErrorIs(t, err, metadata.ErrNotFound)
		assert.ErrorIs(t, store.Delete(ctx, "a"), metadata.ErrNotFound)
		doc, err = store.Merge(ctx, "a", raw(`{}`))
		require.NoError(t, err)
		assert.Equal(t, int64(1), doc.Version, "a new document")
		assert.Equal(t, `{}`, string(doc.Metadata))
	})
}

// A Memory of a table whose rows are the host's has those that the host puts there.
func TestMemoryOfAHostsTable(t *testing.T) {
	ctx := t.Context()
	memory := must(metadata.NewMemory(nil, &metadata.Options{Table: metadata.Table{Name: "users", IDType: metadata.BigInt, Version: "revision"}}))
	_, err := memory.Merge(ctx, "7", raw(`{"n":1}`))
	assert.ErrorIs(t, err, metadata.ErrNotFound)
	require.NoError(t, memory.Put(metadata.Document{ID: "007"}))
	doc, err := memory.Merge(ctx, "7", raw(`{"n":1}`))
	require.NoError(t, err)
	assert.Equal(t, metadata.Document{ID: "7", Metadata: raw(`{"n": 1}`), Version: 1}, doc)
	given := metadata.Document{ID: "8", Metadata: raw(`{"b":1,"a":[]}`), Version: 41, UpdatedAt: time.Unix(1, 0)}
	require.NoError(t, memory.Put(given))
	given.Metadata[0] = 'x'
	doc, err = memory.Get(ctx, "8")
	require.NoError(t, err)
	assert.Equal(t, metadata.Document{ID: "8", Metadata: raw(`{"a": [], "b": 1}`), Version: 41, UpdatedAt: time.Unix(1, 0)}, doc)
	assert.ErrorIs(t, memory.Delete(ctx, "8"), metadata.ErrUnsupported)
	assert.ErrorIs(t, memory.Put(metadata.Document{ID: "x"}), metadata.ErrInvalidID)
	err = memory.Put(metadata.Document{ID: "9", Metadata: raw(`{"a":`)})
	assert.ErrorIs(t, err, metadata.ErrInvalidDocument)
	assert.NotErrorIs(t, err, metadata.ErrInvalidPatch)
}

func TestIfVersion(t *testing.T) {
	eachStore(t, nil, func(t *testing.T, view func(bool, ...int64) full) {
		ctx := t.Context()
		none, err := view(false, 1).Merge(ctx, "a", raw(`{"n":1}`))
		assert.ErrorIs(t, err, metadata.ErrConflict)
		assert.Equal(t, metadata.Document{ID: "a"}, none)
		_, err = view(false).Get(ctx, "a")
		assert.ErrorIs(t, err, metadata.ErrNotFound, "nothing was created")
		doc, err := view(false, 0).Merge(ctx, "a", raw(`{"n":1}`))
		require.NoError(t, err)
		writes := map[string]func(s full) (metadata.Document, error){
			"merge":   func(s full) (metadata.Document, error) { return s.Merge(ctx, "a", raw(`{"n":2}`)) },
			"replace": func(s full) (metadata.Document, error) { return s.Replace(ctx, "a", raw(`{"n":2}`)) },
			"delete":  func(s full) (metadata.Document, error) { return doc, s.Delete(ctx, "a") },
			"update": func(s full) (metadata.Document, error) {
				return s.Update(ctx, "a", func(metadata.Document) (json.RawMessage, error) {
					return nil, errors.New("decide was called")
				})
			},
		}
		for name, write := range writes {
			present, err := write(view(false, doc.Version+1))
			assert.Equal(t, doc, present, name)
			var conflict *metadata.VersionError
			require.ErrorAs(t, err, &conflict, name)
			assert.Equal(t, metadata.VersionError{Want: 2, Have: 1}, *conflict)
			assert.ErrorIs(t, err, metadata.ErrConflict)
		}
		conflicts := int64(1 + len(writes))
		if s, ok := view(false, 2).(*metadata.Postgres); ok {
			results, err := s.MergeMany(ctx, []metadata.Patch{{ID: "a", Patch: raw(`{"n":2}`)}})
			assert.ErrorIs(t, err, metadata.ErrConflict)
			assert.Equal(t, doc, results[0].Document)
			conflicts++
		}
		assert.Equal(t, conflicts, view(false).Stats().Conflicts)
		none, err = view(false).Update(ctx, "a", func(metadata.Document) (json.RawMessage, error) {
			return nil, &metadata.VersionError{Want: 7, Have: doc.Version} // of another document, say
		})
		assert.ErrorIs(t, err, metadata.ErrConflict)
		assert.Empty(t, none)

		var wg sync.WaitGroup
		var won sync.Map
		told := make([]metadata.Document, 16)
		for i := range told {
			wg.Go(func() {
				doc, err := view(false, 1).Merge(ctx, "a", raw(`{"winner":%d}`, i))
				if err == nil {
					won.Store(i, true)
				} else {
					assert.ErrorIs(t, err, metadata.ErrConflict)
				}
				told[i] = doc
			})
		}
		wg.Wait()
		winners := 0
		won.Range(func(any, any) bool { winners++; return true })
		assert.Equal(t, 1, winners)
		doc, err = view(false).Get(ctx, "a")
		require.NoError(t, err)
		for i := range told {
			assert.Equal(t, doc, told[i], "who lost is told what won")
		}

		// Each goes on from what it was told with the conflict.
		for i := range told {
			wg.Go(func() {
				doc, err := told[i], error(nil)
				for tries := 0; tries == 0 || errors.Is(err, metadata.ErrConflict); tries++ {
					doc, err = view(false, doc.Version).Merge(ctx, "a", raw(`{"k%d":%d}`, i, doc.Version))
				}
				assert.NoError(t, err)
			})
		}
		wg.Wait()
		doc, err = view(false).Get(ctx, "a")
		require.NoError(t, err)
		assert.Equal(t, int64(2+len(told)), doc.Version)
	})
}

func TestProtectedKeys(t *testing.T) {
	opts := &metadata.Options{Protect: []string{"system", "audit"}}
	eachStore(t, opts, func(t *testing.T, view func(bool, ...int64) full) {
		ctx, store, privileged := t.Context(), view(false), view(true)
		_, err := privileged.Merge(ctx, "a", raw(`{"system":{"tier":1},"mine":{"system":1}}`))
		require.NoError(t, err)
		update := func(patch string) func(full) error {
			return func(s full) error {
				_, err := s.Update(ctx, "a", func(metadata.Document) (json.RawMessage, error) { return raw("%s", patch), nil })
				return err
			}
		}
		merge := func(patch string) func(full) error {
			return func(s full) error { _, err := s.Merge(ctx, "a", raw("%s", patch)); return err }
		}
		replace := func(doc string) func(full) error {
			return func(s full) error { _, err := s.Replace(ctx, "a", raw("%s", doc)); return err }
		}
		for name, write := range map[string]func(full) error{
			"sets":            merge(`{"system":{"tier":2}}`),
			"sets the same":   merge(`{"system":{"tier":1}}`),
			"removes":         merge(`{"system":null}`),
			"spells it oddly": merge(`{"s\u0079stem":1}`),
			"updates":         update(`{"system":1}`),
			"adds":            merge(`{"audit":1}`),
			"replaces away":   replace(`{"mine":1}`),
			"replaces other":  replace(`{"system":{"tier":2}}`),
			"deletes":         func(s full) error { return s.Delete(ctx, "a") },
		} {
			var protected *metadata.ProtectedError
			err := write(store)
			require.ErrorAs(t, err, &protected, name)
			assert.ErrorIs(t, err, metadata.ErrProtected)
		}
		doc, err := store.Get(ctx, "a")
		require.NoError(t, err)
		assert.Equal(t, int64(1), doc.Version)

		_, err = store.Merge(ctx, "a", raw(`{"mine":{"system":2}}`))
		assert.NoError(t, err, "only the top level is protected")
		_, err = store.Replace(ctx, "a", raw(`{"system":{"tier":1},"new":1}`))
		assert.NoError(t, err)
		for _, write := range []func(full) error{merge(`{"system":null}`), update(`{"system":1}`), replace(`{}`)} {
			assert.NoError(t, write(privileged))
		}
		assert.NoError(t, store.Delete(ctx, "a"), "with nothing protected in it")
	})
}

func TestTypedHelpers(t *testing.T) {
	type profile struct {
		Plan  string `json:"plan,omitzero"`
		Seats *int   `json:"seats"`
	}
	eachStore(t, nil, func(t *testing.T, view func(bool, ...int64) full) {
		ctx, seats := t.Context(), 3
		_, err := metadata.MergeValue(ctx, view(false), "a", profile{Plan: "pro", Seats: &seats})
		require.NoError(t, err)
		doc, err := metadata.MergeValue(ctx, view(false), "a", profile{})
		require.NoError(t, err)
		got, err := metadata.Decode[profile](doc)
		require.NoError(t, err)
		assert.Equal(t, profile{Plan: "pro"}, got)
		_, err = metadata.MergeValue(ctx, view(false), "a", func() {})
		assert.ErrorIs(t, err, metadata.ErrInvalidPatch)
		var invalid *metadata.PatchError
		assert.ErrorAs(t, err, &invalid)
		for _, text := range []string{`{"seats":"` + canary + `"}`, `{"seats":123456789012345678901234567890}`, `{`} {
			_, err = metadata.Decode[profile](metadata.Document{ID: "a", Metadata: raw("%s", text)})
			assert.ErrorIs(t, err, metadata.ErrInvalidDocument)
			assert.NotContains(t, err.Error(), canary)
			assert.NotContains(t, err.Error(), "1234567890")
		}
		_, err = metadata.Decode[map[string]int](metadata.Document{ID: "a", Metadata: raw(`{"plan":"pro"}`)})
		assert.EqualError(t, err, `"a": metadata: invalid document: cannot decode it into map[string]int`)
	})
}

func TestFind(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		ctx, store := t.Context(), d.migrated(t, nil)
		for i := range 25 {
			_, err := store.Merge(ctx, fmt.Sprintf("u%02d", i), raw(`{"even":%v,"n":%d}`, i%2 == 0, i))
			require.NoError(t, err)
		}
		ids := func(contained string, opts *metadata.FindOptions) (ids []string) {
			docs, err := find(ctx, store, contained, opts)
			require.NoError(t, err)
			for _, doc := range docs {
				assert.Equal(t, int64(1), doc.Version)
				ids = append(ids, doc.ID)
			}
			return ids
		}
		assert.Len(t, ids(`{}`, nil), 25)
		assert.Len(t, ids(`{"even":true}`, &metadata.FindOptions{PageSize: 4}), 13)
		assert.Equal(t, []string{"u22", "u24"}, ids(`{"even":true}`, &metadata.FindOptions{PageSize: 2, After: "u20"}))
		assert.Equal(t, []string{"u07"}, ids(`{"n":7}`, nil))
		assert.Empty(t, ids(`{"n":99}`, nil))
		for doc, err := range store.Find(ctx, raw(`{}`), &metadata.FindOptions{PageSize: 1}) {
			require.NoError(t, err)
			assert.Equal(t, "u00", doc.ID)
			break
		}
		elements := func(n int) string { return strings.TrimSuffix(strings.Repeat("1,", n), ",") }
		assert.Empty(t, ids(`{"n":[`+elements(metadata.MaxFindElements)+`]}`, nil))
		for contained, want := range map[string]error{
			`{"a"`: metadata.ErrInvalidPatch, `{"a":"\u0000"}`: metadata.ErrInvalidPatch,
			`{"n":[` + elements(metadata.MaxFindElements+1) + `]}`:            metadata.ErrTooLarge,
			`{"n":[[` + elements(16) + `],[` + elements(16) + `]]}`:           metadata.ErrTooLarge,
			`{"n":[{"a":[` + elements(20) + `]}],"m":[` + elements(20) + `]}`: metadata.ErrTooLarge,
		} {
			_, err := find(ctx, store, contained, nil)
			assert.ErrorIs(t, err, want)
		}
		_, err := find(ctx, store, `{}`, &metadata.FindOptions{After: "\x00"})
		assert.ErrorIs(t, err, metadata.ErrInvalidID)
	})
}

func TestInTheHostsTransaction(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		ctx, store := t.Context(), d.migrated(t, nil)
		native, err := d.Pool().Begin(ctx)
		require.NoError(t, err)
		viaSQLX, err := d.SQLX().BeginTxx(ctx, nil)
		require.NoError(t, err)
		viaSQL, err := d.SQLX().DB.BeginTx(ctx, nil)
		require.NoError(t, err)
		for id, tx := range map[string]any{"pgx": native, "sqlx": viaSQLX, "sql": viaSQL} {
			in := store.In(tx)
			_, err := in.Merge(ctx, id, raw(`{"n":1}`))
			require.NoError(t, err)
			_, err = in.Merge(ctx, id, raw(`{"n":`))
			assert.ErrorIs(t, err, metadata.ErrInvalidPatch)
			_, err = in.Update(ctx, id, func(metadata.Document) (json.RawMessage, error) { return nil, errors.New("no") })
			assert.Error(t, err)
			assert.Panics(t, func() {
				in.Update(ctx, id, func(metadata.Document) (json.RawMessage, error) { panic("no") })
			})
			doc, err := in.Update(ctx, id, func(doc metadata.Document) (json.RawMessage, error) { return raw(`{"m":2}`), nil })
			require.NoError(t, err)
			assert.Equal(t, `{"m": 2, "n": 1}`, string(doc.Metadata))
			present, err := store.IfVersion(9).In(tx).Merge(ctx, id, raw(`{}`))
			assert.ErrorIs(t, err, metadata.ErrConflict)
			assert.Equal(t, doc, present)
			_, err = store.In(tx).Replace(ctx, id+"2", raw(`{}`))
			require.NoError(t, err)
			require.NoError(t, in.Delete(ctx, id+"2"))
			_, err = store.Get(ctx, id)
			assert.ErrorIs(t, err, metadata.ErrNotFound, "not yet committed")
		}
		require.NoError(t, native.Commit(ctx))
		require.NoError(t, viaSQLX.Commit())
		require.NoError(t, viaSQL.Rollback())
		for _, id := range []string{"pgx", "sqlx"} {
			doc, err := store.Get(ctx, id)
			require.NoError(t, err)
			assert.Equal(t, int64(2), doc.Version)
		}
		_, err = store.Get(ctx, "sql")
		assert.ErrorIs(t, err, metadata.ErrNotFound)
		assert.Empty(t, d.Locks(t))

		for _, tx := range []any{nil, pgx.Tx(nil), d.Pool(), "tx"} {
			_, err := store.In(tx).Merge(ctx, "a", raw(`{}`))
			assert.ErrorIs(t, err, metadata.ErrInvalidOptions)
			_, err = store.In(tx).Get(ctx, "a")
			assert.ErrorIs(t, err, metadata.ErrInvalidOptions)
		}
	})
}

// The host's transaction finds the lock taken, and does not keep the row from its holder.
func TestHostsTransactionLetsTheHolderWrite(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		ctx, store := t.Context(), d.migrated(t, nil)
		_, err := store.Merge(ctx, "a", raw(`{}`))
		require.NoError(t, err)
		held, err := newLocker(t, d.Pool()).Lock(ctx, store.Key("a"))
		require.NoError(t, err)
		tx, err := d.Pool().Begin(ctx)
		require.NoError(t, err)
		done := make(chan error)
		go func() {
			_, err := store.In(tx).Merge(ctx, "a", raw(`{"host":1}`))
			done <- err
		}()
		waitForWaits(t, store, 1)
		for i := range 3 {
			_, err = store.Merge(held.Context(), "a", raw(`{"holder":%d}`, i))
			require.NoError(t, err)
		}
		require.NoError(t, held.Unlock())
		require.NoError(t, <-done)
		require.NoError(t, tx.Commit(ctx))
		doc, err := store.Get(ctx, "a")
		require.NoError(t, err)
		assert.Equal(t, `{"host": 1, "holder": 2}`, string(doc.Metadata))
	})
}
