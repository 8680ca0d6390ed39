package jsonb_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata/internal/jsonb"
	"example.com/lockstore/metadata/internal/jsonb/jsonbtest"
)

// merge is target after patch, both within limits.
func merge(target, patch []byte, within jsonb.Limits) ([]byte, error) {
	of, _, err := jsonb.Parse(target, within)
	if err != nil {
		return nil, err
	}
	by, _, err := jsonb.Parse(patch, within)
	if err != nil {
		return nil, err
	}
	v := jsonb.Open(of)
	v.Merge(by)
	return v.Print(), nil
}

func merged(t *testing.T, target, patch []byte) string {
	t.Helper()
	printed, err := merge(target, patch, jsonb.NoLimits)
	require.NoError(t, err, "%s with %s", target, patch)
	return string(printed)
}

func TestMergePassesTheTableOfTheRFC(t *testing.T) {
	require.Len(t, jsonbtest.RFC7396(), 15)
	for _, c := range jsonbtest.RFC7396() {
		assert.JSONEq(t, string(c.Result), merged(t, c.Target, c.Patch), "%s with %s", c.Target, c.Patch)
	}
}

func TestMerge(t *testing.T) {
	for name, c := range map[string]struct{ target, patch, want string }{
		"adds":                         {`{"a":1}`, `{"b":2}`, `{"a": 1, "b": 2}`},
		"sorts as jsonb does":          {`{}`, `{"bb":1,"c":2,"a":3}`, `{"a": 3, "c": 2, "bb": 1}`},
		"nulls in new objects":         {`{}`, `{"a":{"b":null,"c":1}}`, `{"a": {"c": 1}}`},
		"null target":                  {`null`, `{"a":1}`, `{"a": 1}`},
		"keeps numbers' text":          {`{"big":12345678901234567890123,"e":1e3}`, `{"z":1.10}`, `{"e": 1e3, "z": 1.10, "big": 12345678901234567890123}`},
		"keeps stored nulls":           {`{"a":null,"b":{"c":null}}`, `{"b":{"d":1}}`, `{"a": null, "b": {"c": null, "d": 1}}`},
		"keeps nulls in arrays":        {`{}`, `{"a":[null,{"b":null}]}`, `{"a": [null, {"b": null}]}`},
		"deletes in depth":             {`{"a":{"b":1,"c":{"d":2}}}`, `{"a":{"b":null,"c":{"d":null}}}`, `{"a": {"c": {}}}`},
		"object over scalar":           {`{"a":1}`, `{"a":{"b":null}}`, `{"a": {}}`},
		"escaped keys are the key":     {`{"\u0061":1}`, `{"a":null,"\u00e9\n":"\/"}`, `{"é\n": "/"}`},
		"surrogate pair":               {`{}`, `{"a":"\ud83d\ude00"}`, `{"a": "😀"}`},
		"white space":                  {" { \"a\" : [ 1 , 2 ] } ", "\t{\r\n}", `{"a": [1, 2]}`},
		"many added among many":        {`{"b":1,"d":1,"f":1}`, `{"a":2,"c":2,"e":2,"g":2,"d":null}`, `{"a": 2, "b": 1, "c": 2, "e": 2, "f": 1, "g": 2}`},
		"delete and set in one object": {`{"a":1,"b":2}`, `{"a":null,"b":3}`, `{"b": 3}`},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, c.want, merged(t, []byte(c.target), []byte(c.patch)))
		})
	}
}

// Merge tells whether it changes anything, and Size what there is to print.
func TestMergeTellsWhatItDoes(t *testing.T) {
	for _, c := range jsonbtest.RFC7396() {
		before, _, err := jsonb.Parse(c.Target, jsonb.NoLimits)
		require.NoError(t, err)
		patch, _, err := jsonb.Parse(c.Patch, jsonb.NoLimits)
		require.NoError(t, err)
		v := jsonb.Open(before)
		assert.Equal(t, string(before) != merged(t, before, patch), v.Merge(patch), "%s with %s", before, patch)
		assert.False(t, v.Merge(patch), "%s with %s, again", before, patch)
		assert.Len(t, v.Print(), v.Size(), "%s with %s", before, patch)
	}
}

func TestMergeOfDeepDocuments(t *testing.T) {
	const levels = 10_000
	nested := []byte(jsonbtest.Within(levels, "1"))
	assert.Equal(t, levels, strings.Count(merged(t, nested, nested), "{"))
}

// reference is RFC 7396's pseudo code, word by word.
func reference(target, patch any) any {
	p, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	t, ok := target.(map[string]any)
	if !ok {
		t = map[string]any{}
	}
	for name, value := range p {
		if value == nil {
			delete(t, name)
		} else {
			t[name] = reference(t[name], value)
		}
	}
	return t
}

func decoded(t testing.TB, text []byte) any {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	require.NoError(t, d.Decode(&v), "%q", text)
	return v
}

// FuzzMerge holds a merge against the RFC, and what is printed against what it is made of.
func FuzzMerge(f *testing.F) {
	for _, c := range jsonbtest.RFC7396() {
		f.Add([]byte(c.Target), []byte(c.Patch))
	}
	f.Add([]byte(`{"b":{"c":1e400},"a":[null]}`), []byte(`{"b":{"c":null,"dd":{}},"\ud83d\ude00":-0.0}`))
	f.Fuzz(func(t *testing.T, target, patch []byte) {
		before := bytes.Clone(patch)
		var got []byte
		var err error
		jsonbtest.Quickly(t, len(target)+len(patch), func() { got, err = merge(target, patch, jsonb.NoLimits) })
		assert.Equal(t, before, patch, "the patch is left alone")
		if err != nil {
			return
		}
		assert.Equal(t, reference(decoded(t, target), decoded(t, patch)), decoded(t, got))
		again, _, err := jsonb.Parse(got, jsonb.NoLimits)
		require.NoError(t, err)
		assert.Equal(t, string(got), string(again), "the form is canonical")
	})
}

func BenchmarkMerge(b *testing.B) {
	run := func(name, document, patch string) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := merge([]byte(document), []byte(patch), jsonb.NoLimits); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	for _, size := range []int{200, 2000, 20000, 200000} {
		run(fmt.Sprintf("document=%dB", size), jsonbtest.Members(size, "attribute", `"value number 7919"`), `{"seen":1,"by":null,"address":{"zip":"2000"}}`)
	}
	deep := jsonbtest.Within(10_000, "1")
	run("levels=10000", deep, deep)
}
