package jsonb_test

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata/internal/jsonb"
)

// merged is target after patch, as it is printed.
func merged(t *testing.T, target, patch []byte) string {
	t.Helper()
	of, _, err := jsonb.Parse(target, jsonb.NoLimits)
	require.Nil(t, err, "%s", target)
	by, _, err := jsonb.Parse(patch, jsonb.NoLimits)
	require.Nil(t, err, "%s", patch)
	v := jsonb.Open(of)
	v.Merge(by)
	printed := v.Print()
	assert.Equal(t, len(printed), v.Size())
	return string(printed)
}

func TestMergePassesTheTableOfTheRFC(t *testing.T) {
	text, err := os.ReadFile("testdata/rfc7396.json")
	require.NoError(t, err)
	var table struct {
		Cases []struct{ Target, Patch, Result json.RawMessage }
	}
	require.NoError(t, json.Unmarshal(text, &table))
	require.Len(t, table.Cases, 15)
	for _, c := range table.Cases {
		assert.JSONEq(t, string(c.Result), merged(t, c.Target, c.Patch), "%s with %s", c.Target, c.Patch)
	}
}

func TestParseKeepsLimits(t *testing.T) {
	limits := jsonb.Limits{Depth: 2, Digits: 4, Bytes: 20}
	for text, want := range map[string]jsonb.Error{
		`{"a":[[1]]}`:                  {Path: "$.a[0]", Kind: jsonb.Unfit},
		`{"a":1e9}`:                    {Path: "$.a", Kind: jsonb.Unfit},
		`{"a":"b","a":"c"}`:            {Path: "$.a", Kind: jsonb.Unfit},
		`{"a":}`:                       {Path: "$.a", Kind: jsonb.Malformed},
		`{"a":"01234567890123456789"}`: {Path: "$.a", Kind: jsonb.TooLarge},
	} {
		_, _, err := jsonb.Parse([]byte(text), limits)
		if assert.NotNil(t, err, text) {
			assert.Equal(t, want.Path, err.Path, text)
			assert.Equal(t, want.Kind, err.Kind, text)
		}
	}
	printed, measure, err := jsonb.Parse([]byte(`{"b":1e1,"a":null}`), limits)
	require.Nil(t, err)
	assert.Equal(t, `{"a": null, "b": 10}`, string(printed))
	assert.Equal(t, 1, measure.Steps)
}
