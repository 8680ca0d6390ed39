package jsonb

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// An Error says what is wrong with a text, and where: names of members, but no value.
type Error struct {
	Path      string // such as $.profile["first name"][0]; $ is the whole
	Reason    string
	Malformed bool // it is no JSON at all
	TooLarge  bool // it prints more than Limits.Bytes

	steps []string // of the path, innermost first, until it is known whole
}

// Error implements error.
func (e *Error) Error() string { return "jsonb: " + e.Reason + " at " + e.Path }

// fault makes the error for the value that is being read. Those who read its
// containers say where that is by within and at.
func fault(format string, args ...any) *Error {
	return &Error{Reason: fmt.Sprintf(format, args...)}
}

// malformed is fault for what is no JSON at all.
func malformed(format string, args ...any) *Error {
	return &Error{Reason: fmt.Sprintf(format, args...), Malformed: true}
}

// within says that the fault is in the member called key.
func (e *Error) within(key []byte) *Error {
	e.steps = append(e.steps, step(key))
	return e
}

// at says that the fault is in the element with this index.
func (e *Error) at(index int) *Error {
	e.steps = append(e.steps, "["+strconv.Itoa(index)+"]")
	return e
}

// rooted says that there is nothing around.
func (e *Error) rooted() *Error {
	slices.Reverse(e.steps)
	e.Path, e.steps = "$"+strings.Join(e.steps, ""), nil
	return e
}

var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z_0-9]*$`)

// step is a key as it stands in a path.
func step(key []byte) string {
	const most = 64 // bytes of it
	switch {
	case len(key) > most:
		return "[" + strconv.Quote(string(key[:most])) + "…]"
	case identifier.Match(key):
		return "." + string(key)
	}
	return "[" + strconv.Quote(string(key)) + "]"
}
