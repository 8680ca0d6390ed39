package metadata

import (
	"bytes"
	"cmp"
	"slices"
)

// compareNames is jsonb's order of keys, which are given as they are printed: the
// shorter first, then by bytes.
func compareNames(a, b []byte) int {
	if bytes.IndexByte(a, '\\') < 0 && bytes.IndexByte(b, '\\') < 0 {
		if c := cmp.Compare(len(a), len(b)); c != 0 {
			return c
		}
		return bytes.Compare(a, b)
	}
	order := 0
	for a, b = a[1:len(a)-1], b[1:len(b)-1]; len(a) > 0 && len(b) > 0; {
		c, sizeA := firstByte(a)
		d, sizeB := firstByte(b)
		if order == 0 {
			order = cmp.Compare(c, d)
		}
		a, b = a[sizeA:], b[sizeB:]
	}
	return cmp.Or(cmp.Compare(len(a), len(b)), order)
}

// A text is where something stands in a longer text.
type text struct{ from, to int32 }

func (t text) of(whole []byte) []byte { return whole[t.from:t.to] }

// nameIn is the name of a member, as it is printed.
func (t text) nameIn(whole []byte) []byte {
	c := cursor{t.of(whole)}
	return c.string()
}

// disorder is the objects of a text whose members are not in jsonb's order. They are
// put in order all together: what is deep would be moved once for each level that it
// is in, if that was done one at a time.
type disorder struct {
	objects []unsorted
	members []text
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
func (d *disorder) sort(out []byte, start int32, starts []int32) *PatchError {
	first, end := int32(len(d.members)), int32(len(out))
	d.members = slices.Grow(d.members, len(starts))
	for i, from := range starts {
		to := end - int32(len("}"))
		if i+1 < len(starts) {
			to = starts[i+1] - int32(len(", "))
		}
		d.members = append(d.members, text{from, to})
	}
	members := d.members[first:]
	slices.SortFunc(members, func(a, b text) int { return compareNames(a.nameIn(out), b.nameIn(out)) })
	for i := range members[1:] {
		if name := members[i].nameIn(out); compareNames(name, members[i+1].nameIn(out)) == 0 {
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

func (d *disorder) appendMembers(dst, out []byte, members []text) []byte {
	dst = append(dst, '{')
	for i, m := range members {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = d.append(dst, out, m)
	}
	return append(dst, '}')
}
