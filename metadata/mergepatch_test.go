package metadata_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
)

func TestMergePatch(t *testing.T) {
	for target, want := range map[string]string{
		``:                     `{"a": {"c": 1}}`,
		`null`:                 `{"a": {"c": 1}}`,
		` {"a":{"b":2},"n":1}`: `{"a": {"c": 1}, "n": 1}`,
	} {
		got, err := metadata.MergePatch(json.RawMessage(target), json.RawMessage(`{"a":{"b":null,"c":1}}`))
		require.NoError(t, err, target)
		assert.Equal(t, want, string(got), target)
	}
}

func TestMergePatchSaysWhichOfTheTwoIsWrong(t *testing.T) {
	for text, path := range map[string]string{`{"a":[`: "$.a[0]", `{"a":{"b b":1,"b b":2}}`: `$.a["b b"]`, ` `: "$", strings.Repeat("[", 10_000_000): "$" + strings.Repeat("[0]", 100_000)} {
		_, err := metadata.MergePatch(json.RawMessage(`{}`), json.RawMessage(text))
		var patchErr *metadata.PatchError
		require.ErrorAs(t, err, &patchErr)
		assert.ErrorIs(t, err, metadata.ErrInvalidPatch)
		assert.NotErrorIs(t, err, metadata.ErrInvalidDocument)
		assert.Equal(t, path, patchErr.Path)
		assert.NotEmpty(t, patchErr.Reason)

		_, err = metadata.MergePatch(json.RawMessage(text), json.RawMessage(`{}`))
		require.ErrorAs(t, err, &patchErr)
		assert.ErrorIs(t, err, metadata.ErrInvalidDocument)
		assert.NotErrorIs(t, err, metadata.ErrInvalidPatch)
		assert.Equal(t, path, patchErr.Path)
	}
}
