package metadata

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// MergeValue merges v, a struct or map, into a document, as encoding/json encodes it. Nil
// pointers, interfaces, slices and maps become null, which removes their keys; omitempty and
// omitzero leave keys unchanged. If v cannot be encoded, the error is a [*PatchError]; other
// errors are those of [MetadataStore].Merge.
func MergeValue(ctx context.Context, s MetadataStore, id string, v any) (Document, error) {
	patch, err := json.Marshal(v)
	if err != nil {
		return Document{}, &PatchError{Path: "$", Reason: fmt.Sprintf("cannot encode %T", v)}
	}
	return s.Merge(ctx, id, patch)
}

// Decode decodes a document into a T, as encoding/json does. The error matches
// [ErrInvalidDocument] and names the struct's field that does not fit, if it is one, and no
// value.
func Decode[T any](doc Document) (T, error) {
	var v T
	err := json.Unmarshal(doc.Metadata, &v)
	if err == nil {
		return v, nil
	}
	var mismatch *json.UnmarshalTypeError
	if errors.As(err, &mismatch) && mismatch.Field != "" {
		return v, fmt.Errorf("%q: %w: %s.%s does not fit %s", doc.ID, ErrInvalidDocument, mismatch.Struct, mismatch.Field, mismatch.Type)
	}
	return v, fmt.Errorf("%q: %w: cannot decode it into %T", doc.ID, ErrInvalidDocument, v)
}
