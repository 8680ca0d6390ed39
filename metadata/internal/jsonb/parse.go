// Package jsonb reads, merges and prints JSON as PostgreSQL's type jsonb does, to the
// byte, without a server. It mirrors
//
//   - which texts are accepted (RFC 8259; PostgreSQL documentation, section 8.14), except for
//     duplicate keys: jsonb keeps the last of them, here they are an error;
//   - how they are printed: keys by length and then by bytes, a space after each comma and
//     colon, no escape that a string can do without (sections 8.14.1 and 8.14.4);
//   - how numeric prints numbers, and which have too many digits for it (section 8.1.2);
//   - merge patches (RFC 7396, section 2), as the merge function in the database does.
//
// [Parse] turns a text into the one that jsonb prints. [Find] looks up a member of such a text,
// and [Open] makes a [Value] of it, into which patches are merged.
package jsonb

import (
	"math"
	"slices"
	"sync"
)

// A parser reads one JSON text (RFC 8259) strictly, and writes it as jsonb prints it. What
// jsonb would refuse or silently alter is a fault. It makes nothing else of a text, so that
// texts that wait take little more memory than they have bytes. Its time is linear in the
// text's length, except for sorting members.
type parser struct {
	limits Limits
	data   []byte
	pos    int

	out    []byte  // the text so far, with unsorted members
	starts []int32 // of the members of the objects that are being read, in out
	disorder

	arrays int // being read
	Measure
}

// Limits are the limits of a text.
type Limits struct {
	Depth  int // of nested containers
	Digits int // of a printed number; 0: numbers keep their text
	Bytes  int // of the printed text
}

// NoLimits are the limits of a text where none are asked for: the goroutine's stack must not
// run out, and offsets have 32 bits.
var NoLimits = Limits{Depth: 100_000, Bytes: math.MaxInt32 - 1<<10}

// A Measure describes a text as a patch. What is in arrays does not count, as it is replaced
// whole.
type Measure struct {
	Elements int // of arrays, at all levels

	Steps  int  // members that are objects or null: each is a step for the merge function
	Levels int  // of objects within the outermost one
	Flat   bool // no member of the outermost object is an object or null: all are set as they are
	Sets   bool // nothing is null or an array: a document contains the patch once it was patched, which is cheap to find out
}

// Parse reads all of data, and returns it as jsonb prints it, sharing nothing with data. The
// error is an [*Error].
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

// parsers keeps parsers that have room for a small text.
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

// value reads a value inside depth containers.
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

// step counts an object or null, and reports whether a patch goes into it.
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

// object reads an object after its brace.
func (p *parser) object(depth int) *Error {
	start, first, sorted := int32(len(p.out)-1), len(p.starts), true
	if p.space(); p.take('}') {
		p.out = append(p.out, '}')
		return nil
	}
	last, lastSize := text{}, -1 // the name before, and its size unquoted
	for {
		begin := int32(len(p.out))
		if err := p.key(); err != nil {
			return err
		}
		name := text{begin, int32(len(p.out))}
		if sorted {
			size := unquotedSize(name.of(p.out))
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

// array reads an array after its bracket.
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
