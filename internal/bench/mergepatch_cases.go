package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"

	jsonpatch "github.com/evanphx/json-patch/v5"

	"example.com/lockstore/metadata"
)

// A patcher applies a merge patch in Go.
type patcher struct {
	name, how string
	apply     func(document, patch []byte) ([]byte, error)
}

var patchers = []patcher{
	{"lockstore", "metadata.MergePatch", func(document, patch []byte) ([]byte, error) {
		return metadata.MergePatch(document, patch)
	}},
	// The least work of a merge: reading the document once, and writing it.
	{"floor: json.Compact", "encoding/json.Compact of the document, nothing merged", func(document, _ []byte) ([]byte, error) {
		var b bytes.Buffer
		err := json.Compact(&b, document)
		return b.Bytes(), err
	}},
	{"evanphx/json-patch", "github.com/evanphx/json-patch/v5: MergePatch", jsonpatch.MergePatch},
	{"zep's merge", "json.Unmarshal both, maps.Copy, json.Marshal", func(document, patch []byte) ([]byte, error) {
		var d, p map[string]any
		if err := errors.Join(json.Unmarshal(document, &d), json.Unmarshal(patch, &p)); err != nil {
			return nil, err
		}
		if d == nil {
			d = map[string]any{}
		}
		maps.Copy(d, p)
		return json.Marshal(d)
	}},
}

func mergePatchCases() []testCase {
	var cases []testCase
	for _, size := range []struct {
		name  string
		bytes int
	}{{"200B", 200}, {"2KB", 2_000}, {"20KB", 20_000}, {"200KB", 200_000}} {
		document, patch := []byte(document(size.bytes)), []byte(`{"seen":1,"by":null,"address":{"zip":"2000"}}`)
		c := mergePatchCase("mergepatch/"+size.name, "a small patch is merged into a document of "+size.name+" in Go", document, patch)
		c.fine = true
		cases = append(cases, c)
	}
	for _, depth := range []int{2, 50, 500, 5000} {
		deep := []byte(strings.Repeat(`{"a":`, depth) + "1" + strings.Repeat("}", depth))
		cases = append(cases, mergePatchCase(fmt.Sprintf("mergepatch/depth/%d", depth),
			fmt.Sprintf("a document %d objects deep is merged with one like it in Go", depth), deep, deep))
	}
	return cases
}

func mergePatchCase(name, asks string, document, patch []byte) testCase {
	c := testCase{name: name, asks: asks + "; wrong are rows of the RFC's table", floor: "floor: json.Compact", by: byRate}
	for _, s := range patchers {
		c.subjects = append(c.subjects, subject{s.name, s.how, func(ctx context.Context, _ *arena, p pace) (*measurement, error) {
			m := repeat(ctx, p, func() error {
				_, err := s.apply(document, patch)
				return err
			})
			m.Extra["allocations"] = allocations(func() { s.apply(document, patch) })
			if !isFloor(s.name) {
				m.Violations = s.wrong()
			}
			return m, nil
		}})
	}
	return c
}

// rfcTable has the test cases of RFC 7396, appendix A: target, patch, result.
var rfcTable = [][3]string{
	{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
	{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
	{`{"a":"b"}`, `{"a":null}`, `{}`},
	{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
	{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
	{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
	{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
	{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
	{`["a","b"]`, `["c","d"]`, `["c","d"]`},
	{`{"a":"b"}`, `["c"]`, `["c"]`},
	{`{"a":"foo"}`, `null`, `null`},
	{`{"a":"foo"}`, `"bar"`, `"bar"`},
	{`{"e":null}`, `{"a":1}`, `{"e":null,"a":1}`},
	{`[1,2]`, `{"a":"b","c":null}`, `{"a":"b"}`},
	{`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
}

// wrong returns the number of rows of the table that the patcher gets wrong.
func (p patcher) wrong() (n int64) {
	for _, r := range rfcTable {
		got, err := p.apply([]byte(r[0]), []byte(r[1]))
		var is, want any
		if err != nil || json.Unmarshal(got, &is) != nil || json.Unmarshal([]byte(r[2]), &want) != nil || !reflect.DeepEqual(is, want) {
			n++
		}
	}
	return n
}
