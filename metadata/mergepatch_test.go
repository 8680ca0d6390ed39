package metadata_test

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
)

type rfcCase struct{ Target, Patch, Result json.RawMessage }

// rfc7396 is the table of RFC 7396, Appendix A.
func rfc7396(t testing.TB) []rfcCase {
	text, err := os.ReadFile("internal/jsonb/testdata/rfc7396.json")
	require.NoError(t, err)
	var table struct{ Cases []rfcCase }
	require.NoError(t, json.Unmarshal(text, &table))
	require.Len(t, table.Cases, 15)
	return table.Cases
}

func TestMergePatchPassesTheTableOfTheRFC(t *testing.T) {
	for _, c := range rfc7396(t) {
		got, err := metadata.MergePatch(c.Target, c.Patch)
		require.NoError(t, err)
		assert.JSONEq(t, string(c.Result), string(got), "%s with %s", c.Target, c.Patch)
	}
}

func TestMergePatch(t *testing.T) {
	for name, c := range map[string]struct{ target, patch, want string }{
		"adds":                         {`{"a":1}`, `{"b":2}`, `{"a": 1, "b": 2}`},
		"sorts as jsonb does":          {`{}`, `{"bb":1,"c":2,"a":3}`, `{"a": 3, "c": 2, "bb": 1}`},
		"missing target":               {``, `{"a":{"b":null,"c":1}}`, `{"a": {"c": 1}}`},
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
			got, err := metadata.MergePatch(json.RawMessage(c.target), json.RawMessage(c.patch))
			require.NoError(t, err)
			assert.Equal(t, c.want, string(got))
		})
	}
}

func TestMergePatchRefuses(t *testing.T) {
	for name, c := range map[string]struct{ patch, path string }{
		"nothing":              {``, "$"},
		"two values":           {`{} {}`, "$"},
		"a word":               {`{"a":[tru]}`, "$.a[0]"},
		"unquoted key":         {`{a:1}`, "$"},
		"trailing comma":       {`{"a":{"b":1,}}`, "$.a"},
		"missing value":        {`{"a":}`, "$.a"},
		"cut off":              {`{"a":[1,2`, "$.a"},
		"open string":          {`{"a":"`, "$.a"},
		"open escape":          {`{"a":"\`, "$.a"},
		"bad escape":           {`{"a":"\x"}`, "$.a"},
		"short escape":         {`{"a":"\u12"}`, "$.a"},
		"NUL":                  {`{"a":{"first name":"\u0000"}}`, `$.a["first name"]`},
		"NUL in a key":         {`{"a":{"\u0000":1}}`, "$.a"},
		"control character":    {"{\"a\":\"\n\"}", "$.a"},
		"high surrogate alone": {`{"a":["\ud83d"]}`, "$.a[0]"},
		"low surrogate alone":  {`{"a":["\ude00"]}`, "$.a[0]"},
		"wrong pair":           {`{"a":"\ud83dA"}`, "$.a"},
		"invalid UTF-8":        {"{\"a\":\"\xff\"}", "$.a"},
		"leading zero":         {`{"a":01}`, "$.a"},
		"bare minus":           {`{"a":-}`, "$.a"},
		"bare point":           {`{"a":1.}`, "$.a"},
		"bare exponent":        {`{"a":1e}`, "$.a"},
		"duplicate":            {`{"a":1,"a":2}`, "$.a"},
		"duplicate unsorted":   {`{"x":{"b":1,"a":1,"\u0062":2}}`, "$.x.b"},
		"duplicate in array":   {`{"x":[0,{"":1,"":2}]}`, `$.x[1][""]`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := metadata.MergePatch(json.RawMessage(`{}`), json.RawMessage(c.patch))
			require.ErrorIs(t, err, metadata.ErrInvalidPatch)
			var patchErr *metadata.PatchError
			require.ErrorAs(t, err, &patchErr)
			assert.Equal(t, c.path, patchErr.Path)
			assert.NotEmpty(t, patchErr.Reason)
		})
	}
	_, err := metadata.MergePatch(json.RawMessage(`{"a":[`), json.RawMessage(`{}`))
	assert.ErrorIs(t, err, metadata.ErrInvalidDocument)
	assert.NotErrorIs(t, err, metadata.ErrInvalidPatch)
}

func TestMergePatchOfDeepDocuments(t *testing.T) {
	nested := func(levels int) json.RawMessage {
		return json.RawMessage(strings.Repeat(`{"a":`, levels) + "1" + strings.Repeat("}", levels))
	}
	const levels = 10_000
	got, err := metadata.MergePatch(nested(levels), nested(levels))
	require.NoError(t, err)
	assert.Equal(t, levels, bytes.Count(got, []byte("{")))

	_, err = metadata.MergePatch(nil, json.RawMessage(strings.Repeat("[", 10_000_000)))
	assert.ErrorIs(t, err, metadata.ErrInvalidPatch)
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

func decoded(t testing.TB, text json.RawMessage) any {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	require.NoError(t, d.Decode(&v), "%q", text)
	return v
}

func FuzzMergePatchAgainstTheRFC(f *testing.F) {
	for _, c := range rfc7396(f) {
		f.Add([]byte(c.Target), []byte(c.Patch))
	}
	f.Add([]byte(`{"b":{"c":1e400},"a":[null]}`), []byte(`{"b":{"c":null,"dd":{}},"\ud83d\ude00":-0.0}`))
	f.Fuzz(func(t *testing.T, target, patch []byte) {
		before := bytes.Clone(patch)
		got, err := metadata.MergePatch(target, patch)
		if err != nil {
			return
		}
		var old any
		if len(target) > 0 {
			old = decoded(t, target)
		}
		assert.Equal(t, reference(old, decoded(t, patch)), decoded(t, got))
		assert.Equal(t, before, patch, "the patch is left alone")
		again, err := metadata.MergePatch(got, json.RawMessage(`{}`))
		require.NoError(t, err)
		if len(got) > 0 && got[0] == '{' {
			assert.Equal(t, string(got), string(again), "the form is canonical")
		}
	})
}
