package lock

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Semaphore lets at most so many hold a permit of a name at a time, in all processes
// together. A permit is a [Held]: it is lost, told and evicted as a lock is, ends with the
// session that holds it, and Unlock gives it back. All of a process's are held by the one
// connection of its Locker, and who waits needs none.
//
// It is so many keys, of which each holder has one. What could not be built outside this
// package is to wait for whichever of them is free first.
//
// Within a process waiters are served in the order of their calls. Between processes each
// permit goes round as a key does (PostgresOptions.HandOff and Parking): those that wait for
// one in the server's queue have it in their order; which of the permits is free first, and
// so who of different processes, is chance.
//
// Processes may differ in the number of permits, as in a rolling deploy: there are never
// more holders than the largest number says, nor more of one process than its own says.
//
// Its methods are safe for concurrent use. Several Semaphores of the same name and Locker
// are one.
type Semaphore struct {
	queue *queue
	name  Key
	keys  []Key
}

// NewSemaphore returns the semaphore of a name, which is that of no lock, with a number of
// permits. The Locker is a [Postgres] or a [Memory]; of another one the error matches
// [ErrUnsupported], and of a bad name, or of no permits, [ErrInvalidKey]. It asks the server
// nothing.
func NewSemaphore(l Locker, name Key, permits int) (*Semaphore, error) {
	s := &Semaphore{name: name}
	switch l := l.(type) {
	case *Memory:
		s.queue = &l.queue
	case *Postgres:
		s.queue = &l.queue
	default:
		return nil, fmt.Errorf("%w: a semaphore is of a Postgres or a Memory", ErrUnsupported)
	}
	if err := name.Err(); err != nil {
		return nil, err
	}
	if permits < 1 {
		return nil, fmt.Errorf("%w: a semaphore of %d permits", ErrInvalidKey, permits)
	}
	for i := range permits {
		s.keys = append(s.keys, name.permit(i))
	}
	return s, nil
}

// permit is the key of a permit of the semaphore of a name, in the same namespace.
func (k Key) permit(i int) Key {
	number := strconv.Itoa(i)
	digest := hash("lockstore permit", []string{strconv.FormatInt(k.id, 10), number})
	return Key{id: int64(uint64(k.id)&tagMask | digest>>16), name: k.name + "#" + number}
}

// Keys are the keys of the permits, for [Postgres.Status] and [Postgres.Evict].
func (s *Semaphore) Keys() []Key { return slices.Clone(s.keys) }

// Acquire waits for a permit, as Lock waits for a key. Who has one may ask for another, and
// waits for it as anybody does; of a semaphore of one permit the error matches [ErrHeld].
func (s *Semaphore) Acquire(ctx context.Context) (*Held, error) { return s.acquire(ctx, false) }

// TryAcquire takes a permit if there is one that nobody has or waits for, and otherwise
// returns a [*BusyError]. While another process looks for a permit it may find none.
func (s *Semaphore) TryAcquire(ctx context.Context) (*Held, error) { return s.acquire(ctx, true) }

func (s *Semaphore) acquire(ctx context.Context, try bool) (*Held, error) {
	a := AcquireStart{"Acquire", []Key{s.name}}
	if try {
		a.Operation = "TryAcquire"
	}
	return s.queue.observe(ctx, a, func(ctx context.Context, since time.Time) (*Held, error) {
		return s.queue.claimAny(ctx, s.name, s.keys, try, since)
	})
}

// mostWaited bounds how many keys are waited for at a time.
const mostWaited = 128

// claimAny claims one of keys. It looks for one that is free, from a random one on: at one,
// and, while there is none, at twice as many at a time as before. Then it waits for all of
// them, or for as many as are waited for at a time.
func (q *queue) claimAny(ctx context.Context, name Key, keys []Key, try bool, since time.Time) (*Held, error) {
	if err := admissible(ctx, keys...); err != nil {
		return nil, err
	}
	if len(keys) == 1 {
		return q.claim(ctx, keys[0], alone, try, since)
	}
	at := q.pick(len(keys))
	keys = slices.Concat(keys[at:], keys[:at])
	busy := &BusyError{Key: name}
	var err error = busy
	for from, n := 0, 1; from < len(keys) && errors.Is(err, ErrBusy); from, n = from+n, 2*n {
		var held *Held
		if held, err = q.claimFirst(ctx, keys[from:min(from+n, len(keys))], true, since, busy); err == nil {
			return held, nil
		}
	}
	if !try && (errors.Is(err, ErrBusy) || errors.Is(err, ErrUnavailable)) { // if ctx has ended, that says so
		var held *Held
		if held, err = q.claimFirst(ctx, keys[:min(len(keys), mostWaited)], false, since, busy); err == nil {
			return held, nil
		}
	}
	var last *BusyError
	if errors.As(err, &last) {
		busy.Waited, busy.Cause = time.Since(since), last.Cause
		err = busy
	}
	if errors.Is(err, ErrBusy) {
		q.mu.Lock()
		q.counts.Busy++
		q.mu.Unlock()
	}
	return nil, err
}

// claimFirst enters a claim of each of keys, and returns the first that is granted, or the
// error of one of them when all have ended.
func (q *queue) claimFirst(ctx context.Context, keys []Key, try bool, since time.Time, busy *BusyError) (*Held, error) {
	t := &tenure{queue: q, values: ctx, any: true}
	memory, claims := make([]claim, len(keys)), make([]*claim, len(keys))
	signal := make(chan struct{}, len(keys)) // of all of them
	for i, key := range keys {
		memory[i] = newClaim(key, alone, try, since, q.patience(), t)
		memory[i].signal = signal
		claims[i] = &memory[i]
	}
	withdraw := func(why error) {
		for _, c := range claims {
			q.withdraw(c, why)
		}
	}
	q.enter(claims...)
	ended := ctx.Done()
	for range claims {
		select {
		case <-signal:
		case <-ended:
			ended = nil
			withdraw(causeOf(ctx))
			<-signal
		}
		if q.hasBegun(t) {
			break
		}
	}
	withdraw(ErrReleased)
	q.mu.Lock()
	var err error
	for _, c := range claims {
		busy.Attempts = max(busy.Attempts, c.attempts)
		err = first(err, c.err)
	}
	q.mu.Unlock()
	if len(t.claims) == 0 {
		return nil, err
	}
	won := t.claims[0]
	won.signal = make(chan struct{}, 1) // for the answer to its unlock
	t.keys = append(t.key[:0], won.key)
	return t.begin(alone), nil
}

// hasBegun reports whether one of the claims of t has been granted.
func (q *queue) hasBegun(t *tenure) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(t.claims) > 0
}

// prune ends the claims that are first in line whose caller has another key instead.
func (q *queue) prune(e *entry) {
	for first := e.first(); first != nil && first.tenure.any && len(first.tenure.claims) > 0; first = e.first() {
		q.end(first, ErrReleased)
	}
}
