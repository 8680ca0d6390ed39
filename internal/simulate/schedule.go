// Package simulate tests concurrent code with random schedules. One goroutine runs at a time,
// from one point where another could overtake it to the next; a seed decides which. Time is
// that of a testing/synctest bubble.
//
// A simulation gives [Run] a function that builds the code under test on a model of what is
// below it, takes random [Schedule.Steps], and reports broken rules with [Schedule.Problem].
// Run plays many seeds on all cores. It prints the first one that fails, with the shortest
// story (the list of its steps) that it finds.
//
// Replaying a seed is almost exact: all choices depend on it, and goroutines run on one core.
// Only the runtime's own choices remain: between the ready cases of a select statement, and
// between goroutines that become ready in the same step. The flag -twice measures their
// effect.
package simulate

import (
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"
)

// A Schedule is one run of a simulation. Any goroutine of the bubble may call its methods,
// except that only the player, the goroutine that Run calls, may call Steps, Settle, Sleep,
// Resume and Calm.
type Schedule struct {
	// YieldPercent is how often Yield stops a goroutine, in percent. It depends on the seed.
	YieldPercent int

	seed  uint64
	skip  map[int]bool // steps to leave out
	start time.Time

	mu      sync.Mutex
	source  *rand.PCG
	random  *rand.Rand
	step    int
	stopped []stopped
	broken  []string
	story   []string
	told    []string // like story, without step and time, for a transcript
	telling bool
	hash    maphash.Hash

	playing atomic.Bool // the player acts: Yield stops nothing
	calm    atomic.Bool // nothing stops or fails any more
}

// stopped is a goroutine that waits for Resume.
type stopped struct {
	where string
	c     chan struct{}
}

// hashSeed makes the hashes of stories comparable within a process.
var hashSeed = maphash.MakeSeed()

func newSchedule(seed uint64, skip map[int]bool, telling bool) *Schedule {
	s := &Schedule{seed: seed, skip: skip, telling: telling, start: time.Now(), source: rand.NewPCG(seed, 0)}
	s.random = rand.New(s.source)
	s.hash.SetSeed(hashSeed)
	s.YieldPercent = []int{0, 5, 20, 50}[s.N(4)]
	s.playing.Store(true)
	return s
}

// N returns a random number from 0 to n-1.
func (s *Schedule) N(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.random.IntN(n)
}

// One returns one of choices, at random.
func One[T any](s *Schedule, choices ...T) T { return choices[s.N(len(choices))] }

// Chance returns true with a probability in thousandths, and never after Calm.
func (s *Schedule) Chance(perMille int) bool {
	return perMille > 0 && !s.calm.Load() && s.N(1000) < perMille
}

// Yield stops the goroutine at random until the player resumes it. where is for the story.
func (s *Schedule) Yield(where string) {
	if !s.playing.Load() && s.Chance(10*s.YieldPercent) {
		s.Stop(where)
	}
}

// Stop stops the goroutine until the player resumes it; after Calm it returns at once.
func (s *Schedule) Stop(where string) {
	if s.calm.Load() {
		return
	}
	c := make(chan struct{})
	s.mu.Lock()
	s.stopped = append(s.stopped, stopped{where, c})
	s.mu.Unlock()
	<-c
}

// StopUntil is Stop, but returns also when done is closed. It reports whether the player
// resumed the goroutine.
func (s *Schedule) StopUntil(where string, done <-chan struct{}) bool {
	if s.calm.Load() {
		return true
	}
	c := make(chan struct{})
	s.mu.Lock()
	s.stopped = append(s.stopped, stopped{where, c})
	s.mu.Unlock()
	select {
	case <-c:
		return true
	case <-done:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.stopped, func(one stopped) bool { return one.c == c })
	if i < 0 {
		return true // resumed at the same time
	}
	s.stopped = slices.Delete(s.stopped, i, i+1)
	return false
}

// Stopped returns the number of stopped goroutines.
func (s *Schedule) Stopped() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.stopped)
}

// Resume resumes the i-th stopped goroutine.
func (s *Schedule) Resume(i int) {
	s.mu.Lock()
	one := s.stopped[i]
	s.stopped = slices.Delete(s.stopped, i, i+1)
	s.mu.Unlock()
	s.Tell("resume %s", one.where)
	close(one.c)
}

// Settle returns when every goroutine is blocked or stopped.
func (s *Schedule) Settle() {
	s.playing.Store(false)
	synctest.Wait()
	s.playing.Store(true)
}

// Sleep lets time pass. Yield stops nothing meanwhile.
func (s *Schedule) Sleep(d time.Duration) {
	s.playing.Store(true) // orders the player's actions before those of goroutines that run now
	time.Sleep(d)
	synctest.Wait()
}

// Calm begins the end of a schedule: it resumes all stopped goroutines; from now on none is
// stopped, and Chance returns false.
func (s *Schedule) Calm() {
	s.Tell("calm")
	s.calm.Store(true)
	for s.Stopped() > 0 {
		s.Resume(0)
		s.Settle()
	}
}

// IsCalm reports whether Calm has been called.
func (s *Schedule) IsCalm() bool { return s.calm.Load() }

// An Action is something that can happen in a step. Its probability is proportional to Weight.
type Action struct {
	Weight int
	Do     func()
}

// Steps takes n steps. Each does one of the actions that actions returns, or resumes a
// goroutine, waits until every goroutine is blocked or stopped, and calls check. Steps ends
// early if a rule is broken.
func (s *Schedule) Steps(n int, actions func() []Action, check func()) {
	for range n {
		if s.Broken() != "" {
			return
		}
		s.mu.Lock()
		s.step++
		s.source.Seed(s.seed, uint64(s.step)) // so that leaving out a step does not change the others
		left := s.skip[s.step]
		s.mu.Unlock()
		if left {
			continue
		}
		offered := actions()
		if n := s.Stopped(); n > 0 {
			offered = append(offered, Action{40, func() { s.Resume(s.N(n)) }})
		}
		total := 0
		for _, a := range offered {
			total += a.Weight
		}
		if total == 0 {
			continue
		}
		pick := s.N(total)
		for _, a := range offered {
			if pick -= a.Weight; pick < 0 {
				a.Do()
				break
			}
		}
		s.Settle()
		check()
	}
}

// Problem reports that a rule is broken, and how. The schedule fails with the first problem.
// A rule's name is one or a few words without a colon.
func (s *Schedule) Problem(rule, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.broken) < 10 {
		s.broken = append(s.broken, fmt.Sprintf("%s: step %d: %s", rule, s.step, fmt.Sprintf(format, args...)))
	}
}

// Broken returns the first problem, or "".
func (s *Schedule) Broken() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.broken) == 0 {
		return ""
	}
	return s.broken[0]
}

// Step returns the number of the current step.
func (s *Schedule) Step() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.step
}

// IsTold reports whether Tell records anything.
func (s *Schedule) IsTold() bool { return s.telling }

// Tell adds a line to the story, if that is recorded.
func (s *Schedule) Tell(format string, args ...any) {
	if !s.telling {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	text := fmt.Sprintf(format, args...)
	s.told = append(s.told, text)
	line := fmt.Sprintf("%4d %9s  %s", s.step, time.Since(s.start).Round(time.Microsecond), text)
	s.hash.WriteString(line)
	s.story = append(s.story, line)
}

// report returns the story and the problems.
func (s *Schedule) report() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(append(slices.Clone(s.story), s.broken...), "\n")
}
