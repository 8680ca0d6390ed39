package jsonbtest

import (
	"fmt"
	"strconv"
	"strings"
)

// A Shape is a kind of document, and a patch for it, both of about so many bytes and
// within the default options of package metadata. What merging them costs should be a
// matter of their sizes alone.
type Shape struct {
	Name string
	Of   func(bytes int) (document, patch string)
}

// Shapes are all kinds that have been found to be costly somewhere.
var Shapes = []Shape{
	{"wide", func(n int) (string, string) { return Members(n, "k", "1"), Members(n, "k", "2") }},
	{"wide, equal", same(func(n int) string { return Members(n, "k", "1") })},
	{"wide, added between", func(n int) (string, string) { return Members(n, "b", "1"), Members(n, "a", "1") }},
	{"wide, long keys", func(n int) (string, string) {
		key := strings.Repeat("k", 200)
		return Members(n, key, "1"), Members(n, key, "2")
	}},
	{"escaped keys, others", func(n int) (string, string) {
		return Members(n, strings.Repeat(`\n`, 400), "1"), Members(n, "k", "null")
	}},
	{"one long key", func(n int) (string, string) {
		return `{"` + strings.Repeat(`\t`, (n-8)/2) + `":1}`, Members(n, "k", "1")
	}},
	{"strings", func(n int) (string, string) { return Members(n, "k", `"some text"`), Members(n, "k", `"other text"`) }},
	{"one string", func(n int) (string, string) { return One(n, "a"), One(n, "b") }},
	{"escapes", func(n int) (string, string) {
		return Members(n, `\u00e9`, `"\n\t\u0001\""`), Members(n, `\u00e9`, `"\n\u00e8\u0002\\"`)
	}},
	{"numbers", func(n int) (string, string) { return Members(n, "k", "-1.50e10"), Members(n, "k", "12.5e-3") }},
	{"nulls", func(n int) (string, string) { return Members(n, "k", "1"), Members(n, "k", "null") }},
	{"nulls of nothing", func(n int) (string, string) { return Members(n, "k", "1"), Members(n, "l", "null") }},
	{"nulls, nested", func(n int) (string, string) { return Members(n, "k", `{"x":1}`), Members(n, "k", `{"x":null}`) }},
	{"nested", func(n int) (string, string) { return Members(n, "k", `{"x":1}`), Members(n, "k", `{"y":1}`) }},
	{"nested, equal", same(func(n int) string { return Members(n, "k", `{"x":1}`) })},
	{"nested, new", func(n int) (string, string) { return `{}`, Members(n, "k", `{"x":{"y":null}}`) }},
	{"objects for scalars", func(n int) (string, string) { return Members(n, "k", `1`), Members(n, "k", `{"x":1}`) }},
	{"scalars for objects", func(n int) (string, string) { return Members(n, "k", `{"x":1}`), Members(n, "k", `1`) }},
	{"empty objects", func(n int) (string, string) { return Members(n, "k", `{}`), Members(n, "k", `{}`) }},
	{"deep", func(n int) (string, string) {
		return Members(n, "k", Within(60, `{"x":1}`)), Members(n, "k", Within(60, `{"x":2}`))
	}},
	{"deep, one", func(n int) (string, string) {
		return Within(60, Members(n-400, "k", "1")), Within(60, Members(n-400, "k", "2"))
	}},
	{"deep, wide everywhere", func(n int) (string, string) { return terraces(60, n, "1"), terraces(60, n, "2") }},
	{"deep, nulls everywhere", func(n int) (string, string) { return terraces(60, n, "1"), terraces(60, n, "null") }},
	{"array of numbers", func(n int) (string, string) { return Array(n, "1"), Array(n, "2") }},
	{"array of numbers, equal", same(func(n int) string { return Array(n, "1") })},
	{"array of numbers, its last", func(n int) (string, string) { return Array(n, "1"), Array(n-2, "1")[:n-5] + ",2]}" }},
	{"array of zeros", func(n int) (string, string) { return `{}`, Array(n, "0") }},
	{"array of strings", func(n int) (string, string) { return Array(n, `"a"`), Array(n, `"b"`) }},
	{"array of empty objects", func(n int) (string, string) { return Array(n, `{}`), Array(n, `{}`) }},
	{"array of objects", func(n int) (string, string) { return Array(n, `{"b":1,"a":2}`), Array(n, `{"b":2,"a":1}`) }},
	{"array of arrays", func(n int) (string, string) { return Array(n, `[]`), Array(n, `[[],[]]`) }},
	{"array of nulls", func(n int) (string, string) { return Array(n, `null`), Array(n, `{"a":null}`) }},
	{"array, deep", func(n int) (string, string) {
		return Array(n, strings.Repeat("[", 60)+"1"+strings.Repeat("]", 60)), Array(n, strings.Repeat("[", 60)+"2"+strings.Repeat("]", 60))
	}},
	{"arrays", func(n int) (string, string) { return Members(n, "k", `[1]`), Members(n, "k", `[2]`) }},
	{"object in an array", func(n int) (string, string) {
		return `{"a":[` + Members(n-10, "k", "1") + `]}`, `{"a":[` + Members(n-10, "k", "2") + `]}`
	}},
	{"short keys, backwards", func(n int) (string, string) { return backwards(n, "1"), backwards(n, "2") }},
	{"disorder", func(n int) (string, string) {
		return Members(n, "k", `{"bb":1,"a":1}`), Members(n, "k", `{"bb":2,"a":2}`)
	}},
	{"disorder, deep", func(n int) (string, string) { return disorder(60, n, "1"), disorder(60, n, "2") }},
	{"disorder in an array", func(n int) (string, string) {
		return Array(n, disorder(60, 1000, "1")), Array(n, disorder(60, 1000, "2"))
	}},
	{"disorder, escaped keys", func(n int) (string, string) { return shuffled(n, `\\`, "1"), shuffled(n, `\\`, "2") }},
	{"disorder, short keys", func(n int) (string, string) { return shuffled(n, "", "1"), shuffled(n, "", "2") }},
	{"small patch", func(n int) (string, string) { return Members(n, "k", `{"x":1}`), `{"k000001":{"x":2},"n":1}` }},
	{"small patch, deep", func(n int) (string, string) { return terraces(60, n, "1"), Within(60, `{"x":1}`) }},
	{"small document", func(n int) (string, string) { return `{"a":1}`, Members(n, "k", `{"x":1}`) }},
}

// same has a patch that is the document.
func same(of func(n int) string) func(n int) (document, patch string) {
	return func(n int) (string, string) { return of(n), of(n) }
}

// Members are an object of about n bytes whose keys begin with prefix.
func Members(n int, prefix, value string) string {
	count := max(1, n/len(fmt.Sprintf(`"%s%06d":%s,`, prefix, 0, value)))
	var b strings.Builder
	for i := range count {
		fmt.Fprintf(&b, `,"%s%06d":%s`, prefix, i, value)
	}
	return "{" + b.String()[1:] + "}"
}

// One is an object of n bytes with one string in it.
func One(n int, letter string) string { return `{"a":"` + strings.Repeat(letter, n-8) + `"}` }

// Array is an object of about n bytes with one array in it.
func Array(n int, element string) string {
	return `{"a":[` + strings.Repeat(element+",", (n-8)/(len(element)+1)-1) + element + `]}`
}

// Within has value in so many objects, each in the next.
func Within(levels int, value string) string {
	return strings.Repeat(`{"a":`, levels) + value + strings.Repeat("}", levels)
}

// terraces are so many objects, each in the next, that have n bytes together.
func terraces(levels, n int, value string) string {
	level := Members(n/levels-8, "k", value)
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
	level := Members(n/levels-14, "k", value)
	level = "," + level[1:]
	return strings.Repeat(`{"long key":`, levels) + value + strings.Repeat(level, levels)
}
