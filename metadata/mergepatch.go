package metadata

import "encoding/json"

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
// both must be valid JSON in UTF-8 without duplicate keys, without U+0000, and
// less than 100 000 levels deep. Its time is linear in size and depth.
func MergePatch(target, patch json.RawMessage) (json.RawMessage, error) {
	var doc value
	if len(target) > 0 {
		var err *PatchError
		if doc, err = parse(target, noDepth, 0); err != nil {
			return nil, err.of(ErrInvalidDocument)
		}
	}
	p, err := parse(patch, noDepth, 0)
	if err != nil {
		return nil, err
	}
	doc.merge(&p)
	return doc.append(make([]byte, 0, len(target)+len(patch)+len(patch)/2)), nil
}
