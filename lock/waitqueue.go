package lock

// A waitQueue has the waiters of a key: the requests that wait for it, first come first. It
// links the requests themselves, so waiting allocates nothing, and any of them can leave at
// once.
type waitQueue struct {
	first, last *request
	n, tries    int
}

func (w *waitQueue) push(r *request) {
	if r.prev = w.last; r.prev != nil {
		r.prev.next = r
	} else {
		w.first = r
	}
	w.last = r
	w.n++
	if r.try {
		w.tries++
	}
}

func (w *waitQueue) remove(r *request) {
	if r.prev != nil {
		r.prev.next = r.next
	} else {
		w.first = r.next
	}
	if r.next != nil {
		r.next.prev = r.prev
	} else {
		w.last = r.prev
	}
	r.prev, r.next = nil, nil
	w.n--
	if r.try {
		w.tries--
	}
}
