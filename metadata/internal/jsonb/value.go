package jsonb

import (
	"bytes"
	"slices"
)

// A Value is a JSON value that can be patched. It shares text with its source. The zero Value
// is no value; a patch makes it one.
type Value struct {
	text   []byte  // as jsonb prints it, if it is not an object
	object *object // or nil
}

// An object has its members in jsonb's order. Only an object and its members are opened;
// everything in an array stays text, as a patch replaces it whole.
type object struct{ members []member }

// A member is small: documents have many.
type member struct {
	text     []byte  // as jsonb prints it; without the value, if that is an object
	object   *object // or nil
	name     int32   // size of the printed name, with its quotes
	unquoted int32   // size of the name unquoted
}

func (m *member) printedName() []byte { return m.text[:m.name] }

func compareMembers(a, b member) int {
	return compareNames(a.printedName(), int(a.unquoted), b.printedName(), int(b.unquoted))
}

// Open makes a value of JSON that is as jsonb prints it.
func Open(text []byte) *Value {
	if text[0] != '{' {
		return &Value{text: text}
	}
	o := opener{cursor{text}, make([]member, 0, len(text)/32+4)}
	o.members()
	return &Value{object: &object{o.stack}}
}

// An opener opens objects. The members of those that are being opened are on one stack, so
// that each object then gets a slice of the right size. The outermost object gets the stack.
type opener struct {
	cursor
	stack []member
}

// members pushes the members of the next object.
func (o *opener) members() {
	for more := o.enter(); more; more = o.next() {
		m, kind := o.member()
		if kind == '{' {
			own := len(o.stack)
			o.members()
			m.object = &object{slices.Clone(o.stack[own:])}
			o.stack = o.stack[:own]
		}
		o.stack = append(o.stack, m)
	}
}

// Merge applies a patch, which is as jsonb prints it, to v as RFC 7396, section 2, defines it,
// and reports whether that has changed v. v shares the patch's text.
func (v *Value) Merge(patch []byte) (changed bool) {
	if patch[0] != '{' {
		changed = v.object != nil || !bytes.Equal(v.text, patch)
		*v = Value{text: patch}
		return changed
	}
	if v.object == nil {
		*v = Value{object: &object{}}
		changed = true
	}
	return v.object.merge(&cursor{patch}) || changed
}

// merge applies the next object of a cursor as a patch.
func (o *object) merge(patch *cursor) (changed bool) {
	var added []member
	removed := false
	rest := o.members // members for the rest of the patch
	for more := patch.enter(); more; more = patch.next() {
		m, kind := patch.member()
		at, found := search(rest, m)
		rest = rest[at:]
		switch {
		case kind == 'n':
			if found {
				rest[0] = member{}
				removed = true
			}
		case kind == '{' && found && rest[0].object != nil:
			changed = rest[0].object.merge(patch) || changed
		case kind == '{':
			m.object = &object{}
			m.object.merge(patch)
			fallthrough
		default:
			if !found {
				added = append(added, m)
			} else if m.object != nil || rest[0].object != nil || !bytes.Equal(m.text, rest[0].text) {
				rest[0] = m
				changed = true
			}
		}
		if found {
			rest = rest[1:]
		}
	}
	if removed {
		o.members = slices.DeleteFunc(o.members, func(m member) bool { return m.text == nil })
	}
	o.insert(added)
	return changed || removed || added != nil
}

// search finds a name among members, or where it would be. In a patch as large as its target
// the first member mostly is the one.
func search(members []member, named member) (at int, found bool) {
	if len(members) > 0 && bytes.Equal(members[0].printedName(), named.printedName()) {
		return 0, true
	}
	return slices.BinarySearchFunc(members, named, compareMembers)
}

// insert adds members whose names are new, in one pass from the end, so that many cost no more
// than one.
func (o *object) insert(added []member) {
	if len(o.members) == 0 {
		o.members = added
		return
	}
	at := len(o.members)
	o.members = append(o.members, added...)
	for to := len(o.members) - 1; len(added) > 0; to-- {
		last := added[len(added)-1]
		if at > 0 && compareMembers(o.members[at-1], last) > 0 {
			at--
			o.members[to] = o.members[at]
			continue
		}
		o.members[to] = last
		added = added[:len(added)-1]
	}
}

// Size is how many bytes v prints to.
func (v *Value) Size() int {
	if v.object == nil {
		return len(v.text)
	}
	return v.object.size()
}

func (o *object) size() int {
	size := len("{}") + len(", ")*max(len(o.members)-1, 0)
	for i := range o.members {
		m := &o.members[i]
		size += len(m.text)
		if m.object != nil {
			size += m.object.size()
		}
	}
	return size
}

// Print prints v as jsonb does.
func (v *Value) Print() []byte {
	if v.object == nil {
		return bytes.Clone(v.text)
	}
	return v.object.append(make([]byte, 0, v.object.size()))
}

func (o *object) append(dst []byte) []byte {
	dst = append(dst, '{')
	for i := range o.members {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		m := &o.members[i]
		dst = append(dst, m.text...)
		if m.object != nil {
			dst = m.object.append(dst)
		}
	}
	return append(dst, '}')
}
