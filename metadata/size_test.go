package metadata_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
	"example.com/lockstore/metadata/internal/jsonb/jsonbtest"
)

// What is short can print very much.
func TestPatchesThatPrintTooMuchAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		limit       int
		patch, path string // empty: fits
	}{
		"an array of large numbers":   {1 << 20, jsonbtest.Array(1<<20, "1e999"), `$.a[2092]`},
		"an array of small numbers":   {1 << 20, jsonbtest.Array(1<<20, "1e-999"), `$.a[2090]`},
		"members":                     {1000, jsonbtest.Members(1000, "k", "1e999"), `$.k000001`},
		"in depth":                    {100, jsonbtest.Within(3, `{"b":[0,1e999]}`), `$.a.a.a.b[1]`},
		"one number":                  {100, `{"a":-1e200}`, `$.a`},
		"one number, at the limit":    {100, `{"a":1e192}`, ``},
		"one number, above the limit": {100, `{"a":1e193}`, `$`},
		"spaces only":                 {1000, jsonbtest.Array(1000, "0"), ``},
		"escapes":                     {1000, jsonbtest.Members(1000, `\u00e9`, `"\u0001\/"`), ``},
	} {
		t.Run(name, func(t *testing.T) {
			store := must(metadata.NewMemory(nil, &metadata.Options{MaxPatchBytes: c.limit}))
			for of, err := range map[string]error{
				"Merge":   errorOf(store.Merge(t.Context(), "a", raw("%s", c.patch))),
				"Replace": errorOf(store.Replace(t.Context(), "a", raw("%s", c.patch))),
				"Update": errorOf(store.Update(t.Context(), "a", func(metadata.Document) (json.RawMessage, error) {
					return raw("%s", c.patch), nil
				})),
			} {
				if c.path == "" {
					assert.NoError(t, err, of)
					continue
				}
				var patchErr *metadata.PatchError
				require.ErrorAs(t, err, &patchErr, of)
				assert.ErrorIs(t, err, metadata.ErrTooLarge, of)
				assert.ErrorIs(t, err, metadata.ErrInvalidPatch, of)
				assert.Equal(t, c.path, patchErr.Path, of)
			}
			allocated := jsonbtest.Allocates(func() { store.Merge(t.Context(), "a", raw("%s", c.patch)) })
			assert.Less(t, allocated, uint64(16*c.limit+100_000), "before it is refused")
		})
	}
}

// Every way to write has the bound of documents, and leaves them alone where it
// refuses. What is too large already can be changed, but not grow.
func TestDocumentsHaveABound(t *testing.T) {
	opts := &metadata.Options{MaxDocumentBytes: 100, Protect: []string{"protected"}}
	document := func(n int) json.RawMessage { return raw(`{"a": "%s"}`, strings.Repeat("x", n-9)) } // of n bytes
	eachDriver(t, func(t *testing.T, d *database) {
		store := d.migrated(t, opts)
		inGo := d.store(t, &metadata.Options{MaxDocumentBytes: 100, MergeInGo: true})
		host := d.store(t, nil)
		memory := must(metadata.NewMemory(nil, opts))
		unbound := must(metadata.NewMemory(nil, nil))
		tx, commit := d.hostTx(t)
		in := store.In(tx)
		merge := func(s metadata.MetadataStore) func(string, json.RawMessage) (metadata.Document, error) {
			return func(id string, p json.RawMessage) (metadata.Document, error) { return s.Merge(t.Context(), id, p) }
		}
		update := func(s metadata.MetadataStore) func(string, json.RawMessage) (metadata.Document, error) {
			return func(id string, p json.RawMessage) (metadata.Document, error) {
				return s.Update(t.Context(), id, func(metadata.Document) (json.RawMessage, error) { return p, nil })
			}
		}
		replace := func(s full) func(string, json.RawMessage) (metadata.Document, error) {
			return func(id string, p json.RawMessage) (metadata.Document, error) {
				before, err := s.Get(t.Context(), id)
				if err != nil {
					before.Metadata = raw(`{}`)
				}
				p, err = metadata.MergePatch(before.Metadata, p)
				require.NoError(t, err)
				return s.Replace(t.Context(), id, p)
			}
		}
		many := func(id string, p json.RawMessage) (metadata.Document, error) {
			results, err := store.MergeMany(t.Context(), []metadata.Patch{{ID: id + ", other", Patch: raw(`{"n":1}`)}, {ID: id, Patch: p}})
			require.NoError(t, results[0].Err)
			assert.Equal(t, err != nil, results[1].Err != nil)
			return results[1].Document, results[1].Err
		}
		ifVersion := func(view func(version int64) metadata.MetadataStore, s metadata.MetadataStore) func(string, json.RawMessage) (metadata.Document, error) {
			return func(id string, p json.RawMessage) (metadata.Document, error) {
				doc, _ := s.Get(t.Context(), id)
				return view(doc.Version).Merge(t.Context(), id, p)
			}
		}
		for name, c := range map[string]struct {
			store full
			write func(id string, p json.RawMessage) (metadata.Document, error)
		}{
			"Merge":                        {store, merge(store)},
			"Merge in Go":                  {store, merge(inGo)},
			"Merge, privileged":            {store, merge(store.Privileged())},
			"Merge of a version":           {store, ifVersion(func(v int64) metadata.MetadataStore { return store.IfVersion(v) }, store)},
			"Merge in tx":                  {in, merge(in)},
			"Merge in memory":              {memory, merge(memory)},
			"Merge of a version in memory": {memory, ifVersion(func(v int64) metadata.MetadataStore { return memory.IfVersion(v) }, memory)},
			"MergeMany":                    {store, many},
			"Update":                       {store, update(store)},
			"Update in tx":                 {in, update(in)},
			"Update in memory":             {memory, update(memory)},
			"Replace":                      {store, replace(store)},
			"Replace in tx":                {in, replace(in)},
			"Replace in memory":            {memory, replace(memory)},
		} {
			refused := func(id string, p json.RawMessage, size int) {
				t.Helper()
				before, missing := c.store.Get(t.Context(), id)
				_, err := c.write(id, p)
				var sizeErr *metadata.DocumentSizeError
				if assert.ErrorAs(t, err, &sizeErr, name) {
					assert.Equal(t, metadata.DocumentSizeError{Size: size, Max: 100}, *sizeErr, name)
					assert.ErrorIs(t, err, metadata.ErrTooLarge, name)
					assert.NotErrorIs(t, err, metadata.ErrInvalidPatch, name)
				}
				after, err := c.store.Get(t.Context(), id)
				assert.Equal(t, missing, err, name)
				assert.Equal(t, string(before.Metadata), string(after.Metadata), name)
				assert.Equal(t, before.Version, after.Version, name)
			}
			written := func(id string, p json.RawMessage, size int) {
				t.Helper()
				doc, err := c.write(id, p)
				assert.NoError(t, err, name)
				assert.Equal(t, size, len(doc.Metadata), name)
			}
			refused(name, document(101), 101)
			written(name, document(100), 100)
			refused(name, raw(`{"b":1}`), 108)
			written(name, raw(`{"a":"y"}`), 10)
			written(name, raw(`{"b":{"c":1}}`), 25)
			refused(name, raw(`{"b":{"d":%s}}`, document(70)), 25+5+2+70)
			written(name, raw(`{"a":null}`), 15)

			large := name + ", large"
			var err error
			switch c.store {
			case memory:
				continue // where nobody else writes
			case in:
				_, err = host.In(tx).Merge(t.Context(), large, document(200))
			default:
				_, err = host.Merge(t.Context(), large, document(200))
			}
			require.NoError(t, err)
			refused(large, raw(`{"b":1}`), 208)
			refused(large, document(201), 201)
			written(large, raw(`{"n":null}`), 200)
			written(large, raw(`{"a":"%s"}`, strings.Repeat("y", 191)), 200)
			written(large, document(190), 190)
			written(large, document(90), 90)
			refused(large, document(101), 101)
		}
		require.NoError(t, commit())
		doc, err := unbound.Merge(t.Context(), "a", document(1<<19))
		require.NoError(t, err)
		assert.Equal(t, 1<<19, len(doc.Metadata))
	})
}

// What prints more than it takes in the database counts as it is printed.
func TestNumbersCountAsTheyArePrinted(t *testing.T) {
	const most = 50_000
	eachDriver(t, func(t *testing.T, d *database) {
		store := d.migrated(t, &metadata.Options{MaxDocumentBytes: most})
		zeros := strings.Repeat("0", 1020)
		for i, number := range []string{"1e1020", "1" + zeros, "0." + zeros + "1", "-1e-1020", "9" + strings.Repeat("7", 1020)} {
			id, refused, size := fmt.Sprint(i), 0, 0
			for n := range 60 {
				doc, err := store.Merge(t.Context(), id, raw(`{"k%d":%s}`, n, number))
				if err != nil {
					require.ErrorIs(t, err, metadata.ErrTooLarge)
					refused++
				}
				size = max(size, len(doc.Metadata))
			}
			assert.LessOrEqual(t, size, most, i)
			assert.Greater(t, size, most-1100, i)
			assert.Positive(t, refused, i)
			_, err := store.Merge(t.Context(), id, raw(`{"k":1%s}`, strings.Repeat("0", 1100)))
			assert.ErrorIs(t, err, metadata.ErrInvalidPatch, i)
		}
	})
}

// In a batch the one that is refused fails alone, and the others as if it were not there.
func TestOneThatIsRefusedForItsSizeFailsAlone(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		b := newBlocked(t, d, &metadata.Options{MaxDocumentBytes: 150})
		calls := []pending{begin(func() (metadata.Document, error) { return merging(b.store, `{"k0":0}`)(t.Context()) })}
		waitForRow(t, d)
		for i := 1; i < 12; i++ {
			patch := fmt.Sprintf(`{"k%d":%d}`, i, i)
			if i%4 == 0 {
				patch = fmt.Sprintf(`{"k%d":%q,"zero":null}`, i, strings.Repeat("x", 200))
			}
			calls = append(calls, lineUpOrEnd(t, merging(b.store, patch)))
		}
		b.unblock()
		for i, p := range calls {
			a := p.wait(t, fmt.Sprint("call ", i))
			if i > 0 && i%4 == 0 {
				assert.ErrorIs(t, a.err, metadata.ErrTooLarge, i)
			} else if assert.NoError(t, a.err, i) {
				assert.Contains(t, string(a.doc.Metadata), fmt.Sprintf(`"k%d": %d`, i, i))
				assert.Contains(t, string(a.doc.Metadata), `"zero": 0`)
			}
		}
		assert.Equal(t, int64(11), b.document().Version)
	})
}

// A document's queue is bounded in bytes, whatever the bound a lone patch is not
// refused by it, and who has gone leaves room.
func TestAQueueIsBounded(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		b := newBlocked(t, d, &metadata.Options{MaxWaitingBytes: 1000})
		large := jsonbtest.One(600, "x")
		calls := []pending{begin(func() (metadata.Document, error) { return merging(b.store, large)(t.Context()) })}
		waitForRow(t, d)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		leaving := lineUp(ctx, merging(b.store, jsonbtest.One(300, "y")))
		_, err := b.store.Merge(t.Context(), "a", raw("%s", jsonbtest.One(200, "z")))
		var busy *lock.BusyError
		require.ErrorAs(t, err, &busy)
		assert.ErrorIs(t, err, lock.ErrBusy)
		assert.ErrorContains(t, busy.Cause, "MaxWaitingBytes")
		assert.Equal(t, b.store.Key("a"), busy.Key)
		_, err = b.store.Merge(t.Context(), "b", raw("%s", jsonbtest.One(2000, "z")))
		assert.NoError(t, err, "another document")

		cancel()
		assert.ErrorIs(t, leaving.wait(t, "who leaves").err, context.Canceled)
		calls = append(calls, lineUpOrEnd(t, merging(b.store, jsonbtest.One(300, "z"))))
		b.unblock()
		for i, p := range calls {
			assert.NoError(t, p.wait(t, fmt.Sprint("call ", i)).err)
		}
		for range 3 {
			_, err = b.store.Merge(t.Context(), "a", raw("%s", jsonbtest.One(2000, "z")))
			assert.NoError(t, err, "a lone one")
		}
		for range 3 { // all that is taken is given back
			host, err := d.Pool().Begin(t.Context())
			require.NoError(t, err)
			_, err = host.Exec(t.Context(), "SELECT FROM lockstore_metadata WHERE id = 'a' FOR UPDATE")
			require.NoError(t, err)
			first := begin(func() (metadata.Document, error) { return merging(b.store, jsonbtest.One(50, "f"))(t.Context()) })
			waitForRow(t, d)
			second := lineUpOrEnd(t, merging(b.store, jsonbtest.One(900, "s")))
			require.NoError(t, host.Rollback(t.Context()))
			assert.NoError(t, first.wait(t, "the first").err)
			assert.NoError(t, second.wait(t, "the second").err)
		}
	})
}
