// Package printable keeps what strangers chose, such as the id of a document, from
// doing anything to the text of an error or a log that it stands in.
package printable

import (
	"strconv"
	"unicode/utf8"
)

// Text returns s as it is if all of it can be seen, and otherwise quoted as Go
// quotes strings: line breaks, controls that a terminal obeys, and characters
// that turn the direction of a line or show nothing, are then escapes.
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
