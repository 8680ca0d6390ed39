package metadata_test

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"example.com/lockstore/metadata"
)

// A story is one document's: the patches for it, from its creation on, and what becomes
// of it by the rules, without any of the library's code. JSON is nil, bool, number,
// string, []any or map[string]any.
type story []step

type step struct {
	patch   string // as a caller could write it
	plain   string // the same as jsonb prints it
	merged  string // what the patch makes of the document
	refused bool   // as that is too large
	changed bool
	doc     string // what the document is afterwards; empty: there is none
	version int64

	asked, value map[string]any // patch and doc
}

// A number is how jsonb prints it.
type number string

const (
	storySteps    = 10
	storyMaxBytes = 20_000
)

var (
	storyKeys    = []string{"a", "b", "c", "aa", "é", "", `"k`, "k\n", "long key"}
	storyNumbers = []number{"0", "0.0", "0.00", "1", "1.0", "1.00", "-1", "10", "10.0", "100", "-2.50", "0.015", "12345678901234567890", "9007199254740993.10"}
	storyStrings = []string{"", "x", "é", `"\`, "\n\t\u0001\u007f", "😀 and more", "/"}
)

func newStory(r *rand.Rand) (s story) {
	for range storySteps {
		patch := randomPatch(r, s.last().value, 0)
		s = s.then(patch, written(r, patch))
	}
	return s
}

// last is where a story stands.
func (s story) last() step {
	if len(s) == 0 {
		return step{value: map[string]any{}}
	}
	return s[len(s)-1]
}

// then is a story and one more patch.
func (s story) then(asked map[string]any, patch string) story {
	before := s.last()
	next := step{patch: patch, plain: printed(asked), doc: before.doc, version: before.version, asked: asked, value: before.value}
	merged := mergedInto(before.value, asked)
	next.merged = printed(merged)
	next.refused = len(next.merged) > storyMaxBytes && len(next.merged) > max(len(before.doc), len("{}"))
	next.changed = !next.refused && next.merged != before.doc
	if next.changed {
		next.doc, next.value = next.merged, merged.(map[string]any)
		next.version++
	}
	return append(s, next)
}

// atOnce is a story whose patches were sent without waiting for the answers, in an order
// in which these are true, and the answers in that order. What is true without a change
// comes before a change. Where no answer is true, the first comes next.
func (s story) atOnce(answers []metadata.Result) (merged story, inOrder []metadata.Result) {
	var before metadata.Result
	for len(s) > 0 {
		next, found := 0, false
		for i, step := range s {
			tried := merged.then(step.asked, step.patch).last()
			if fits := tried.difference(before, answers[i]) == ""; fits && (!found || !tried.changed) {
				next, found = i, true
			}
		}
		merged, inOrder = merged.then(s[next].asked, s[next].patch), append(inOrder, answers[next])
		if answers[next].Err == nil {
			before = answers[next]
		}
		s, answers = slices.Concat(s[:next], s[next+1:]), slices.Concat(answers[:next], answers[next+1:])
	}
	return merged, inOrder
}

func (s story) String() string {
	var b strings.Builder
	for i, n := range s {
		fmt.Fprintf(&b, "%2d. %.500s\n    version %d, refused %t: %.500s\n", i, n.patch, n.version, n.refused, n.doc)
	}
	return b.String()
}

// mergedInto is RFC 7396, section 2, to the letter.
func mergedInto(target, patch any) any {
	members, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	merged := map[string]any{}
	if old, ok := target.(map[string]any); ok {
		maps.Copy(merged, old)
	}
	for key, value := range members {
		if value == nil {
			delete(merged, key)
		} else {
			merged[key] = mergedInto(merged[key], value)
		}
	}
	return merged
}

func pick[T any](r *rand.Rand, of []T) T { return of[r.IntN(len(of))] }

// randomPatch is for a document, of which it may say parts again.
func randomPatch(r *rand.Rand, doc map[string]any, depth int) map[string]any {
	patch := map[string]any{}
	for range r.IntN(5) {
		key := pick(r, storyKeys)
		old, found := doc[key]
		inner, isObject := old.(map[string]any)
		n, isNumber := old.(number)
		switch die := r.IntN(10); {
		case die < 2:
			patch[key] = nil
		case die < 4 && found:
			patch[key] = old
		case die < 6 && isNumber && !strings.Contains(string(n), ".") && len(n) < 10:
			patch[key] = n + ".0"
		case die < 9 && isObject:
			patch[key] = randomPatch(r, inner, depth+1)
		case depth == 0 && r.IntN(60) == 0:
			patch[key] = strings.Repeat("y", 4000+r.IntN(14_000))
		default:
			patch[key] = randomValue(r, depth)
		}
	}
	return patch
}

func randomValue(r *rand.Rand, depth int) any {
	switch die := r.IntN(12); {
	case die < 2 && depth < 3:
		object := map[string]any{}
		for range r.IntN(4) {
			object[pick(r, storyKeys)] = randomValue(r, depth+1)
		}
		return object
	case die < 4 && depth < 3:
		array := []any{}
		for range r.IntN(4) {
			array = append(array, randomValue(r, depth+1))
		}
		return array
	case die < 8:
		return pick(r, storyNumbers)
	case die == 8:
		return r.IntN(2) == 0
	case die == 9:
		return nil
	}
	return pick(r, storyStrings)
}

// printed is how jsonb prints a value.
func printed(v any) string {
	return text(v, ", ", ": ", slices.SortFunc, func(n number) string { return string(n) }, func(s string) string {
		var b strings.Builder
		for _, c := range []byte(s) {
			if at := strings.IndexByte("\b\f\n\r\t\"\\", c); at >= 0 {
				b.WriteString(`\` + `bfnrt"\`[at:at+1])
			} else if c < ' ' {
				fmt.Fprintf(&b, `\u%04x`, c)
			} else {
				b.WriteByte(c)
			}
		}
		return `"` + b.String() + `"`
	})
}

// written is one of the ways in which a value can be written.
func written(r *rand.Rand, v any) string {
	shuffle := func(keys []string, _ func(a, b string) int) {
		slices.Sort(keys) // lest a map's order decides
		r.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	}
	return text(v, pick(r, []string{",", " ,\n", ", "}), pick(r, []string{":", "\t: "}), shuffle, func(n number) string {
		sign, digits := "", string(n)
		if digits[0] == '-' {
			sign, digits = "-", digits[1:]
		} else if strings.Trim(digits, "0.") == "" && r.IntN(3) == 0 {
			sign = "-"
		}
		whole, fraction, _ := strings.Cut(digits, ".")
		shift := r.IntN(len(fraction)+3) - len(fraction)
		if r.IntN(2) == 0 || shift == 0 {
			return sign + digits
		}
		digits, scale := strings.TrimLeft(whole+fraction, "0"), len(fraction)+shift
		digits = strings.Repeat("0", max(scale+1-len(digits), 0)) + digits
		mantissa := digits[:len(digits)-scale]
		if scale > 0 {
			mantissa += "." + digits[len(digits)-scale:]
		}
		return fmt.Sprintf("%s%s%s%d", sign, mantissa, pick(r, []string{"e", "E"}), shift)
	}, func(s string) string {
		var b strings.Builder
		for _, c := range s {
			switch escape := r.IntN(4) == 0 && len(s) < 100; {
			case c >= 0x10000 && escape:
				high, low := utf16.EncodeRune(c)
				fmt.Fprintf(&b, `\u%04X\u%04x`, high, low)
			case c < ' ', c == '"', c == '\\', escape && c < 0x10000:
				fmt.Fprintf(&b, `\u%04x`, c)
			default:
				b.Write(utf8.AppendRune(nil, c))
			}
		}
		return `"` + b.String() + `"`
	})
}

// text writes a value, with what separates members, and keys from values.
func text(v any, comma, colon string, order func([]string, func(a, b string) int), ofNumber func(number) string, ofString func(string) string) string {
	of := func(v any) string { return text(v, comma, colon, order, ofNumber, ofString) }
	switch v := v.(type) {
	case map[string]any:
		keys := slices.Collect(maps.Keys(v))
		order(keys, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
		parts := make([]string, len(keys))
		for i, key := range keys {
			parts[i] = ofString(key) + colon + of(v[key])
		}
		return "{" + strings.Join(parts, comma) + "}"
	case []any:
		parts := make([]string, len(v))
		for i, element := range v {
			parts[i] = of(element)
		}
		return "[" + strings.Join(parts, comma) + "]"
	case number:
		return ofNumber(v)
	case string:
		return ofString(v)
	case nil:
		return "null"
	}
	return fmt.Sprint(v)
}

// difference says in what an answer is not what the rules say of a step, or nothing.
// before is the answer to the step before it.
func (s step) difference(before, answer metadata.Result) string {
	doc, err := answer.Document, answer.Err
	switch {
	case s.refused && err == nil:
		return fmt.Sprintf("is not refused, though it has %d bytes", len(doc.Metadata))
	case s.refused:
		if size, ok := err.(interface{ Unwrap() error }).Unwrap().(*metadata.DocumentSizeError); !ok || size.Size != len(s.merged) {
			return fmt.Sprintf("is refused by %v; it would have %d bytes", err, len(s.merged))
		}
	case err != nil:
		return err.Error()
	case string(doc.Metadata) != s.doc:
		return fmt.Sprintf("becomes %.500s", doc.Metadata)
	case doc.Version != s.version:
		return fmt.Sprintf("has version %d", doc.Version)
	case !s.changed && before.Err == nil && before.Document.Version > 0 && !before.Document.UpdatedAt.Equal(doc.UpdatedAt):
		return "is of another time, though nothing has changed"
	}
	return ""
}
