// Package simulate plays schedules of concurrent code: one goroutine at a time
// goes on, from one point where it could be overtaken to the next, and a seed
// decides which. Time is that of a testing/synctest bubble.
//
// A package's simulation gives [Run] a function that builds the code under test
// on a model of what is below it, takes [Schedule.Steps] of its own choosing, and
// says by [Schedule.Problem] which rule was broken. Run plays as many seeds as it
// is told to, on all cores, and prints the first that fails with the shortest
// story that it can make of it.
//
// How exactly a seed replays: all choices are drawn from it, and goroutines run
// on one core. What remains is the runtime's own choice where a select statement
// finds two cases ready, or two goroutines are made ready within a step. The flag
// -twice measures it.
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

// A Schedule is one play. Its methods may be called by any goroutine of the
// bubble, but for Steps, Settle, Sleep, Resume and Calm, which are its player's.
type Schedule struct {
	// YieldPercent is how often Yield stops a goroutine; it is drawn from the seed.
	YieldPercent int

	seed  uint64
	skip  map[int]bool // steps that are left out
	start time.Time

	mu      sync.Mutex
	source  *rand.PCG
	random  *rand.Rand
	step    int
	stopped []stopped
	broken  []string
	story   []string
	told    []string // the same without step and time, for a transcript
	telling bool
	hash    maphash.Hash

	playing atomic.Bool // the player acts: nobody is stopped
	calm    atomic.Bool // nobody is stopped any more, and nothing fails
}

// stopped is a goroutine that waits to be resumed.
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

// N draws a number from 0 to n-1.
func (s *Schedule) N(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.random.IntN(n)
}

// One draws one of choices.
func One[T any](s *Schedule, choices ...T) T { return choices[s.N(len(choices))] }

// Chance reports true so many times in a thousand, and never once all is calm.
func (s *Schedule) Chance(perMille int) bool {
	return perMille > 0 && !s.calm.Load() && s.N(1000) < perMille
}

// Yield stops the goroutine now and then, until the player resumes it.
func (s *Schedule) Yield(where string) {
	if !s.playing.Load() && s.Chance(10*s.YieldPercent) {
		s.Stop(where)
	}
}

// Stop stops the goroutine until the player resumes it.
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

// StopUntil is Stop, which done ends, too. It reports whether the player resumed
// the goroutine.
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
		return true // at the same time
	}
	s.stopped = slices.Delete(s.stopped, i, i+1)
	return false
}

// Stopped is how many goroutines wait to be resumed.
func (s *Schedule) Stopped() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.stopped)
}

// Resume lets the i-th stopped goroutine go on.
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

// Sleep has time pass, in which nobody is stopped by Yield.
func (s *Schedule) Sleep(d time.Duration) {
	s.playing.Store(true) // what the player has done comes before what others do now
	time.Sleep(d)
	synctest.Wait()
}

// Calm begins the end of a play: nobody is stopped any more, those who are go on,
// and Chance is no more.
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

// An Action is something that can happen next, and how likely it is.
type Action struct {
	Weight int
	Do     func()
}

// Steps has n times one of the actions happen that actions offers, lets everybody
// who can go on, and calls check. It ends early once a rule is broken.
func (s *Schedule) Steps(n int, actions func() []Action, check func()) {
	for range n {
		if s.Broken() != "" {
			return
		}
		s.mu.Lock()
		s.step++
		s.source.Seed(s.seed, uint64(s.step)) // so that leaving out a step leaves the others as they are
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

// Problem says that a rule is broken, and how. The first one is what the play
// fails of. A rule's name is a word or a few, without a colon.
func (s *Schedule) Problem(rule, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.broken) < 10 {
		s.broken = append(s.broken, fmt.Sprintf("%s: step %d: %s", rule, s.step, fmt.Sprintf(format, args...)))
	}
}

// Broken is the first problem, or empty.
func (s *Schedule) Broken() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.broken) == 0 {
		return ""
	}
	return s.broken[0]
}

// Step is the number of the step under way.
func (s *Schedule) Step() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.step
}

// IsTold reports whether somebody reads what Tell is told.
func (s *Schedule) IsTold() bool { return s.telling }

// Tell adds a line to the story, where somebody wants to read it.
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

// report is what became of a play, for its reader.
func (s *Schedule) report() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(append(slices.Clone(s.story), s.broken...), "\n")
}
