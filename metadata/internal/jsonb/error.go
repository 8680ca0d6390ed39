package jsonb

import (
	"strconv"
	"strings"
)

// An Error says why a text was refused, and where: names of members, but no value of it.
type Error struct {
	Path   string // such as $.profile["first name"][0]; $ is the whole
	Reason string
	Kind   Kind

	steps []string // of the path, innermost first, until it is known whole
}

// A Kind is what sort of fault an [Error] tells of.
type Kind int

const (
	Unfit     Kind = iota // JSON that jsonb does not keep as it is, or that goes deeper than allowed
	Malformed             // no JSON at all
	TooLarge              // more bytes than allowed
)

// Error implements error.
func (e *Error) Error() string { return "jsonb: " + e.Reason + " at " + e.Path }

func (e *Error) of(kind Kind) *Error {
	e.Kind = kind
	return e
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
	if e == nil {
		return nil
	}
	var b strings.Builder
	b.WriteByte('$')
	for i := len(e.steps) - 1; i >= 0; i-- {
		b.WriteString(e.steps[i])
	}
	e.Path, e.steps = b.String(), nil
	return e
}

// maxStep is where a key is cut off that stands in a path.
const maxStep = 64

// step is a key as it stands in a path.
func step(key []byte) string {
	if len(key) > maxStep {
		return "[" + strconv.Quote(string(key[:maxStep])) + "…]"
	}
	for i, c := range key {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return "[" + strconv.Quote(string(key)) + "]"
		}
	}
	if len(key) == 0 {
		return `[""]`
	}
	return "." + string(key)
}
