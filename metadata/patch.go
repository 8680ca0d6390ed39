package metadata

import (
	"encoding/json"
	"fmt"

	"example.com/lockstore/metadata/internal/jsonb"
)

// A patch is a merge patch that has been read. All that has to be found out about it
// is, when it is made: it may be another caller who commits it, and whom it must
// neither stop nor keep for longer than the merge itself takes.
type patch struct {
	text json.RawMessage // as jsonb prints it
	jsonb.Measure
	room int64 // how large a document may be that surely stays within MaxDocumentBytes
	dear bool  // to be merged by itself, and in Go
}

// What a patch may be that the merge function in the database merges, perhaps together
// with others, who wait for it: it takes a step for each object and null, reads a
// document once more for each level of objects, and is slower with many bytes.
const (
	cheapBytes  = 64 << 10
	cheapSteps  = 64
	cheapLevels = 4
)

// parsePatch reads a patch of one who may apply it.
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
	dear := len(printed) > cheapBytes || measured.Steps > cheapSteps || measured.Levels > cheapLevels || room < 0
	return &patch{printed, measured, room, dear}, nil
}

// maxDigits is how many digits a number may print for its exponent, or of zeros at its
// ends, which take no bytes in the database: a document must not print very much more
// than it takes.
const maxDigits = 1024

// parse reads what a caller wants to be stored, or to be looked for.
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

// parseObject reads a patch, or a document.
func (o *Options) parseObject(text json.RawMessage) (json.RawMessage, jsonb.Measure, error) {
	printed, measured, err := o.parse(text)
	if err == nil && printed[0] != '{' {
		err = &PatchError{Path: "$", Reason: "not an object"}
	}
	return printed, measured, err
}
