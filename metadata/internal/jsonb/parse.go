// Package jsonb reads, merges and prints JSON as PostgreSQL's type jsonb does, to the
// byte, without a server. It mirrors
//
//   - what is JSON, and is taken (RFC 8259; PostgreSQL documentation, section 8.14), but
//     for duplicate keys: jsonb keeps the last of them, here they are an error;
//   - how it is printed: keys by length and then by bytes, a space after each comma and
//     colon, no escape that a string can do without (sections 8.14.1 and 8.14.4);
//   - what numeric makes of numbers, and has no digits for (section 8.1.2);
//   - merge patches (RFC 7396, section 2), as the merge function in the database does.
//
// [Parse] makes of a text the one that jsonb prints. [Find] looks for a member of such a
// text, and [Open] makes a [Value] of it, which patches are merged into.
package jsonb

import (
	"math"
	"slices"
	"sync"
)

// A parser reads one JSON text (RFC 8259) strictly, and writes it as jsonb prints it:
// what jsonb would refuse or silently alter is a fault. It makes nothing else of a text,
// so that what waits takes little more memory than it has bytes. Its time is linear in
// the text's length but for the sorting of members.
type parser struct {
	limits Limits
	data   []byte
	pos    int

	out    []byte  // what has been read, but for the order of members
	starts []int32 // in out, of the members of the objects that are being read
	disorder

	arrays int // that are being read
	Measure
}

// Limits are what a text may be.
type Limits struct {
	Depth  int // of containers in one another
	Digits int // how many a number may print; 0: numbers keep their text
	Bytes  int // how many it may print
}

// NoLimits are those that a text needs where none are asked for: lest the goroutine's
// stack runs out, and for offsets of 32 bits.
var NoLimits = Limits{Depth: 100_000, Bytes: math.MaxInt32 - 1<<10}

// A Measure is what a text is as a patch. What is in arrays does not count, as they
// are replaced whole.
type Measure struct {
	Elements int // of arrays, at all levels

	Steps  int  // members that are objects or null: what merges them takes one at a time
	Levels int  // of objects in the outermost
	Flat   bool // no member of the outermost object is an object or null: they are set as they are
	Sets   bool // nothing is null, nor an array: what has been patched contains the patch, which is cheap to find out
}

// Parse reads the whole of data, and prints it as jsonb does, sharing nothing with it.
// The error is an [*Error].
func Parse(data []byte, l Limits) ([]byte, Measure, error) {
	p := parsers.Get().(*parser)
	defer p.free()
	p.data, p.limits, p.Measure = data, l, Measure{Flat: true, Sets: true}
	p.out = slices.Grow(p.out, len(data)+len(data)/2) // each comma and colon takes a space
	err := p.value(0)
	if err == nil {
		if p.space(); p.pos < len(p.data) {
			err = malformed("more than one JSON value")
		}
	}
	if err != nil {
		return nil, Measure{}, err.rooted()
	}
	return p.sorted(p.out), p.Measure, nil
}

// parsers are those that have room for a small text.
var parsers = sync.Pool{New: func() any { return new(parser) }}

func (p *parser) free() {
	if cap(p.out) < 16<<10 {
		*p = parser{out: p.out[:0], starts: p.starts[:0], disorder: disorder{members: p.members[:0], scratch: p.scratch}}
		parsers.Put(p)
	}
}

func (p *parser) space() {
	for p.pos < len(p.data) {
		switch p.data[p.pos] {
		case ' ', '\t', '\n', '\r':
			p.pos++
		default:
			return
		}
	}
}

// take consumes c, if it is next.
func (p *parser) take(c byte) bool {
	if p.pos < len(p.data) && p.data[p.pos] == c {
		p.pos++
		return true
	}
	return false
}

// value reads a value that is in so many others.
func (p *parser) value(depth int) (err *Error) {
	p.space()
	if p.pos == len(p.data) {
		return malformed("unexpected end")
	}
	switch c := p.data[p.pos]; c {
	case '{', '[':
		if depth == p.limits.Depth {
			return fault("deeper than %d levels", p.limits.Depth)
		}
		p.pos++
		p.out = append(p.out, c)
		if c == '{' {
			if p.step(depth) {
				p.Levels = max(p.Levels, depth)
			}
			err = p.object(depth + 1)
		} else {
			p.Sets = false
			p.arrays++
			err = p.array(depth + 1)
			p.arrays--
		}
	case '"':
		err = p.string()
	case 't':
		err = p.literal("true")
	case 'f':
		err = p.literal("false")
	case 'n':
		if p.step(depth) {
			p.Sets = false
		}
		err = p.literal("null")
	default:
		err = p.number()
	}
	if err == nil {
		err = p.checkSize()
	}
	return err
}

func (p *parser) checkSize() *Error {
	if len(p.out) > p.limits.Bytes {
		err := fault("more than %d bytes as PostgreSQL prints it", p.limits.Bytes)
		err.TooLarge = true
		return err
	}
	return nil
}

// step counts an object or null, and reports whether it is what a patch goes into.
func (p *parser) step(depth int) bool {
	if p.arrays > 0 || depth == 0 {
		return false
	}
	p.Steps++
	p.Flat = p.Flat && depth > 1
	return true
}

func (p *parser) literal(word string) *Error {
	end := p.pos + len(word)
	if end > len(p.data) || string(p.data[p.pos:end]) != word {
		return malformed("not JSON at byte %d", p.pos)
	}
	p.out = append(p.out, word...)
	p.pos = end
	return nil
}

// object reads what follows a brace.
func (p *parser) object(depth int) *Error {
	start, first, sorted := int32(len(p.out)-1), len(p.starts), true
	if p.space(); p.take('}') {
		p.out = append(p.out, '}')
		return nil
	}
	last, lastSize := text{}, -1 // the name before, and what that says
	for {
		begin := int32(len(p.out))
		if err := p.key(); err != nil {
			return err
		}
		name := text{begin, int32(len(p.out))}
		if sorted {
			size := saidSize(name.of(p.out))
			order := compareNames(last.of(p.out), lastSize, name.of(p.out), size)
			if order == 0 {
				return fault("duplicate key").within(unquote(name.of(p.out)))
			}
			sorted, last, lastSize = order < 0, name, size
		}
		p.starts = append(p.starts, begin)
		if p.space(); !p.take(':') {
			return malformed("no colon at byte %d", p.pos)
		}
		p.out = append(p.out, ": "...)
		if err := p.value(depth); err != nil {
			return err.within(unquote(name.of(p.out)))
		}
		if p.space(); p.take('}') {
			break
		}
		if !p.take(',') {
			return malformed("no comma or brace at byte %d", p.pos)
		}
		p.out = append(p.out, ", "...)
	}
	p.out = append(p.out, '}')
	starts := p.starts[first:]
	p.starts = p.starts[:first]
	if sorted {
		return nil
	}
	return p.sort(p.out, start, starts)
}

func (p *parser) key() *Error {
	if p.space(); p.pos == len(p.data) || p.data[p.pos] != '"' {
		return malformed("no key at byte %d", p.pos)
	}
	if err := p.string(); err != nil {
		return err
	}
	return p.checkSize()
}

// array reads what follows a bracket.
func (p *parser) array(depth int) *Error {
	if p.space(); p.take(']') {
		p.out = append(p.out, ']')
		return nil
	}
	for i := 0; ; i++ {
		p.Elements++
		if err := p.value(depth); err != nil {
			return err.at(i)
		}
		if p.space(); p.take(']') {
			p.out = append(p.out, ']')
			return nil
		}
		if !p.take(',') {
			return malformed("no comma or bracket at byte %d", p.pos)
		}
		p.out = append(p.out, ", "...)
	}
}
