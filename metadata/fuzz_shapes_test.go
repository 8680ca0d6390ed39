package metadata_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
)

// A shaper makes an object of a program of two bytes for each step, so that a few of
// them make any shape, and document and patch have up to 64 KiB together.
type shaper struct {
	strings.Builder
	open []byte // brackets that are to be closed
	last bool   // there is something before in the innermost of them
	keys int
}

const maxShape = 30 << 10

func shapeOf(program []byte) json.RawMessage {
	s := &shaper{}
	s.begin('{')
	for ; len(program) >= 2 && s.Len() < maxShape; program = program[2:] {
		what, more := program[0], program[1]
		switch what % 8 {
		case 0:
			if len(s.open) > 1 {
				s.close()
			}
		case 1:
			s.value(what, `{`)
		case 2:
			s.value(what, `[`)
		case 3: // levels
			for range more % 64 {
				s.value(what, [2]string{"{", "["}[more>>6&1])
			}
		case 4, 5: // many of the same
			for n := 1 << (more & 15); n > 0 && s.Len() < maxShape; n-- {
				s.value(what, []string{`1`, `null`, `""`, `{}`, `[]`, `{"x":1}`, `{"x":null}`, `[[],{"b":1,"a":null}]`,
					`0e5`, `1e60`, `"\n\"\u00e9"`, `{"long":{"b":[]},"a":1}`, `{"":{"":{"":{}}}}`, `1.50`, `true`, `"😀"`}[more>>4])
			}
		case 6:
			s.value(what, fmt.Sprintf("-%d.%de%d", more, more, int(more)-99))
		case 7:
			s.value(what, `"`+strings.Repeat([]string{"a", `\u0001`, "é", `\\`}[more&3], int(more)<<(more&7))+`"`)
		}
	}
	for len(s.open) > 0 {
		s.close()
	}
	return json.RawMessage(s.String())
}

// begin opens an object or an array.
func (s *shaper) begin(bracket byte) {
	s.WriteByte(bracket)
	s.open, s.last = append(s.open, bracket+2), false
}

func (s *shaper) close() {
	s.WriteByte(s.open[len(s.open)-1])
	s.open, s.last = s.open[:len(s.open)-1], true
}

// value writes a value, or begins one, under a key that says how it is sorted.
func (s *shaper) value(what byte, value string) {
	if len(value) == 1 && value[0] > '9' && len(s.open) == 60 {
		return
	}
	if s.last {
		s.WriteByte(',')
	}
	if s.open[len(s.open)-1] == '}' {
		s.keys++
		switch what >> 3 & 7 {
		case 0:
			fmt.Fprintf(s, `"%d":`, s.keys)
		case 1:
			fmt.Fprintf(s, `"%d":`, 1_000_000-s.keys)
		case 2:
			fmt.Fprintf(s, `"k%x":`, uint32(s.keys)*0x9e3779b1%(1<<20))
		case 3:
			fmt.Fprintf(s, `"%s%d":`, strings.Repeat("k", 200-s.keys%100), s.keys)
		case 4:
			fmt.Fprintf(s, `"\u00%02x_%x":`, 1+s.keys%127, s.keys)
		case 5:
			fmt.Fprintf(s, `"%s%c%d":`, strings.Repeat(`\\`, s.keys%50), rune(0xc0+s.keys%100), s.keys)
		case 6:
			fmt.Fprintf(s, `"%s%d":`, strings.Repeat(`\n`, 300), s.keys)
		default:
			fmt.Fprintf(s, `"a%d":`, s.keys)
		}
	}
	if value == "{" || value == "[" {
		s.begin(value[0])
		return
	}
	s.WriteString(value)
	s.last = true
}

// FuzzShapes asks what it costs to read, merge and print any shape, and holds the
// result against the RFC.
func FuzzShapes(f *testing.F) {
	for what := byte(0); what < 64; what += 9 { // each kind of value, and of keys
		for _, more := range []byte{0x0f, 0x1f, 0x5d, 0x6d, 0xbc, 0xcc, 0x3e, 0x7b} {
			f.Add([]byte{what&^7 | 4, more}, []byte{what, more})
		}
		f.Add([]byte{3, 59, what&^7 | 4, 0x0f}, []byte{3, 59, what&^7 | 4, 0x1f})
		f.Add([]byte{what&^7 | 3, 58, 0, 0, 4, 5, what&^7 | 3, 40, 4, 0x0e}, []byte{what&^7 | 3, 50, 4, 0x0e})
		f.Add([]byte{2, 0, what&^7 | 1, 0, 4, 0x0f}, []byte{2, 0, what&^7 | 4, 0xbf})
	}
	f.Fuzz(func(t *testing.T, document, patch []byte) {
		costsLittle(t, shapeOf(document), shapeOf(patch))
	})
}

// costsLittle fails a test if a patch costs more than its size and the document's.
func costsLittle(t *testing.T, document, patch json.RawMessage) {
	require.True(t, json.Valid(document) && json.Valid(patch))
	size := len(document) + len(patch)
	var merged json.RawMessage
	quickly(t, size, func() {
		var err error
		merged, err = metadata.MergePatch(document, patch)
		require.NoError(t, err)
	})
	require.Equal(t, reference(decoded(t, document), decoded(t, patch)), decoded(t, merged))
	limit := uint64(64*size + 64<<10)
	assert.LessOrEqual(t, allocates(func() { metadata.MergePatch(document, patch) }), limit)

	store := must(metadata.NewMemory(nil, nil))
	write := func(of func() (metadata.Document, error)) (doc metadata.Document, err error) {
		quickly(t, size, func() { doc, err = of() })
		if err != nil { // which expands to too many bytes
			require.ErrorIs(t, err, metadata.ErrInvalidPatch)
		}
		return doc, err
	}
	if _, err := write(func() (metadata.Document, error) { return store.Replace(t.Context(), "a", document) }); err != nil {
		return
	}
	if doc, err := write(func() (metadata.Document, error) { return store.Merge(t.Context(), "a", patch) }); err == nil {
		require.True(t, json.Valid(doc.Metadata))
		require.LessOrEqual(t, len(doc.Metadata), 4<<20)
		again, err := store.Replace(t.Context(), "b", doc.Metadata[:min(len(doc.Metadata), 1<<20)])
		if len(doc.Metadata) <= 1<<20 {
			require.NoError(t, err)
			require.Equal(t, string(doc.Metadata), string(again.Metadata), "its form is canonical")
		}
	}
}

func TestShapesCostLittle(t *testing.T) {
	for _, s := range shapes {
		document, patch := s.of(30 << 10)
		costsLittle(t, json.RawMessage(document), json.RawMessage(patch))
	}
}
