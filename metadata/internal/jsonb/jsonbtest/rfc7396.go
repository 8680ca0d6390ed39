package jsonbtest

import (
	_ "embed"
	"encoding/json"
)

// A Case says what becomes of a target by a patch.
type Case struct{ Target, Patch, Result json.RawMessage }

//go:embed rfc7396.json
var rfc7396 []byte

// RFC7396 is the table of RFC 7396, Appendix A.
func RFC7396() []Case {
	var table struct{ Cases []Case }
	if err := json.Unmarshal(rfc7396, &table); err != nil {
		panic(err)
	}
	return table.Cases
}
