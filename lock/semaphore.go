package lock

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Semaphore limits the number of holders of a name, in all processes together. Each holder has
// a permit, which is a [Held]: it is lost, observed and evicted as a lock is, and ends with
// Unlock or with the session that holds it. The one connection of a process's Locker holds all
// of its permits, and a waiter needs none.
//
// A permit is one of a fixed set of keys. What could not be built outside this package is to
// wait for whichever of them is free first.
//
//   - Within a process waiters are served in the order of their calls.
//   - Between processes each permit goes round as a key does (PostgresOptions.HandOff and
//     PostgresOptions.WaitConns). Those that queue at the server for a permit get it in
//     their order. Which permit is free first, and so which process's waiter, is chance.
//   - A waiter waits for every permit. So its cost grows with their number, and each of them
//     counts in PostgresOptions.MaxKeys.
//   - Processes may differ in the number of permits, as in a rolling deploy. There are
//     never more holders than the largest number, nor more in one process than its own.
//
// Its methods are safe for concurrent use. Semaphores of the same name and Locker are the
// same.
type Semaphore struct {
	table *keyTable
	name  Key
	keys  []Key
}

// NewSemaphore returns the semaphore of a name with a number of permits. Do not use the name
// for a lock. It does not ask the server.
//
// If l is neither a [Postgres] nor a [Memory], the error matches [ErrUnsupported]; if the name
// is invalid or permits is less than 1, [ErrInvalidKey]; if there are more permits than
// PostgresOptions.MaxKeys, [ErrTooMany].
func NewSemaphore(l Locker, name Key, permits int) (*Semaphore, error) {
	s := &Semaphore{name: name}
	switch l := l.(type) {
	case *Memory:
		s.table = &l.table
	case *Postgres:
		s.table = &l.table
	default:
		return nil, fmt.Errorf("%w: a semaphore is of a Postgres or a Memory", ErrUnsupported)
	}
	if err := name.Err(); err != nil {
		return nil, err
	}
	switch {
	case permits < 1:
		return nil, fmt.Errorf("%w: a semaphore of %d permits", ErrInvalidKey, permits)
	case permits > s.table.maxKeys:
		return nil, fmt.Errorf("%w: a semaphore of %d permits, where MaxKeys is %d", ErrTooMany, permits, s.table.maxKeys)
	}
	for i := range permits {
		s.keys = append(s.keys, name.permit(i))
	}
	return s, nil
}

// permit returns the key of a permit of the semaphore k, in the same namespace.
func (k Key) permit(i int) Key {
	number := strconv.Itoa(i)
	digest := hash("lockstore permit", []string{strconv.FormatInt(k.id, 10), number})
	return Key{id: int64(uint64(k.id)&tagMask | digest>>16), name: k.name + "#" + number}
}

// Keys returns the keys of the permits, for [Postgres.Status] and [Postgres.Evict].
func (s *Semaphore) Keys() []Key { return slices.Clone(s.keys) }

// Acquire waits for a permit, as Lock waits for a key. A holder of a permit may ask for
// another, and waits for it like any caller; if there is one permit only, the error matches
// [ErrHeld].
func (s *Semaphore) Acquire(ctx context.Context) (*Held, error) { return s.acquire(ctx, false) }

// TryAcquire takes a permit that is free and has no waiter, and otherwise returns a
// [*BusyError]. It may find none while another process searches for one.
func (s *Semaphore) TryAcquire(ctx context.Context) (*Held, error) { return s.acquire(ctx, true) }

func (s *Semaphore) acquire(ctx context.Context, try bool) (*Held, error) {
	a := AcquireStart{"Acquire", []Key{s.name}}
	if try {
		a.Operation = "TryAcquire"
	}
	return s.table.observe(ctx, a, func(ctx context.Context, since time.Time) (*Held, error) {
		return s.table.acquireAny(ctx, s.name, s.keys, try, since)
	})
}

// acquireAny takes one of keys. First it tries them, from a random one on: one, then twice as
// many at a time as before. If none is free it waits for all of them.
func (t *keyTable) acquireAny(ctx context.Context, name Key, keys []Key, try bool, since time.Time) (*Held, error) {
	if err := admissible(ctx, since, name); err != nil {
		return nil, err
	}
	if len(keys) == 1 {
		return t.acquireKey(ctx, keys[0], alone, try, since)
	}
	at := t.pick(len(keys))
	keys = slices.Concat(keys[at:], keys[:at])
	busy := &BusyError{Key: name}
	var err error = busy
	for from, n := 0, 1; from < len(keys) && errors.Is(err, ErrBusy); from, n = from+n, 2*n {
		var held *Held
		if held, err = t.acquireFirst(ctx, keys[from:min(from+n, len(keys))], true, since, busy); err == nil {
			return held, nil
		}
	}
	if !try && (errors.Is(err, ErrBusy) || errors.Is(err, ErrUnavailable)) { // if ctx has ended, that says so
		var held *Held
		if held, err = t.acquireFirst(ctx, keys, false, since, busy); err == nil {
			return held, nil
		}
	}
	var last *BusyError
	if errors.As(err, &last) {
		busy.Waited, busy.Cause = time.Since(since), last.Cause
		err = busy
	}
	return nil, err
}

// acquireFirst makes a request for each of keys, and returns the first that is granted, or an
// error of theirs when all have ended.
func (t *keyTable) acquireFirst(ctx context.Context, keys []Key, try bool, since time.Time, busy *BusyError) (*Held, error) {
	h := &hold{table: t, values: ctx, any: true}
	memory, requests := make([]request, len(keys)), make([]*request, len(keys))
	signal := make(chan struct{}, len(keys)) // of all of them
	for i, key := range keys {
		memory[i] = newRequest(key, alone, try, since, t.patience(), h)
		memory[i].signal = signal
		requests[i] = &memory[i]
	}
	withdraw := func(why error) {
		for _, r := range requests {
			t.withdraw(r, why)
		}
	}
	t.enter(requests...)
	ended := ctx.Done()
	for range requests {
		select {
		case <-signal:
		case <-ended:
			ended = nil
			withdraw(causeOf(ctx))
			<-signal
		}
		if t.hasBegun(h) {
			break
		}
	}
	withdraw(ErrReleased)
	t.mu.Lock()
	var err error
	for _, r := range requests {
		busy.Attempts = max(busy.Attempts, r.attempts)
		err = first(err, r.err)
	}
	t.mu.Unlock()
	if len(h.requests) == 0 {
		return nil, err
	}
	won := h.requests[0]
	won.signal = make(chan struct{}, 1) // for the answer to its unlock
	h.keys = append(h.key[:0], won.key)
	return h.begin(alone), nil
}

// hasBegun reports whether one of the requests of h has been granted.
func (t *keyTable) hasBegun(h *hold) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(h.requests) > 0
}

// prune removes the first waiters of e whose call has been granted another of its keys.
func (t *keyTable) prune(e *entry) {
	for first := e.first(); first != nil && first.hold.any && len(first.hold.requests) > 0; first = e.first() {
		t.end(first, ErrReleased)
	}
}
