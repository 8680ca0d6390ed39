package metadata

import (
	"encoding/json"

	"example.com/lockstore/metadata/internal/jsonb"
)

// MergePatch applies a JSON merge patch to target, without a store (RFC 7396, section 2):
// members of patch replace those of target, null removes them, objects are merged in depth, and
// anything else, arrays included, is replaced whole. It does what a store's Merge does, but
// takes any patch that the RFC allows, not only objects.
//
// Numbers keep their text, and nulls in target or within arrays stay. The result is printed as
// PostgreSQL prints a jsonb: shorter keys first. An empty target means that there is none.
//
// The error matches [ErrInvalidPatch] or, for target, [ErrInvalidDocument]: both must be valid
// JSON in UTF-8 without duplicate keys, without U+0000, at most 100 000 levels deep and 2 GiB
// long. Time and memory are linear in the size, whatever the shape, except for sorting keys.
func MergePatch(target, patch json.RawMessage) (json.RawMessage, error) {
	doc := new(jsonb.Value)
	if len(target) > 0 {
		text, _, err := jsonb.Parse(target, jsonb.NoLimits)
		if err != nil {
			return nil, patchError(err).of(ErrInvalidDocument)
		}
		doc = jsonb.Open(text)
	}
	text, _, err := jsonb.Parse(patch, jsonb.NoLimits)
	if err != nil {
		return nil, patchError(err)
	}
	doc.Merge(text)
	return doc.Print(), nil
}
