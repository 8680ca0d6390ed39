package jsonb

import (
	"bytes"
	"cmp"
	"slices"
)

// compareNames is jsonb's order of keys: the shorter first, then by bytes. They are given
// as they are printed, each with the size of what it says, which is measured once.
func compareNames(a []byte, aSize int, b []byte, bSize int) int {
	if aSize != bSize {
		return cmp.Compare(aSize, bSize)
	}
	return compareSaid(a, b)
}

// compareSaid compares what two strings say that are equally long.
func compareSaid(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	if n == len(a) || n == len(b) {
		return 0 // as each byte is printed in one way
	}
	at := 0 // where the character begins in which they differ
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

// A text is where something stands in a longer text.
type text struct{ from, to int32 }

func (t text) of(whole []byte) []byte { return whole[t.from:t.to] }

// A placed is a member that is put in order.
type placed struct {
	text
	name int32 // where its name ends
	size int32 // of what that says
}

func (p placed) printedName(whole []byte) []byte { return whole[p.from:p.name] }

// disorder is the objects of a text whose members are not in jsonb's order. They are
// put in order all together: what is deep would be moved once for each level that it
// is in, if that was done one at a time.
type disorder struct {
	objects []unsorted
	members []placed
	scratch []byte
}

type unsorted struct {
	text
	first, last int32 // of disorder's members, in their order
}

// smallObject is what is put in order at once, as it costs nothing to move it.
const smallObject = 256

// sort sorts an object that out ends with, or notes how that is to be done. It begins at
// start, and its members where starts says.
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
		d.members = append(d.members, placed{text{from, to}, from + int32(len(name)), int32(saidSize(name))})
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

// sorted returns a copy of out with all objects in order.
func (d *disorder) sorted(out []byte) []byte {
	slices.SortFunc(d.objects, func(a, b unsorted) int { return cmp.Compare(a.from, b.from) })
	return d.append(make([]byte, 0, len(out)), out, text{0, int32(len(out))})
}

// append appends a text of out with all objects in order.
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
