package metadata_test

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"example.com/lockstore/metadata"
)

// FuzzErrors asks whether the text of an error is fit for a log: it has no value of
// a patch or document, and whatever it says of ids, keys and paths can be printed.
func FuzzErrors(f *testing.F) {
	for _, name := range hostile {
		f.Add(name, name, `[`, `,1e99999]`)
		f.Add("a", name, `{"b":`, `}`)
		f.Add(name, "protected", ``, ``)
	}
	for _, around := range [][2]string{
		{``, ``}, {`[`, ``}, {`[1,{"x":`, `,"y":1e999999999}]`}, {`[`, `,"\ud800"]`}, {`{"a":`, `,"a":1}`}, {`[[[`, `tru]]]`}, {`"\u0000`, ``},
		{`"`, "\x01\""}, {`"`, "\xff\""}, {``, `1e99`}, {`-`, ``}, {`{"é`, `":[}]`}, {`{"a":[`, `]} {}`}, {strings.Repeat("[", 70), strings.Repeat("]", 70)},
	} {
		f.Add("id", "key", around[0], around[1])
	}
	f.Fuzz(func(t *testing.T, id, key, before, after string) {
		const secret = `739184620571`
		name, err := json.Marshal(key)
		if err != nil || strings.Contains(id+key+before+after, secret[:6]) {
			return
		}
		text := json.RawMessage(`{` + string(name) + `:` + before + secret + after + `}`)
		inert := func(err error) {
			t.Helper()
			if err == nil {
				return
			}
			said := err.Error()
			if !strings.Contains(before, `"`) { // else it may be part of a key
				assert.NotContains(t, said, secret)
			}
			for _, r := range strings.ReplaceAll(said, "\n", "") { // which errors.Join has
				assert.True(t, strconv.IsPrint(r), "%q", said)
			}
		}
		_, err = metadata.MergePatch(nil, text)
		inert(err)
		_, err = metadata.MergePatch(text, json.RawMessage(`{}`))
		inert(err)
		_, err = metadata.Decode[map[string]struct{ A []int }](metadata.Document{ID: id, Metadata: text})
		inert(err)
		for _, o := range []*metadata.Options{nil, {Protect: []string{key}}, {MaxDocumentBytes: 10}, {MaxPatchBytes: 20, MaxDepth: 2}} {
			store := must(metadata.NewMemory(nil, o))
			_, err = store.Get(t.Context(), id)
			inert(err)
			for _, s := range []full{store, store.IfVersion(3)} {
				_, err = s.Merge(t.Context(), id, text)
				inert(err)
				_, err = s.Replace(t.Context(), id, text)
				inert(err)
				_, err = s.Update(t.Context(), id, func(metadata.Document) (json.RawMessage, error) { return text, nil })
				inert(err)
				inert(s.Delete(t.Context(), id))
			}
		}
	})
}
