package metadata

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// A parser reads one JSON text (RFC 8259) strictly: what jsonb would refuse or
// silently alter is a fault. Its time is linear in the text's length but for
// the sorting of members.
type parser struct {
	data     []byte
	pos      int
	maxDepth int
	digits   int // how many a number may print; 0: numbers keep their text
}

// noDepth is the depth at which parsing ends where no limit is asked for, lest
// the goroutine's stack runs out.
const noDepth = 100_000

// The digits that PostgreSQL's numeric has at most before and after the point
// (PostgreSQL documentation, section 8.1.2).
const numericWhole, numericScale = 131072, 16383

// numericExponent is the largest exponent, either way, that every release of
// PostgreSQL reads, be it that of a zero (set_var_from_str in its numeric.c).
const numericExponent = math.MaxInt32/2 - 1

// parse reads the whole of data.
func parse(data []byte, maxDepth, digits int) (value, *PatchError) {
	p := parser{data: data, maxDepth: maxDepth, digits: digits}
	var v value
	err := p.value(&v, 0)
	if err == nil {
		if p.space(); p.pos < len(p.data) {
			err = fault("more than one JSON value")
		}
	}
	return v, err.rooted()
}

// fault makes the error for the value that is being read. Those who read its
// containers say where that is by within.
func fault(format string, args ...any) *PatchError {
	return &PatchError{Reason: fmt.Sprintf(format, args...)}
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

// value reads into v, which is zero. (Values are not returned because of the
// stack: it is recursion that follows a document's depth.)
func (p *parser) value(v *value, depth int) *PatchError {
	p.space()
	if p.pos == len(p.data) {
		return fault("unexpected end")
	}
	switch c := p.data[p.pos]; c {
	case '{', '[':
		if depth == p.maxDepth {
			return fault("deeper than %d levels", p.maxDepth)
		}
		p.pos++
		if c == '{' {
			v.kind = object
			return p.object(v, depth+1)
		}
		v.kind = array
		return p.array(v, depth+1)
	}
	v.kind = scalar
	return p.scalar(v)
}

func (p *parser) scalar(v *value) (err *PatchError) {
	switch p.data[p.pos] {
	case '"':
		_, v.text, err = p.string()
	case 't':
		v.text, err = p.literal("true")
	case 'f':
		v.text, err = p.literal("false")
	case 'n':
		v.text, err = p.literal("null")
	default:
		v.text, err = p.number()
	}
	return err
}

func (p *parser) literal(word string) ([]byte, *PatchError) {
	end := p.pos + len(word)
	if end > len(p.data) || string(p.data[p.pos:end]) != word {
		return nil, fault("not JSON at byte %d", p.pos)
	}
	text := p.data[p.pos:end]
	p.pos = end
	return text, nil
}

func (p *parser) object(v *value, depth int) *PatchError {
	if p.space(); p.take('}') {
		return nil
	}
	for {
		if err := p.key(v); err != nil {
			return err
		}
		last := &v.members[len(v.members)-1]
		if err := p.value(&last.value, depth); err != nil {
			return err.within(last.key)
		}
		if p.space(); p.take('}') {
			return sortMembers(v.members)
		}
		if !p.take(',') {
			return fault("no comma or brace at byte %d", p.pos)
		}
	}
}

// key adds a member without its value.
func (p *parser) key(v *value) (err *PatchError) {
	if p.space(); p.pos == len(p.data) || p.data[p.pos] != '"' {
		return fault("no key at byte %d", p.pos)
	}
	var m member
	if m.key, m.name, err = p.string(); err != nil {
		return err
	}
	v.members = append(v.members, m)
	if p.space(); !p.take(':') {
		return fault("no colon at byte %d", p.pos)
	}
	return nil
}

// sortMembers brings members into jsonb's order, in which they mostly are.
func sortMembers(members []member) *PatchError {
	if !slices.IsSortedFunc(members, compareKeys) {
		slices.SortFunc(members, compareKeys)
	}
	for i := range members[1:] {
		if compareKeys(members[i], members[i+1]) == 0 {
			return fault("duplicate key").within(members[i].key)
		}
	}
	return nil
}

func (p *parser) array(v *value, depth int) *PatchError {
	if p.space(); p.take(']') {
		return nil
	}
	for {
		v.members = append(v.members, member{})
		if err := p.value(&v.members[len(v.members)-1].value, depth); err != nil {
			return err.at(len(v.members) - 1)
		}
		if p.space(); p.take(']') {
			return nil
		}
		if !p.take(',') {
			return fault("no comma or bracket at byte %d", p.pos)
		}
	}
}

// string reads a string and returns what it says and how jsonb prints it.
func (p *parser) string() (said, printed []byte, err *PatchError) {
	start := p.pos
	body := p.data[start+1:]
	end := bytes.IndexByte(body, '"')
	if end < 0 {
		return nil, nil, fault("unterminated string at byte %d", start)
	}
	if plain := body[:end]; bytes.IndexByte(plain, '\\') < 0 {
		p.pos += end + 2
		return plain, p.data[start:p.pos], checkText(plain)
	}
	return p.escapedString()
}

// checkText refuses what no JSON string holds unescaped.
func checkText(s []byte) *PatchError {
	for _, c := range s {
		if c < ' ' {
			return fault("control character in a string")
		}
	}
	if !utf8.Valid(s) {
		return fault("invalid UTF-8")
	}
	return nil
}

func (p *parser) escapedString() (said, printed []byte, err *PatchError) {
	p.pos++
	for {
		rest := p.data[p.pos:]
		n := bytes.IndexAny(rest, `"\`)
		if n < 0 {
			return nil, nil, fault("unterminated string")
		}
		if err := checkText(rest[:n]); err != nil {
			return nil, nil, err
		}
		said = append(said, rest[:n]...)
		p.pos += n + 1
		if rest[n] == '"' {
			return said, quote(said), nil
		}
		if said, err = p.escape(said); err != nil {
			return nil, nil, err
		}
	}
}

// escape reads what follows a backslash.
func (p *parser) escape(said []byte) ([]byte, *PatchError) {
	if p.pos == len(p.data) {
		return nil, fault("unterminated string")
	}
	c := p.data[p.pos]
	p.pos++
	switch c {
	case '"', '\\', '/':
		return append(said, c), nil
	case 'b':
		return append(said, '\b'), nil
	case 'f':
		return append(said, '\f'), nil
	case 'n':
		return append(said, '\n'), nil
	case 'r':
		return append(said, '\r'), nil
	case 't':
		return append(said, '\t'), nil
	case 'u':
		r, ok := p.hex()
		switch {
		case !ok:
			return nil, fault("bad escape in a string")
		case r == 0:
			return nil, fault(`\u0000 in a string`)
		case !utf16.IsSurrogate(r):
			return utf8.AppendRune(said, r), nil
		}
		if p.take('\\') && p.take('u') {
			if low, ok := p.hex(); ok {
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					return utf8.AppendRune(said, r), nil
				}
			}
		}
		return nil, fault("lone surrogate in a string")
	}
	return nil, fault("bad escape in a string")
}

// hex reads four hexadecimal digits.
func (p *parser) hex() (rune, bool) {
	if p.pos+4 > len(p.data) {
		return 0, false
	}
	var r rune
	for _, c := range p.data[p.pos : p.pos+4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	p.pos += 4
	return r, true
}

// quote prints a string as jsonb does.
func quote(s []byte) []byte {
	q := make([]byte, 0, len(s)+8)
	q = append(q, '"')
	for _, c := range s {
		switch c {
		case '"', '\\':
			q = append(q, '\\', c)
		case '\b':
			q = append(q, `\b`...)
		case '\f':
			q = append(q, `\f`...)
		case '\n':
			q = append(q, `\n`...)
		case '\r':
			q = append(q, `\r`...)
		case '\t':
			q = append(q, `\t`...)
		default:
			if c < ' ' {
				q = fmt.Appendf(q, `\u%04x`, c)
			} else {
				q = append(q, c)
			}
		}
	}
	return append(q, '"')
}

// number reads a number, and prints it as jsonb does if the parser is asked
// to: exponents expanded, every other digit kept.
func (p *parser) number() ([]byte, *PatchError) {
	start := p.pos
	negative := p.take('-')
	whole := p.digitsAt()
	var fraction, exponent []byte
	ok := len(whole) == 1 || len(whole) > 1 && whole[0] != '0'
	if p.take('.') {
		fraction = p.digitsAt()
		ok = ok && len(fraction) > 0
	}
	down := false
	if p.take('e') || p.take('E') {
		if down = p.take('-'); !down {
			p.take('+')
		}
		exponent = p.digitsAt()
		ok = ok && len(exponent) > 0
	}
	if !ok {
		return nil, fault("not JSON at byte %d", start)
	}
	text := p.data[start:p.pos]
	if p.digits == 0 {
		return text, nil
	}
	var shift int64
	if exponent != nil {
		var err error
		if shift, err = strconv.ParseInt(string(exponent), 10, 32); err != nil || shift > numericExponent {
			return nil, fault("number with a larger exponent than PostgreSQL takes")
		}
	}
	if down {
		shift = -shift
	}
	n := newDecimal(negative, whole, fraction, shift)
	if exponent != nil && n.size+n.scale > int64(p.digits) {
		return nil, fault("number that expands to more than %d digits", p.digits)
	}
	if n.size > numericWhole || n.scale > numericScale {
		return nil, fault("number with more digits than PostgreSQL keeps")
	}
	if exponent == nil && n.negative == negative {
		return text, nil
	}
	return n.print(slices.Concat(whole, fraction)), nil
}

func (p *parser) digitsAt() []byte {
	start := p.pos
	for p.pos < len(p.data) && '0' <= p.data[p.pos] && p.data[p.pos] <= '9' {
		p.pos++
	}
	return p.data[start:p.pos]
}

// A decimal says how digits are to be printed. It is made before anybody knows
// whether they can be: its fields are as large as the exponent that somebody wrote,
// and have 64 bits everywhere.
type decimal struct {
	negative    bool
	leading     int64 // zeros that the digits begin with
	point       int64 // stands after so many of the digits; before them, if it is negative
	size, scale int64 // how many digits are printed before the point and after it
}

func newDecimal(negative bool, whole, fraction []byte, shift int64) decimal {
	leading := leadingZeros(whole)
	if leading == len(whole) {
		leading += leadingZeros(fraction)
	}
	all := int64(len(whole)) + int64(len(fraction))
	n := decimal{negative: negative, leading: int64(leading), point: int64(len(whole)) + shift}
	if n.leading == all { // which no exponent makes longer, and nothing negative
		n.negative, n.point = false, min(n.point, all)
	}
	n.size, n.scale = max(n.point-n.leading, 1), max(all-n.point, 0)
	return n
}

func leadingZeros(digits []byte) int { return len(digits) - len(bytes.TrimLeft(digits, "0")) }

func (n decimal) print(digits []byte) []byte {
	out := make([]byte, 0, n.size+n.scale+2)
	if n.negative {
		out = append(out, '-')
	}
	all := int64(len(digits))
	if n.point > n.leading {
		out = append(out, digits[n.leading:min(n.point, all)]...)
		out = appendZeros(out, n.point-all)
	} else {
		out = append(out, '0')
	}
	if n.scale > 0 {
		out = append(out, '.')
		out = appendZeros(out, -n.point)
		out = append(out, digits[max(n.point, 0):]...)
	}
	return out
}

// zeros are appended so many at a time.
const zeros = "0000000000000000000000000000000000000000000000000000000000000000"

func appendZeros(dst []byte, n int64) []byte {
	for ; n > 0; n -= int64(len(zeros)) {
		dst = append(dst, zeros[:min(n, int64(len(zeros)))]...)
	}
	return dst
}
