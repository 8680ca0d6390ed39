package jsonb

import (
	"bytes"
	"cmp"
	"slices"
)

// compareNames compares names in jsonb's order: the shorter first, then by bytes. Names are
// given as printed, each with the size of its unquoted form, which is measured once.
func compareNames(a []byte, aSize int, b []byte, bSize int) int {
	if aSize != bSize {
		return cmp.Compare(aSize, bSize)
	}
	return compareUnquoted(a, b)
}

// compareUnquoted compares two printed strings whose unquoted forms are equally long.
func compareUnquoted(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	if n == len(a) || n == len(b) {
		return 0 // each byte is printed in one way
	}
	at := 0 // where the character in which they differ begins
	for at < n {
		escape := bytes.IndexByte(a[at:n], '\\')
		if escape < 0 {
			at = n
			break
		}
		_, size := firstByte(a[at+escape:])
		if at+escape+size > n {
			at += escape
			break
		}
		at += escape + size
	}
	c, _ := firstByte(a[at:])
	d, _ := firstByte(b[at:])
	return cmp.Compare(c, d)
}

// A text is a part of a longer text.
type text struct{ from, to int32 }

func (t text) of(whole []byte) []byte { return whole[t.from:t.to] }

// A placed is a member that is being sorted.
type placed struct {
	text
	name int32 // the end of its name
	size int32 // of its name, unquoted
}

func (p placed) printedName(whole []byte) []byte { return whole[p.from:p.name] }

// A disorder is the objects of a text whose members are not in jsonb's order. They are sorted
// all together at the end: sorting one at a time would move deep members once for each level
// that they are in.
type disorder struct {
	objects []unsorted
	members []placed
	scratch []byte
}

type unsorted struct {
	text
	first, last int32 // of disorder's members, in their order
}

// smallObject is the size of an object that is sorted at once, as moving it costs next to
// nothing.
const smallObject = 256

// sort sorts the object at the end of out, or notes how it is to be sorted. The object begins
// at start, and its members begin at starts.
func (d *disorder) sort(out []byte, start int32, starts []int32) *Error {
	first, end := int32(len(d.members)), int32(len(out))
	if room := cap(d.members) - len(d.members); room < len(starts) {
		d.members = slices.Grow(d.members, max(len(starts), len(d.members)))
	}
	for i, from := range starts {
		to := end - int32(len("}"))
		if i+1 < len(starts) {
			to = starts[i+1] - int32(len(", "))
		}
		c := cursor{out[from:to]}
		name := c.string()
		d.members = append(d.members, placed{text{from, to}, from + int32(len(name)), int32(unquotedSize(name))})
	}
	members := d.members[first:]
	slices.SortFunc(members, func(a, b placed) int {
		return compareNames(a.printedName(out), int(a.size), b.printedName(out), int(b.size))
	})
	for i := range members[1:] {
		if name := members[i].printedName(out); bytes.Equal(name, members[i+1].printedName(out)) {
			return fault("duplicate key").within(unquote(name))
		}
	}
	if end-start <= smallObject {
		d.scratch = d.appendMembers(d.scratch[:0], out, members)
		copy(out[start:], d.scratch)
		d.members = d.members[:first]
		return nil
	}
	d.objects = append(d.objects, unsorted{text{start, end}, first, int32(len(d.members))})
	return nil
}

// sorted returns a copy of out with all objects sorted.
func (d *disorder) sorted(out []byte) []byte {
	slices.SortFunc(d.objects, func(a, b unsorted) int { return cmp.Compare(a.from, b.from) })
	return d.append(make([]byte, 0, len(out)), out, text{0, int32(len(out))})
}

// append appends a part of out with all objects sorted.
func (d *disorder) append(dst, out []byte, t text) []byte {
	for {
		next, _ := slices.BinarySearchFunc(d.objects, t.from, func(o unsorted, from int32) int { return cmp.Compare(o.from, from) })
		if next == len(d.objects) || d.objects[next].from >= t.to {
			return append(dst, t.of(out)...)
		}
		o := &d.objects[next]
		dst = append(dst, out[t.from:o.from]...)
		dst = d.appendMembers(dst, out, d.members[o.first:o.last])
		t.from = o.to
	}
}

func (d *disorder) appendMembers(dst, out []byte, members []placed) []byte {
	dst = append(dst, '{')
	for i, m := range members {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = d.append(dst, out, m.text)
	}
	return append(dst, '}')
}
