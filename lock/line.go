package lock

// A line is the claims that wait for a key, first come first. It links the
// claims themselves, so that waiting allocates nothing and any of them can leave
// at once.
type line struct {
	first, last *claim
	n, tries    int
}

func (l *line) push(c *claim) {
	if c.prev = l.last; c.prev != nil {
		c.prev.next = c
	} else {
		l.first = c
	}
	l.last = c
	l.n++
	if c.try {
		l.tries++
	}
}

func (l *line) remove(c *claim) {
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		l.first = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	} else {
		l.last = c.prev
	}
	c.prev, c.next = nil, nil
	l.n--
	if c.try {
		l.tries--
	}
}
