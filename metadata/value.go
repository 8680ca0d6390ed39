package metadata

import (
	"bytes"
	"cmp"
	"slices"
)

// A value is a JSON value in the form that jsonb gives it: members sorted,
// none twice, and text as PostgreSQL prints it.
type value struct {
	kind    kind
	text    []byte   // of a scalar
	members []member // of an object, sorted by compareKeys; of an array, nameless
}

type kind uint8

const (
	absent kind = iota
	scalar
	array
	object
)

type member struct {
	key   []byte // decoded
	name  []byte // key as it is printed, quotes included
	value value
}

// compareKeys is jsonb's order of keys: the shorter first, then by bytes.
func compareKeys(a, b member) int {
	if c := cmp.Compare(len(a.key), len(b.key)); c != 0 {
		return c
	}
	return bytes.Compare(a.key, b.key)
}

func (v *value) isNull() bool { return v.kind == scalar && v.text[0] == 'n' }

// find returns the member of an object, or nil.
func (v *value) find(key string) *value {
	if v.kind == object {
		if i, ok := slices.BinarySearchFunc(v.members, member{key: []byte(key)}, compareKeys); ok {
			return &v.members[i].value
		}
	}
	return nil
}

// equal reports whether two values print the same.
func (v *value) equal(w *value) bool {
	return v.kind == w.kind && bytes.Equal(v.text, w.text) &&
		slices.EqualFunc(v.members, w.members, func(a, b member) bool {
			return bytes.Equal(a.key, b.key) && a.value.equal(&b.value)
		})
}

// flat reports whether every member of an object is a scalar other than null,
// or an array: as a patch, it sets these members as they are.
func (v *value) flat() bool {
	return !slices.ContainsFunc(v.members, func(m member) bool { return m.value.kind == object || m.value.isNull() })
}

// sets reports whether an object has no null and no array, nor has any object in
// it: as a patch, it removes nothing, and what has been patched contains it.
func (v *value) sets() bool {
	return v.kind == scalar && !v.isNull() || v.kind == object && !slices.ContainsFunc(v.members, func(m member) bool { return !m.value.sets() })
}

// merge applies patch to v as RFC 7396, section 2, defines it, and reports
// whether v is another value now. It does not change patch, nor any object in
// it later on: v takes over scalars and arrays, and copies objects.
func (v *value) merge(patch *value) (changed bool) {
	if patch.kind != object {
		if v.equal(patch) {
			return false
		}
		*v = *patch
		return true
	}
	if v.kind != object {
		*v = value{kind: object}
		changed = true
	}
	var added []member
	removed := false
	for i := range patch.members {
		p := &patch.members[i]
		at, found := slices.BinarySearchFunc(v.members, *p, compareKeys)
		switch {
		case p.value.isNull():
			if found {
				v.members[at].value.kind = absent
				removed = true
			}
		case found:
			changed = v.members[at].value.merge(&p.value) || changed
		default:
			m := member{key: p.key, name: p.name}
			m.value.merge(&p.value)
			added = append(added, m)
		}
	}
	if removed {
		v.members = slices.DeleteFunc(v.members, func(m member) bool { return m.value.kind == absent })
	}
	v.insert(added)
	return changed || removed || added != nil
}

// insert adds members whose keys are new, in one pass from the end, so that
// many cost no more than one.
func (v *value) insert(added []member) {
	at := len(v.members)
	v.members = append(v.members, added...)
	for to := len(v.members) - 1; len(added) > 0; to-- {
		last := added[len(added)-1]
		if at > 0 && compareKeys(v.members[at-1], last) > 0 {
			at--
			v.members[to] = v.members[at]
			continue
		}
		v.members[to] = last
		added = added[:len(added)-1]
	}
}

// append prints v as PostgreSQL prints a jsonb.
func (v *value) append(dst []byte) []byte {
	switch v.kind {
	case object:
		dst = append(dst, '{')
		for i := range v.members {
			if i > 0 {
				dst = append(dst, ", "...)
			}
			dst = append(dst, v.members[i].name...)
			dst = append(dst, ": "...)
			dst = v.members[i].value.append(dst)
		}
		return append(dst, '}')
	case array:
		dst = append(dst, '[')
		for i := range v.members {
			if i > 0 {
				dst = append(dst, ", "...)
			}
			dst = v.members[i].value.append(dst)
		}
		return append(dst, ']')
	}
	return append(dst, v.text...)
}
