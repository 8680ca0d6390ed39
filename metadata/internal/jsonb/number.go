package jsonb

import (
	"bytes"
	"math"
	"slices"
	"strconv"
)

// numericWhole and numericScale are how many digits PostgreSQL's numeric has at most before
// and after the point (PostgreSQL documentation, section 8.1.2).
const numericWhole, numericScale = 131072, 16383

// numericExponent is the largest absolute exponent that every release of PostgreSQL reads,
// even of a zero (set_var_from_str in its numeric.c).
const numericExponent = math.MaxInt32/2 - 1

// number reads a number. If Limits.Digits is set, it prints it as jsonb does: exponents
// expanded, every other digit kept.
func (p *parser) number() *Error {
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
		return malformed("not JSON at byte %d", start)
	}
	text := p.data[start:p.pos]
	if p.limits.Digits == 0 {
		p.out = append(p.out, text...)
		return nil
	}
	var shift int64
	if exponent != nil {
		var err error
		if shift, err = strconv.ParseInt(string(exponent), 10, 32); err != nil || shift > numericExponent {
			return fault("number with a larger exponent than PostgreSQL takes")
		}
	}
	if down {
		shift = -shift
	}
	n := newDecimal(negative, whole, fraction, shift)
	if long := n.size + n.scale; long > int64(p.limits.Digits) && (exponent != nil || long-significant(whole, fraction) > int64(p.limits.Digits)) {
		return fault("number of more than %d digits that takes few bytes", p.limits.Digits)
	}
	if n.size > numericWhole || n.scale > numericScale {
		return fault("number with more digits than PostgreSQL keeps")
	}
	if exponent == nil && n.negative == negative {
		p.out = append(p.out, text...)
	} else {
		p.out = n.append(p.out, whole, fraction)
	}
	return nil
}

func (p *parser) digitsAt() []byte {
	start := p.pos
	for p.pos < len(p.data) && '0' <= p.data[p.pos] && p.data[p.pos] <= '9' {
		p.pos++
	}
	return p.data[start:p.pos]
}

// A decimal says how digits are to be printed. It is made before it is known whether they can
// be: its fields are as large as the exponent in the text, so all have 64 bits.
type decimal struct {
	negative    bool
	leading     int64 // zeros at the beginning of the digits
	point       int64 // after so many of the digits; before them, if negative
	size, scale int64 // digits printed before and after the point
}

func newDecimal(negative bool, whole, fraction []byte, shift int64) decimal {
	leading := leadingZeros(whole)
	if leading == len(whole) {
		leading += leadingZeros(fraction)
	}
	all := int64(len(whole)) + int64(len(fraction))
	n := decimal{negative: negative, leading: int64(leading), point: int64(len(whole)) + shift}
	if n.leading == all { // zero: no exponent makes it longer, and it has no sign
		n.negative, n.point = false, min(n.point, all)
	}
	n.size, n.scale = max(n.point-n.leading, 1), max(all-n.point, 0)
	return n
}

// significant is how many digits the server stores: all but the zeros at either end.
func significant(whole, fraction []byte) int64 {
	return int64(len(bytes.Trim(slices.Concat(whole, fraction), "0")))
}

func leadingZeros(digits []byte) int { return len(digits) - len(bytes.TrimLeft(digits, "0")) }

// append prints the digits, which are given in two parts.
func (n decimal) append(dst, whole, fraction []byte) []byte {
	if n.negative {
		dst = append(dst, '-')
	}
	all := int64(len(whole) + len(fraction))
	if n.point > n.leading {
		dst = appendDigits(dst, whole, fraction, n.leading, min(n.point, all))
		dst = appendZeros(dst, n.point-all)
	} else {
		dst = append(dst, '0')
	}
	if n.scale > 0 {
		dst = append(dst, '.')
		dst = appendZeros(dst, -n.point)
		dst = appendDigits(dst, whole, fraction, max(n.point, 0), all)
	}
	return dst
}

// appendDigits appends the digits from one place to another, of the two parts together.
func appendDigits(dst, whole, fraction []byte, from, to int64) []byte {
	middle := int64(len(whole))
	if from < middle {
		dst = append(dst, whole[from:min(to, middle)]...)
	}
	if to > middle {
		dst = append(dst, fraction[max(from-middle, 0):to-middle]...)
	}
	return dst
}

// zeros are appended so many at a time.
const zeros = "0000000000000000000000000000000000000000000000000000000000000000"

func appendZeros(dst []byte, n int64) []byte {
	for ; n > 0; n -= int64(len(zeros)) {
		dst = append(dst, zeros[:min(n, int64(len(zeros)))]...)
	}
	return dst
}
