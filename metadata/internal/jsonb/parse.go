// Package jsonb parses, merges and prints JSON (RFC 8259) as PostgreSQL's jsonb does
// (PostgreSQL documentation, section 8.14): Parse makes of any text the one that jsonb
// prints, within limits; a Value is opened from that and patched (RFC 7396, section 2).
// It knows no database, and stands below package metadata, which imports it.
package jsonb

import (
	"fmt"
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

// Parse reads the whole of data, and prints it as jsonb does. The result is the caller's, and shares nothing with
// data.
func Parse(data []byte, l Limits) ([]byte, Measure, *Error) {
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

// fault makes the error for the value that is being read. Those who read its
// containers say where that is by within.
func fault(format string, args ...any) *Error {
	return &Error{Reason: fmt.Sprintf(format, args...)}
}

// malformed is fault for what is no JSON at all (RFC 8259).
func malformed(format string, args ...any) *Error {
	return fault(format, args...).of(Malformed)
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
		return fault("more than %d bytes as PostgreSQL prints it", p.limits.Bytes).of(TooLarge)
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
	var last text
	for {
		begin := int32(len(p.out))
		if err := p.key(); err != nil {
			return err
		}
		name := text{begin, int32(len(p.out))}
		if len(p.starts) > first && sorted {
			order := compareNames(last.of(p.out), name.of(p.out))
			if order == 0 {
				return fault("duplicate key").within(unquote(name.of(p.out)))
			}
			sorted = order < 0
		}
		last = name
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
