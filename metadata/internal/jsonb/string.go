package jsonb

import (
	"bytes"
	"encoding/hex"
	"unicode/utf16"
	"unicode/utf8"
)

// unescaped maps each letter after a backslash to its character (RFC 8259, section 7), except
// for u. escaped maps a character to the letter that jsonb prints for it.
var (
	unescaped = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}
	escaped   = [utf8.RuneSelf]byte{'"': '"', '\\': '\\', '\b': 'b', '\f': 'f', '\n': 'n', '\r': 'r', '\t': 't'}
)

// string reads a string.
func (p *parser) string() *Error {
	start := p.pos
	body := p.data[start+1:]
	end := bytes.IndexByte(body, '"')
	if end < 0 {
		return malformed("unterminated string at byte %d", start)
	}
	plain := body[:end]
	if bytes.IndexByte(plain, '\\') >= 0 {
		return p.escapedString()
	}
	p.pos += end + 2
	p.out = append(p.out, p.data[start:p.pos]...)
	return checkText(plain)
}

// checkText refuses bytes that no JSON string contains unescaped.
func checkText(s []byte) *Error {
	for _, c := range s {
		if c < ' ' {
			return malformed("control character in a string")
		}
	}
	if !utf8.Valid(s) {
		return malformed("invalid UTF-8")
	}
	return nil
}

func (p *parser) escapedString() *Error {
	p.pos++
	p.out = append(p.out, '"')
	for {
		rest := p.data[p.pos:]
		n := 0
		for n < len(rest) && rest[n] != '"' && rest[n] != '\\' {
			n++
		}
		if n == len(rest) {
			return malformed("unterminated string")
		}
		if err := checkText(rest[:n]); err != nil {
			return err
		}
		p.out = append(p.out, rest[:n]...)
		p.pos += n + 1
		if rest[n] == '"' {
			p.out = append(p.out, '"')
			return nil
		}
		r, err := p.escape()
		if err != nil {
			return err
		}
		p.out = appendQuoted(p.out, r)
	}
}

// escape reads an escape after its backslash.
func (p *parser) escape() (rune, *Error) {
	if p.pos == len(p.data) {
		return 0, malformed("unterminated string")
	}
	c := p.data[p.pos]
	p.pos++
	if char := unescaped[c]; char != 0 {
		return rune(char), nil
	}
	r, ok := p.hex()
	switch {
	case c != 'u' || !ok:
		return 0, malformed("bad escape in a string")
	case r == 0:
		return 0, fault(`\u0000 in a string`)
	case !utf16.IsSurrogate(r):
		return r, nil
	}
	if p.take('\\') && p.take('u') {
		if low, ok := p.hex(); ok {
			if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
				return r, nil
			}
		}
	}
	return 0, fault("lone surrogate in a string")
}

// hex reads four hexadecimal digits.
func (p *parser) hex() (rune, bool) {
	if p.pos+4 > len(p.data) {
		return 0, false
	}
	var r [2]byte
	_, err := hex.Decode(r[:], p.data[p.pos:p.pos+4])
	p.pos += 4
	return rune(r[0])<<8 | rune(r[1]), err == nil
}

// appendQuoted appends a character of a string as jsonb prints it.
func appendQuoted(dst []byte, r rune) []byte {
	switch {
	case r < utf8.RuneSelf && escaped[r] != 0:
		return append(dst, '\\', escaped[r])
	case r < ' ':
		const digits = "0123456789abcdef"
		return append(dst, '\\', 'u', '0', '0', digits[r>>4], digits[r&15])
	}
	return utf8.AppendRune(dst, r)
}

// unquote returns the characters of a printed string.
func unquote(printed []byte) []byte {
	unquoted := make([]byte, 0, len(printed))
	for rest := printed[1 : len(printed)-1]; len(rest) > 0; {
		c, size := firstByte(rest)
		unquoted, rest = append(unquoted, c), rest[size:]
	}
	return unquoted
}

// unquotedSize is the size of a printed string's unquoted form.
func unquotedSize(printed []byte) int {
	size := len(printed) - len(`""`)
	for {
		at := bytes.IndexByte(printed, '\\')
		if at < 0 {
			return size
		}
		_, escape := firstByte(printed[at:])
		size -= escape - 1
		printed = printed[at+escape:]
	}
}

// firstByte returns the first byte of a printed string's unquoted form, and how many bytes
// print it.
func firstByte(printed []byte) (c byte, size int) {
	if printed[0] != '\\' {
		return printed[0], 1
	}
	if c = unescaped[printed[1]]; c != 0 {
		return c, 2
	}
	low := printed[5] - '0' // the second digit of a control character
	if low > 9 {
		low = printed[5] - 'a' + 10
	}
	return (printed[4]-'0')<<4 | low, 6
}
