package metadata

import (
	"encoding/json"

	"example.com/lockstore/metadata/internal/jsonb"
)

// MergePatch applies a JSON merge patch to target as RFC 7396, section 2,
// defines it: members of patch replace those of target, null removes, objects
// are merged in depth, and anything else, arrays included, is replaced whole.
// It is what a store's Merge does, for JSON at hand, and takes any patch that
// the RFC does.
//
// Nothing is lost on the way: numbers keep their text, and nulls that stand in
// target or within arrays stay. The result is printed as PostgreSQL prints a
// jsonb: shorter keys first. An empty target is one that is missing.
//
// The error matches [ErrInvalidPatch] or, for target, [ErrInvalidDocument]:
// both must be valid JSON in UTF-8 without duplicate keys, without U+0000, at most
// 100 000 levels deep and 2 GiB long. Its time and memory are linear in size, whatever
// the shape, but for the sorting of keys.
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
