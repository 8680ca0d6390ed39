package jsonb

import "bytes"

// A cursor reads JSON that is known to be as jsonb prints it.
type cursor struct{ rest []byte }

// enter enters the next value, an object, and reports whether it has members.
func (c *cursor) enter() bool {
	c.rest = c.rest[len("{"):]
	if c.rest[0] == '}' {
		c.rest = c.rest[len("}"):]
		return false
	}
	return true
}

// next moves past a member's end, and reports whether another follows.
func (c *cursor) next() bool {
	if c.rest[0] == '}' {
		c.rest = c.rest[len("}"):]
		return false
	}
	c.rest = c.rest[len(", "):]
	return true
}

// name reads a member's name, with its quotes. The member's value is next.
func (c *cursor) name() []byte {
	name := c.string()
	c.rest = c.rest[len(": "):]
	return name
}

// member reads a member, without its value if that is an object, and returns the value's first
// byte.
func (c *cursor) member() (m member, kind byte) {
	whole := c.rest
	name := c.name()
	m.name, m.unquoted = int32(len(name)), int32(unquotedSize(name))
	if kind = c.rest[0]; kind != '{' {
		c.value()
	}
	length := len(whole) - len(c.rest)
	m.text = whole[:length:length]
	return m, kind
}

// string reads a string, with its quotes.
func (c *cursor) string() []byte {
	for end := 1; ; end++ {
		end += bytes.IndexByte(c.rest[end:], '"')
		escapes := 0
		for c.rest[end-1-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return c.take(end + 1)
		}
	}
}

func (c *cursor) take(n int) []byte {
	taken := c.rest[:n:n]
	c.rest = c.rest[n:]
	return taken
}

// value reads a value.
func (c *cursor) value() []byte {
	whole := c.rest
	switch whole[0] {
	case '"':
		return c.string()
	case '{', '[':
		c.container()
		return whole[: len(whole)-len(c.rest) : len(whole)-len(c.rest)]
	}
	end := 0
	for end < len(whole) && whole[end] != ',' && whole[end] != ']' && whole[end] != '}' {
		end++
	}
	return c.take(end)
}

// container reads an object or array.
func (c *cursor) container() {
	for levels, i := 0, 0; ; i++ {
		switch c.rest[i] {
		case '"':
			c.rest = c.rest[i:]
			c.string()
			i = -1
		case '{', '[':
			levels++
		case '}', ']':
			if levels--; levels == 0 {
				c.rest = c.rest[i+1:]
				return
			}
		}
	}
}

// Find returns the value of a member of an object, or nil.
func Find(document []byte, key string) []byte {
	c := cursor{document}
	if document[0] != '{' {
		return nil
	}
	for more := c.enter(); more; more = c.next() {
		if name, value := c.name(), c.value(); isNamed(name, key) {
			return value
		}
	}
	return nil
}

// isNamed reports whether a printed name stands for key.
func isNamed(name []byte, key string) bool {
	if bytes.IndexByte(name, '\\') < 0 {
		return string(name[1:len(name)-1]) == key
	}
	return string(unquote(name)) == key
}
