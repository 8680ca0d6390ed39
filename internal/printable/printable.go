// Package printable makes untrusted text, such as a document's id, safe to print in errors
// and logs.
package printable

import (
	"strconv"
	"unicode/utf8"
)

// Text returns s unchanged if all its characters are visible, and otherwise quotes it like a
// Go string. Line breaks, terminal controls, invisible characters and those that change the
// direction of a line are then escaped.
func Text(s string) string {
	if isPlain(s) {
		return s
	}
	return strconv.Quote(s)
}

func isPlain(s string) bool {
	for _, r := range s {
		if !strconv.IsPrint(r) {
			return false
		}
	}
	return utf8.ValidString(s)
}
