package metadata

import (
	"encoding/json"
	"fmt"

	"example.com/lockstore/metadata/internal/jsonb"
)

// A patch is a merge patch that was checked. All that is to be known of it is found out when
// it is made: another caller may commit it, and must be neither stopped nor kept for longer
// than the merge itself takes.
type patch struct {
	text json.RawMessage // as jsonb prints it
	jsonb.Measure
	room   int64 // a document no larger than this surely stays within MaxDocumentBytes
	costly bool  // it is merged in Go, with no others in a statement
}

// Limits of a patch that the merge function in the database merges, perhaps with others, which
// wait for it. The function takes a step for each object and null, reads the document once
// more for each level of objects, and is slower with many bytes.
const (
	cheapBytes  = 64 << 10
	cheapSteps  = 64
	cheapLevels = 4
)

// parsePatch checks a patch, also whether its caller may apply it.
func (d *documents) parsePatch(text json.RawMessage) (*patch, error) {
	printed, measured, err := d.options.parseObject(text)
	if err != nil {
		return nil, err
	}
	for _, key := range d.options.Protect {
		if !d.privileged && jsonb.Find(printed, key) != nil {
			return nil, &ProtectedError{key}
		}
	}
	room := int64(d.options.MaxDocumentBytes) - int64(len(printed))
	costly := len(printed) > cheapBytes || measured.Steps > cheapSteps || measured.Levels > cheapLevels || room < 0
	return &patch{printed, measured, room, costly}, nil
}

// maxDigits is how many digits a number may print because of its exponent, or as zeros at its
// ends. They take no bytes in the database, and a document must not print very much more than
// it takes there.
const maxDigits = 1024

// parse checks what a caller wants to store or to look for.
func (o *Options) parse(text json.RawMessage) (json.RawMessage, jsonb.Measure, error) {
	if len(text) > o.MaxPatchBytes {
		return nil, jsonb.Measure{}, (&PatchError{Path: "$", Reason: fmt.Sprintf("more than %d bytes", o.MaxPatchBytes)}).of(ErrTooLarge)
	}
	printed, measured, err := jsonb.Parse(text, jsonb.Limits{Depth: min(o.MaxDepth, jsonb.NoLimits.Depth), Digits: maxDigits, Bytes: 2 * min(o.MaxPatchBytes, jsonb.NoLimits.Bytes/2)})
	if err != nil {
		return nil, measured, patchError(err)
	}
	return printed, measured, nil
}

// parseObject checks a patch or a document.
func (o *Options) parseObject(text json.RawMessage) (json.RawMessage, jsonb.Measure, error) {
	printed, measured, err := o.parse(text)
	if err == nil && printed[0] != '{' {
		err = &PatchError{Path: "$", Reason: "not an object"}
	}
	return printed, measured, err
}
