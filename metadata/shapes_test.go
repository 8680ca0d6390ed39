package metadata_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
)

// A shape is a kind of document, and a patch for it, both of about so many bytes and
// within the default [metadata.Options]. What merging them costs should be a matter of
// their sizes alone.
type shape struct {
	name string
	of   func(bytes int) (document, patch string)
}

var shapes = []shape{
	{"wide", func(n int) (string, string) { return members(n, "k", "1"), members(n, "k", "2") }},
	{"wide, equal", same(func(n int) string { return members(n, "k", "1") })},
	{"wide, added between", func(n int) (string, string) { return members(n, "b", "1"), members(n, "a", "1") }},
	{"wide, long keys", func(n int) (string, string) {
		key := strings.Repeat("k", 200)
		return members(n, key, "1"), members(n, key, "2")
	}},
	{"escaped keys, others", func(n int) (string, string) {
		return members(n, strings.Repeat(`\n`, 400), "1"), members(n, "k", "null")
	}},
	{"one long key", func(n int) (string, string) {
		return `{"` + strings.Repeat(`\t`, (n-8)/2) + `":1}`, members(n, "k", "1")
	}},
	{"strings", func(n int) (string, string) { return members(n, "k", `"some text"`), members(n, "k", `"other text"`) }},
	{"one string", func(n int) (string, string) { return one(n, "a"), one(n, "b") }},
	{"escapes", func(n int) (string, string) {
		return members(n, `\u00e9`, `"\n\t\u0001\""`), members(n, `\u00e9`, `"\n\u00e8\u0002\\"`)
	}},
	{"numbers", func(n int) (string, string) { return members(n, "k", "-1.50e10"), members(n, "k", "12.5e-3") }},
	{"nulls", func(n int) (string, string) { return members(n, "k", "1"), members(n, "k", "null") }},
	{"nulls of nothing", func(n int) (string, string) { return members(n, "k", "1"), members(n, "l", "null") }},
	{"nulls, nested", func(n int) (string, string) { return members(n, "k", `{"x":1}`), members(n, "k", `{"x":null}`) }},
	{"nested", func(n int) (string, string) { return members(n, "k", `{"x":1}`), members(n, "k", `{"y":1}`) }},
	{"nested, equal", same(func(n int) string { return members(n, "k", `{"x":1}`) })},
	{"nested, new", func(n int) (string, string) { return `{}`, members(n, "k", `{"x":{"y":null}}`) }},
	{"objects for scalars", func(n int) (string, string) { return members(n, "k", `1`), members(n, "k", `{"x":1}`) }},
	{"scalars for objects", func(n int) (string, string) { return members(n, "k", `{"x":1}`), members(n, "k", `1`) }},
	{"empty objects", func(n int) (string, string) { return members(n, "k", `{}`), members(n, "k", `{}`) }},
	{"deep", func(n int) (string, string) {
		return members(n, "k", within(60, `{"x":1}`)), members(n, "k", within(60, `{"x":2}`))
	}},
	{"deep, one", func(n int) (string, string) {
		return within(60, members(n-400, "k", "1")), within(60, members(n-400, "k", "2"))
	}},
	{"deep, wide everywhere", func(n int) (string, string) { return terraces(60, n, "1"), terraces(60, n, "2") }},
	{"deep, nulls everywhere", func(n int) (string, string) { return terraces(60, n, "1"), terraces(60, n, "null") }},
	{"array of numbers", func(n int) (string, string) { return array(n, "1"), array(n, "2") }},
	{"array of numbers, equal", same(func(n int) string { return array(n, "1") })},
	{"array of numbers, its last", func(n int) (string, string) { return array(n, "1"), array(n-2, "1")[:n-5] + ",2]}" }},
	{"array of zeros", func(n int) (string, string) { return `{}`, array(n, "0") }},
	{"array of strings", func(n int) (string, string) { return array(n, `"a"`), array(n, `"b"`) }},
	{"array of empty objects", func(n int) (string, string) { return array(n, `{}`), array(n, `{}`) }},
	{"array of objects", func(n int) (string, string) { return array(n, `{"b":1,"a":2}`), array(n, `{"b":2,"a":1}`) }},
	{"array of arrays", func(n int) (string, string) { return array(n, `[]`), array(n, `[[],[]]`) }},
	{"array of nulls", func(n int) (string, string) { return array(n, `null`), array(n, `{"a":null}`) }},
	{"array, deep", func(n int) (string, string) {
		return array(n, strings.Repeat("[", 60)+"1"+strings.Repeat("]", 60)), array(n, strings.Repeat("[", 60)+"2"+strings.Repeat("]", 60))
	}},
	{"arrays", func(n int) (string, string) { return members(n, "k", `[1]`), members(n, "k", `[2]`) }},
	{"object in an array", func(n int) (string, string) {
		return `{"a":[` + members(n-10, "k", "1") + `]}`, `{"a":[` + members(n-10, "k", "2") + `]}`
	}},
	{"short keys, backwards", func(n int) (string, string) { return backwards(n, "1"), backwards(n, "2") }},
	{"disorder", func(n int) (string, string) {
		return members(n, "k", `{"bb":1,"a":1}`), members(n, "k", `{"bb":2,"a":2}`)
	}},
	{"disorder, deep", func(n int) (string, string) { return disorder(60, n, "1"), disorder(60, n, "2") }},
	{"disorder in an array", func(n int) (string, string) {
		return array(n, disorder(60, 1000, "1")), array(n, disorder(60, 1000, "2"))
	}},
	{"disorder, escaped keys", func(n int) (string, string) { return shuffled(n, `\\`, "1"), shuffled(n, `\\`, "2") }},
	{"disorder, short keys", func(n int) (string, string) { return shuffled(n, "", "1"), shuffled(n, "", "2") }},
	{"small patch", func(n int) (string, string) { return members(n, "k", `{"x":1}`), `{"k000001":{"x":2},"n":1}` }},
	{"small patch, deep", func(n int) (string, string) { return terraces(60, n, "1"), within(60, `{"x":1}`) }},
	{"small document", func(n int) (string, string) { return `{"a":1}`, members(n, "k", `{"x":1}`) }},
}

// same has a patch that is the document.
func same(of func(n int) string) func(n int) (document, patch string) {
	return func(n int) (string, string) { return of(n), of(n) }
}

// members are an object of about n bytes whose keys begin with prefix.
func members(n int, prefix, value string) string {
	count := max(1, n/len(fmt.Sprintf(`"%s%06d":%s,`, prefix, 0, value)))
	var b strings.Builder
	for i := range count {
		fmt.Fprintf(&b, `,"%s%06d":%s`, prefix, i, value)
	}
	return "{" + b.String()[1:] + "}"
}

// one is an object of n bytes with one string in it.
func one(n int, letter string) string { return `{"a":"` + strings.Repeat(letter, n-8) + `"}` }

// array is an object of about n bytes with one array in it.
func array(n int, element string) string {
	return `{"a":[` + strings.Repeat(element+",", (n-8)/(len(element)+1)-1) + element + `]}`
}

// within has value in so many objects, each in the next.
func within(levels int, value string) string {
	return strings.Repeat(`{"a":`, levels) + value + strings.Repeat("}", levels)
}

// terraces are so many objects, each in the next, that have n bytes together.
func terraces(levels, n int, value string) string {
	level := members(n/levels-8, "k", value)
	level = level[:len(level)-1] + `,"a":`
	return strings.Repeat(level, levels) + "{}" + strings.Repeat("}", levels)
}

// backwards is an object of about n bytes whose keys are as short as can be, the last
// in jsonb's order first.
func backwards(n int, value string) string {
	count := 0
	for size := 2; size < n-12; count++ {
		size += len(fmt.Sprintf(`"%s":%s,`, strconv.FormatInt(int64(count), 36), value))
	}
	var b strings.Builder
	for i := count - 1; i >= 0; i-- {
		fmt.Fprintf(&b, `,"%s":%s`, strconv.FormatInt(int64(i), 36), value)
	}
	return "{" + b.String()[1:] + "}"
}

// shuffled is an object of about n bytes whose keys are in no order.
func shuffled(n int, prefix, value string) string {
	var b strings.Builder
	for i := 0; b.Len() < n-len(prefix)-len(value)-20; i++ {
		fmt.Fprintf(&b, `,"%s%x":%s`, prefix, i*7919%(1<<18), value)
	}
	return "{" + b.String()[1:] + "}"
}

// disorder is so many objects, each in the next, of n bytes together, in which what is
// to be the last comes first.
func disorder(levels, n int, value string) string {
	level := members(n/levels-14, "k", value)
	level = "," + level[1:]
	return strings.Repeat(`{"long key":`, levels) + value + strings.Repeat(level, levels)
}

func TestShapesAreOfTheirSize(t *testing.T) {
	for _, s := range shapes {
		for _, n := range []int{2 << 10, 64 << 10} {
			document, patch := s.of(n)
			require.LessOrEqual(t, len(document), n, s.name)
			require.LessOrEqual(t, len(patch), n, s.name)
			require.Greater(t, max(len(document), len(patch)), n/2, s.name)
			memory, err := metadata.NewMemory(nil, nil)
			require.NoError(t, err)
			for _, text := range []string{document, patch} {
				_, err = memory.Merge(t.Context(), "a", json.RawMessage(text))
				require.NoError(t, err, s.name)
			}
		}
	}
}

// BenchmarkShapes merges every shape at several sizes. A cost for each byte that grows
// with the size is one that somebody can run up.
func BenchmarkShapes(b *testing.B) {
	for _, s := range shapes {
		for _, n := range []int{16 << 10, 64 << 10, 256 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("%s/%dKiB", s.name, n>>10), func(b *testing.B) {
				document, patch := s.of(n)
				b.SetBytes(int64(len(document) + len(patch)))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := metadata.MergePatch(json.RawMessage(document), json.RawMessage(patch)); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*(len(document)+len(patch))), "ns/byte")
			})
		}
	}
}
