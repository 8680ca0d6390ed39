package jsonb

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// An Error is what is wrong with a text, and where. It has names of members in it, but no
// values.
type Error struct {
	Path      string // such as $.profile["first name"][0]; $ is the whole text
	Reason    string
	Malformed bool // it is not JSON
	TooLarge  bool // it prints to more than Limits.Bytes

	steps []string // of the path, innermost first, until Path is set
}

// Error returns the reason and the path.
func (e *Error) Error() string { return "jsonb: " + e.Reason + " at " + e.Path }

// fault makes the error for the value that is being read. The readers of its containers add
// where that is, by within and at.
func fault(format string, args ...any) *Error {
	return &Error{Reason: fmt.Sprintf(format, args...)}
}

// malformed is fault for a text that is not JSON.
func malformed(format string, args ...any) *Error {
	return &Error{Reason: fmt.Sprintf(format, args...), Malformed: true}
}

// within adds that the fault is in the member called key.
func (e *Error) within(key []byte) *Error {
	e.steps = append(e.steps, step(key))
	return e
}

// at adds that the fault is in the element with this index.
func (e *Error) at(index int) *Error {
	e.steps = append(e.steps, "["+strconv.Itoa(index)+"]")
	return e
}

// rooted sets the path, as there is no further container.
func (e *Error) rooted() *Error {
	slices.Reverse(e.steps)
	e.Path, e.steps = "$"+strings.Join(e.steps, ""), nil
	return e
}

var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z_0-9]*$`)

// step is a key as part of a path.
func step(key []byte) string {
	const most = 64 // bytes of the key
	switch {
	case len(key) > most:
		return "[" + strconv.Quote(string(key[:most])) + "…]"
	case identifier.Match(key):
		return "." + string(key)
	}
	return "[" + strconv.Quote(string(key)) + "]"
}
