package locktest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/lockstore/lock"
)

// Play runs a random story, drawn from seed, of callers that use a few keys through lockers
// that share them. It covers all that a Locker offers, several keys at once, contexts that
// end, and holds that last longer than long, which must exceed the time for which a Locker hands
// a key on by itself, such as PostgresOptions.HandOff.
// It compares every answer with what a small model allows, and at the first that differs fails
// t with the story. The same seed draws the same steps.
func Play(t testing.TB, seed uint64, steps int, long time.Duration, lockers ...lock.Locker) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s := &story{
		TB: t, ctx: ctx, long: long, lockers: lockers,
		random: rand.New(rand.NewPCG(seed, 0)), finished: make(chan *caller, 1000),
	}
	s.tell("seed %d", seed)
	for i := range 3 {
		s.keys = append(s.keys, lock.Namespace("locktest").Name("story", fmt.Sprint(runs.Add(1)), fmt.Sprint(i)))
	}
	for range steps {
		s.step()
		s.settle()
	}
	s.end()
}

// A story is a model of what callers hold, and a record of what has happened. Its steps run
// one after the other; what the model leaves open is taken as it comes.
type story struct {
	testing.TB
	ctx      context.Context
	long     time.Duration
	lockers  []lock.Locker
	random   *rand.Rand
	keys     []lock.Key
	told     []string
	callers  []*caller // that wait or hold, in the order of their coming
	finished chan *caller
	number   int
}

// A caller is one call of a Locker, and the hold that results from it.
type caller struct {
	name   string
	locker int
	mode   string // Lock, TryLock, RLock, TryRLock, LockAll
	keys   []lock.Key
	cancel context.CancelFunc
	held   *lock.Held
	err    error
	holds  bool
	leaves bool // its context has ended
}

func (c *caller) shares() bool          { return strings.HasSuffix(c.mode, "RLock") }
func (c *caller) wants(k lock.Key) bool { return slices.Contains(c.keys, k) }

// conflicts reports whether two callers cannot hold key at the same time.
func (c *caller) conflicts(o *caller, key lock.Key) bool {
	return c != o && c.wants(key) && o.wants(key) && !(c.shares() && o.shares())
}

func (s *story) tell(format string, args ...any) {
	s.told = append(s.told, fmt.Sprintf(format, args...))
}

func (s *story) fail(format string, args ...any) {
	s.Helper()
	told := s.told[max(1, len(s.told)-200):]
	s.Fatalf(format+"\n%s\n%s", append(args, s.told[0], strings.Join(told, "\n"))...)
}

func (s *story) step() {
	key := s.keys[s.random.IntN(len(s.keys))]
	switch n := s.random.IntN(100); {
	case n < 30:
		s.call([]string{"Lock", "Lock", "RLock", "RLock", "LockAll"}[s.random.IntN(5)], key)
	case n < 50:
		s.tryTogether(key)
	case n < 80:
		if c := s.any(func(c *caller) bool { return c.holds }); c != nil {
			s.unlock(c, nil)
		}
	case n < 90:
		if c := s.any(func(c *caller) bool { return !c.holds }); c != nil && (s.all() == nil || s.all() == c) {
			s.leave(c)
		}
	case n < 95:
		s.tell("time passes")
		time.Sleep(s.long)
	case n < 99:
		s.status(key)
	default:
		s.evict(key)
	}
}

func (s *story) any(is func(*caller) bool) *caller {
	var found []*caller
	for _, c := range s.callers {
		if is(c) {
			found = append(found, c)
		}
	}
	if len(found) == 0 {
		return nil
	}
	return found[s.random.IntN(len(found))]
}

func (s *story) newCaller(mode string, keys ...lock.Key) *caller {
	s.number++
	c := &caller{locker: s.random.IntN(len(s.lockers)), mode: mode, keys: keys}
	names := make([]int, len(keys))
	for i, k := range keys {
		names[i] = slices.Index(s.keys, k)
	}
	c.name = fmt.Sprintf("caller %d: %s of %v by locker %d", s.number, mode, names, c.locker)
	return c
}

func (c *caller) do(ctx context.Context, l lock.Locker) {
	switch c.mode {
	case "Lock":
		c.held, c.err = l.Lock(ctx, c.keys[0])
	case "RLock":
		c.held, c.err = l.RLock(ctx, c.keys[0])
	case "TryLock":
		c.held, c.err = l.TryLock(ctx, c.keys[0])
	case "TryRLock":
		c.held, c.err = l.TryRLock(ctx, c.keys[0])
	case "LockAll":
		c.held, c.err = l.(lock.AllLocker).LockAll(ctx, c.keys...)
	}
}

// call starts a caller that asks for one key or several, and waits.
func (s *story) call(mode string, key lock.Key) {
	keys := []lock.Key{key}
	if mode == "LockAll" {
		_, can := s.lockers[0].(lock.AllLocker)
		if !can || s.all() != nil {
			return // two of them have parts of what they want, which the model does not know
		}
		keys = append(keys, s.keys[s.random.IntN(len(s.keys))])
	}
	c := s.newCaller(mode, keys...)
	s.tell("%s", c.name)
	ctx, cancel := context.WithCancel(s.ctx)
	c.cancel = cancel
	waits := Arriving(ctx)
	s.callers = append(s.callers, c)
	go func() { c.do(waits, s.lockers[c.locker]); s.finished <- c }()
	select {
	case <-waits.Arrived():
	case <-time.After(patience):
		s.fail("%s does not wait", c.name)
	}
}

// all returns the caller that waits for several keys, and may have some of them, or nil.
func (s *story) all() *caller {
	for _, c := range s.callers {
		if c.mode == "LockAll" && !c.holds {
			return c
		}
	}
	return nil
}

// An answer is what a try must return; or either is right.
type answer int

const (
	either answer = iota
	yes
	no
)

// expect returns the answer that the model has for a try.
func (s *story) expect(c *caller, key lock.Key) answer {
	a := yes
	for _, o := range s.callers {
		switch {
		case !o.wants(key) || !o.conflicts(c, key):
		case o.holds, o.mode != "LockAll" && o.locker == c.locker:
			return no
		default: // waits in another process, or has this key or not
			a = either
		}
	}
	return a
}

// tryTogether lets a few callers try for a key at the same time.
func (s *story) tryTogether(key lock.Key) {
	var group sync.WaitGroup
	start := make(chan struct{})
	together := make([]*caller, 1+s.random.IntN(4))
	expected := make([]answer, len(together))
	one := []string{"TryLock", "TryRLock", ""}[s.random.IntN(3)]
	for i := range together {
		mode := one
		if mode == "" {
			mode = []string{"TryLock", "TryRLock"}[s.random.IntN(2)]
		}
		c := s.newCaller(mode, key)
		together[i], expected[i] = c, s.expect(c, key)
		group.Go(func() {
			<-start
			c.do(s.ctx, s.lockers[c.locker])
		})
	}
	close(start)
	group.Wait()
	granted := 0
	for i, c := range together {
		s.tell("%s: %v", c.name, c.err)
		conflicting := slices.ContainsFunc(together, func(o *caller) bool { return o.conflicts(c, key) })
		switch {
		case c.err != nil && !errors.Is(c.err, lock.ErrBusy):
			s.fail("%s: %v", c.name, c.err)
		case c.err != nil && expected[i] == yes && !conflicting && !s.again(c):
			s.fail("%s: nobody has the key, or wants it, but by what it can be shared with: %v", c.name, c.err)
		case c.err == nil && expected[i] == no:
			s.fail("%s: it is not to be had", c.name)
		case c.err == nil: // at once, or again
			granted++
			s.grant(c)
			s.callers = append(s.callers, c)
		}
	}
	if granted == 0 && slices.Contains(expected, yes) {
		s.fail("of %d that tried for a key none has it", len(together))
	}
}

// again repeats a try that was refused for no reason. If there are several Lockers, one may be
// giving back what it was granted for a caller that had left.
func (s *story) again(c *caller) bool {
	if len(s.lockers) > 1 {
		time.Sleep(20 * time.Millisecond)
		c.do(s.ctx, s.lockers[c.locker])
	}
	return c.err == nil
}

// grant notes that a caller holds, and that others are excluded.
func (s *story) grant(c *caller) {
	c.holds = true
	for _, key := range c.keys {
		for _, o := range s.callers {
			switch {
			case !o.conflicts(c, key), o.leaves && !o.holds:
			case o.holds:
				s.fail("%s and %s hold the same", c.name, o.name)
			case c.mode != "LockAll" && o.mode != "LockAll" && o.locker == c.locker && slices.Contains(s.callers, c) && slices.Index(s.callers, o) < slices.Index(s.callers, c):
				s.fail("%s overtakes %s", c.name, o.name)
			}
		}
	}
}

func (s *story) unlock(c *caller, want error) {
	err := c.held.Unlock()
	s.tell("%s: unlocked: %v", c.name, err)
	if !errors.Is(err, want) {
		s.fail("%s: unlock: %v, want %v", c.name, err, want)
	}
	s.forget(c)
}

func (s *story) forget(c *caller) {
	s.callers = slices.DeleteFunc(s.callers, func(o *caller) bool { return o == c })
}

// leave ends the context of a waiter.
func (s *story) leave(c *caller) {
	s.tell("%s: its context ends", c.name)
	c.leaves = true
	c.cancel()
	for slices.Contains(s.callers, c) && !c.holds {
		s.next(c.name + " to leave")
	}
	for _, key := range c.keys {
		for begin := time.Now(); !s.rests(c.locker, key); time.Sleep(time.Millisecond) {
			if time.Since(begin) > patience {
				s.fail("locker %d keeps %s for nobody", c.locker, key)
			}
		}
	}
}

// rests reports whether nothing is left of the callers that have left a Locker, in it or at
// the server.
func (s *story) rests(locker int, key lock.Key) bool {
	l, can := s.lockers[locker].(statuser)
	if !can {
		return true
	}
	here := map[lock.Key]bool{}
	for _, c := range s.callers {
		for _, k := range c.keys {
			if c.locker == locker {
				here[k] = true
			}
		}
	}
	if l.Stats().Keys > len(here) {
		return false
	}
	status, err := l.Status(s.ctx, key)
	if err != nil {
		s.fail("status: %v", err)
	}
	waits := slices.ContainsFunc(s.callers, func(o *caller) bool { return o.wants(key) && !o.holds })
	kept := slices.ContainsFunc(status.Holders, func(h lock.Holder) bool { return h.InThisLocker })
	return (status.HoldersHere > 0 || !kept) && (waits || status.Waiters == 0)
}

type statuser interface {
	Status(context.Context, lock.Key) (lock.Status, error)
	Stats() lock.Stats
}

// next waits for the end of a call, and records it.
func (s *story) next(what string) {
	select {
	case c := <-s.finished:
		s.take(c)
	case <-time.After(patience):
		s.fail("still waiting for %s", what)
	}
}

func (s *story) take(c *caller) {
	s.tell("%s: %v", c.name, c.err)
	ended := c.cancel
	switch {
	case c.err == nil:
		s.grant(c)
	case !errors.Is(c.err, lock.ErrBusy) || !errors.Is(c.err, context.Canceled):
		s.fail("%s: %v", c.name, c.err)
	default:
		s.forget(c)
	}
	ended()
}

// settle waits for the callers that must get their keys, and records which others get theirs.
func (s *story) settle() {
	for {
		select {
		case c := <-s.finished:
			s.take(c)
			continue
		default:
		}
		due := s.due()
		if due == "" {
			return
		}
		s.next(due)
	}
}

// due returns a caller that must get a key before anything else happens, or none.
func (s *story) due() string {
	if c := s.all(); c != nil {
		if !slices.ContainsFunc(s.callers, func(o *caller) bool {
			return o.holds && slices.ContainsFunc(c.keys, func(k lock.Key) bool { return o.wants(k) })
		}) {
			return c.name + ", or another for the same keys"
		}
	}
	for _, key := range s.keys {
		held := slices.ContainsFunc(s.callers, func(o *caller) bool { return o.holds && o.wants(key) })
		for i, c := range s.callers {
			if c.holds || !c.wants(key) || c.mode == "LockAll" {
				continue
			}
			// What others have, want in another process, or wanted before in this one.
			hindered := slices.ContainsFunc(s.callers, func(o *caller) bool {
				return o.conflicts(c, key) && (o.holds || o.mode == "LockAll" || held && o.locker != c.locker)
			}) || slices.ContainsFunc(s.callers[:i], func(o *caller) bool {
				return o.conflicts(c, key) && o.locker == c.locker
			})
			if !hindered {
				return c.name
			}
		}
	}
	return ""
}

// status compares what a Locker reports of a key, if it does, with the model.
func (s *story) status(key lock.Key) {
	locker := s.random.IntN(len(s.lockers))
	l, can := s.lockers[locker].(statuser)
	if !can || s.all() != nil {
		return
	}
	var holders, waiters, held int
	for _, c := range s.callers {
		switch {
		case !c.wants(key):
		case c.holds:
			held++
			if c.locker == locker {
				holders++
			}
		case c.locker == locker:
			waiters++
		}
	}
	status, err := l.Status(s.ctx, key)
	if err != nil {
		s.fail("status: %v", err)
	}
	// Some may have been granted what they wait for meanwhile.
	if status.HoldersHere < holders || held > 0 && len(status.Holders) == 0 || status.HoldersHere+status.WaitersHere != holders+waiters {
		s.fail("status of %s by locker %d is %+v; %d hold it, %d of them and %d waiters there", key, locker, status, held, holders, waiters)
	}
}

// evict takes a key from an exclusive holder, if nothing waits for it and a Locker can.
func (s *story) evict(key lock.Key) {
	l, can := s.lockers[s.random.IntN(len(s.lockers))].(interface {
		Evict(context.Context, lock.Key, time.Duration) error
	})
	c := s.any(func(c *caller) bool { return c.holds && c.wants(key) && !c.shares() && c.mode != "LockAll" })
	if !can || c == nil || slices.ContainsFunc(s.callers, func(o *caller) bool { return o.conflicts(c, c.keys[0]) }) {
		return
	}
	key = c.keys[0]
	s.tell("evict %s", c.name)
	if err := l.Evict(s.ctx, key, patience); err != nil {
		s.fail("evict %s: %v", c.name, err)
	}
	s.unlock(c, lock.ErrEvicted)
	// The Locker keeps off the key until it knows that the eviction is over.
	if err := pass(s.ctx, s.lockers[c.locker].Lock, key); err != nil {
		s.fail("after the eviction of %s: %v", c.name, err)
	}
}

// end lets every caller leave. Then every key must be free for every Locker.
func (s *story) end() {
	for len(s.callers) > 0 {
		if c := s.callers[0]; c.holds {
			s.unlock(c, nil)
		} else {
			s.leave(c)
		}
		s.settle()
	}
	for _, key := range s.keys {
		for i, l := range s.lockers {
			c := &caller{locker: i, mode: "TryLock", keys: []lock.Key{key}}
			if c.do(s.ctx, l); c.err != nil && !s.again(c) {
				s.fail("all have left, and locker %d has not got %s: %v", i, key, c.err)
			}
			if err := c.held.Unlock(); err != nil {
				s.fail("unlock: %v", err)
			}
		}
	}
}
