package jsonb_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata/internal/jsonb"
	"example.com/lockstore/metadata/internal/jsonb/jsonbtest"
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

func shapeOf(program []byte) []byte {
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
	return []byte(s.String())
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
func costsLittle(t *testing.T, document, patch []byte) {
	require.True(t, json.Valid(document) && json.Valid(patch))
	size := len(document) + len(patch)
	var got []byte
	var err error
	jsonbtest.Quickly(t, size, func() { got, err = merge(document, patch, jsonb.NoLimits) })
	require.NoError(t, err)
	require.Equal(t, reference(decoded(t, document), decoded(t, patch)), decoded(t, got))
	limit := uint64(64*size + 64<<10)
	assert.LessOrEqual(t, jsonbtest.Allocates(func() { merge(document, patch, jsonb.NoLimits) }), limit)

	jsonbtest.Quickly(t, size, func() { got, err = merge(document, patch, stored) })
	if err != nil { // which expands to too many bytes
		return
	}
	require.LessOrEqual(t, len(got), 2*stored.Bytes)
	again, _, err := jsonb.Parse(got, jsonb.Limits{Depth: stored.Depth, Digits: stored.Digits, Bytes: len(got)})
	require.NoError(t, err)
	require.Equal(t, string(got), string(again), "its form is canonical")
}

func TestShapesCostLittle(t *testing.T) {
	for _, s := range jsonbtest.Shapes {
		document, patch := s.Of(30 << 10)
		costsLittle(t, []byte(document), []byte(patch))
	}
}

func TestShapesAreOfTheirSize(t *testing.T) {
	for _, s := range jsonbtest.Shapes {
		for _, n := range []int{2 << 10, 64 << 10} {
			document, patch := s.Of(n)
			require.LessOrEqual(t, len(document), n, s.Name)
			require.LessOrEqual(t, len(patch), n, s.Name)
			require.Greater(t, max(len(document), len(patch)), n/2, s.Name)
			_, err := merge([]byte(document), []byte(patch), stored)
			require.NoError(t, err, s.Name)
		}
	}
}

// Reading a text takes few bytes for each of its own, and merging two not many more.
func TestPatchesTakeLittleMemory(t *testing.T) {
	if jsonbtest.Slowdown > 1 {
		t.Skip("the race detector has pools forget what they have")
	}
	for _, s := range jsonbtest.Shapes {
		of, by := s.Of(256 << 10)
		document, patch := []byte(of), []byte(by)
		read := jsonbtest.Allocates(func() {
			_, _, err := jsonb.Parse(patch, stored)
			require.NoError(t, err, s.Name)
		})
		assert.LessOrEqual(t, read, uint64(10*len(patch)+1000), s.Name)
		all := jsonbtest.Allocates(func() {
			_, err := merge(document, patch, jsonb.NoLimits)
			require.NoError(t, err, s.Name)
		})
		assert.LessOrEqual(t, all, uint64(32*(len(document)+len(patch))), s.Name)
		t.Logf("%-28s reading %.1f, merging %.1f", s.Name, float64(read)/float64(len(patch)), float64(all)/float64(len(document)+len(patch)))
	}
}

// BenchmarkShapes merges every shape at several sizes. A cost for each byte that grows
// with the size is one that somebody can run up.
func BenchmarkShapes(b *testing.B) {
	for _, s := range jsonbtest.Shapes {
		for _, n := range []int{16 << 10, 64 << 10, 256 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("%s/%dKiB", s.Name, n>>10), func(b *testing.B) {
				document, patch := s.Of(n)
				b.SetBytes(int64(len(document) + len(patch)))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := merge([]byte(document), []byte(patch), jsonb.NoLimits); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*(len(document)+len(patch))), "ns/byte")
			})
		}
	}
}
