package jsonb_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata/internal/jsonb"
)

func TestParseRefuses(t *testing.T) {
	for name, c := range map[string]struct{ text, path string }{
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
			_, _, err := jsonb.Parse([]byte(c.text), jsonb.NoLimits)
			var refused *jsonb.Error
			require.ErrorAs(t, err, &refused)
			assert.Equal(t, c.path, refused.Path)
			assert.NotEmpty(t, refused.Reason)
			assert.Equal(t, !json.Valid([]byte(c.text)) || !utf8.ValidString(c.text), refused.Malformed)
		})
	}
}

func TestParseKeepsWithinLimits(t *testing.T) {
	limits := jsonb.Limits{Depth: 2, Digits: 4, Bytes: 20}
	for text, want := range map[string]jsonb.Error{
		`{"a":[[1]]}`:                  {Path: "$.a[0]"},
		`{"a":1e9}`:                    {Path: "$.a"},
		`{"a":"01234567890123456789"}`: {Path: "$.a", TooLarge: true},
		`{"a":1,"01234567890123":1}`:   {Path: "$", TooLarge: true},
	} {
		_, _, err := jsonb.Parse([]byte(text), limits)
		var refused *jsonb.Error
		if assert.ErrorAs(t, err, &refused, text) {
			want.Reason = refused.Reason
			assert.Equal(t, want, *refused, text)
		}
	}
	printed, _, err := jsonb.Parse([]byte(`{"b":1e1,"a":[0]}`), limits)
	require.NoError(t, err)
	assert.Equal(t, `{"a": [0], "b": 10}`, string(printed))
	_, _, err = jsonb.Parse([]byte(strings.Repeat("[", 10_000_000)), jsonb.NoLimits)
	assert.Error(t, err)
}

func TestParseMeasures(t *testing.T) {
	for text, want := range map[string]jsonb.Measure{
		`{}`:                           {Flat: true, Sets: true},
		`{"a":1,"b":"null"}`:           {Flat: true, Sets: true},
		`{"a":null}`:                   {Steps: 1},
		`{"a":[null,{"b":null},[[]]]}`: {Elements: 4, Flat: true},
		`{"a":{"b":1},"c":{}}`:         {Steps: 2, Levels: 1, Sets: true},
		`{"a":{"b":{"c":null}}}`:       {Steps: 3, Levels: 2},
	} {
		_, m, err := jsonb.Parse([]byte(text), jsonb.NoLimits)
		require.NoError(t, err)
		assert.Equal(t, want, m, text)
	}
}

func TestFind(t *testing.T) {
	document := `{"b":[1,{"a":2}],"\n\"":{"a":3},"é\u0001":null,"a":"}","\\\\":7}`
	printed, _, err := jsonb.Parse([]byte(document), jsonb.NoLimits)
	require.NoError(t, err)
	for key, want := range map[string]string{
		"a": `"}"`, "b": `[1, {"a": 2}]`, "\n\"": `{"a": 3}`, "é\x01": `null`, `\\`: `7`, `\`: ``, "": ``, "é": ``,
	} {
		assert.Equal(t, want, string(jsonb.Find(printed, key)), "%q", key)
	}
	for _, other := range []string{`["a"]`, `"a"`, `{}`, `null`} {
		assert.Nil(t, jsonb.Find([]byte(other), "a"), other)
	}
}
