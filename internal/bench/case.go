package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"
)

// A testCase is a task that several subjects do in turn.
type testCase struct {
	name  string // family/what[/how many]; what -cases matches
	asks  string // the question, in one sentence
	floor string // the subject that does the least possible work; empty: none
	by    figure // what the ratios compare
	far   bool   // the case also runs over a distance
	fine  bool   // more and shorter rounds, for very short operations, which any other process disturbs

	// prepare creates once what all subjects of the case share, and undo removes it. Nil:
	// nothing.
	prepare func(ctx context.Context, in *arena, p pace) (undo func() error, err error)

	subjects []subject

	rtt time.Duration // the round trip of the distance; 0: the servers' sockets
}

// A subject is one way to do the task of a case.
type subject struct {
	name string
	how  string // how it is used, in a few words
	run  runFunc
}

// runFunc does the case's task for about as long as the pace says, and returns the
// measurement. An error means that there is none: the subject could not do the task. It
// returns soon after ctx has ended.
type runFunc func(ctx context.Context, in *arena, p pace) (*measurement, error)

// A pace is how long a run lasts.
type pace struct {
	Warm  time.Duration // warming up, which does not count: each connection plans each statement six times
	Count time.Duration // the measured time
	Limit time.Duration // after which a run counts as hung
	Quick bool          // -quick: smaller data sets, too
}

// fine returns the pace of a case that is interleaved more finely, and how many of its rounds
// replace a usual one.
func (p pace) fine() (shorter pace, rounds int) {
	if p.Quick {
		return p, 1
	}
	const parts = 4
	p.Warm, p.Count = p.Warm/parts, p.Count/parts
	return p, parts
}

// times makes the measured time longer, for cases that need it.
func (p pace) times(n int) pace {
	p.Count *= time.Duration(n)
	return p
}

// patience limits operations that are in progress when the time is over.
func (p pace) patience() time.Duration { return 3 * p.Count }

// A figure is what the ratios of a case compare. A greater ratio is better: the rate over the
// floor's rate, or the floor's time over the time.
type figure string

const (
	byRate   figure = "ops/s"
	byMedian figure = "p50"
)

func (f figure) better(m, than *measurement) float64 {
	if f == byMedian {
		return quotient(float64(than.Latency.at(50)), float64(m.Latency.at(50)))
	}
	return quotient(m.rate(), than.rate())
}

func quotient(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// An outcome is the result of one run: a measurement, or the reason why there is none.
type outcome struct {
	measurement *measurement
	err         error
	hung        bool
}

// A result has all runs of a case: for each subject, each round.
type result struct {
	testCase
	outcomes [][]outcome
}

// run runs all subjects in turn, in several rounds. The order rotates with the rounds, so that
// no subject always follows the same one.
func (c testCase) run(ctx context.Context, in *arena, p pace, rounds int, progress func(string)) (r result, err error) {
	r = result{c, make([][]outcome, len(c.subjects))}
	if c.prepare != nil {
		progress("preparing")
		undo, err := c.prepare(ctx, in, p)
		if err != nil {
			return r, fmt.Errorf("%s: prepare: %w", c.name, err)
		}
		defer func() { err = errors.Join(err, undo()) }()
	}
	if c.fine {
		shorter, parts := p.fine()
		p, rounds = shorter, rounds*parts
	}
	for round := range rounds {
		for i := range c.subjects {
			i := (i + round) % len(c.subjects)
			s := c.subjects[i]
			progress(fmt.Sprintf("round %d of %d: %s", round+1, rounds, s.name))
			o := outcome{err: errHungBefore, hung: true}
			if done := r.outcomes[i]; len(done) == 0 || !done[len(done)-1].hung {
				o = s.measured(ctx, in, p)
			}
			if ctx.Err() != nil {
				return r, context.Cause(ctx)
			}
			r.outcomes[i] = append(r.outcomes[i], o)
			if err := in.settle(ctx); err != nil {
				return r, err
			}
		}
	}
	return r, nil
}

var errHungBefore = errors.New("not asked again: it hung in an earlier round")

// grace is how long a run may take after its context has ended.
const grace = 5 * time.Second

// measured runs a subject, and adds the measurements of the network, if there is one.
func (s subject) measured(ctx context.Context, in *arena, p pace) outcome {
	if in.network == nil {
		return s.bounded(ctx, in, p)
	}
	if _, err := in.network.use(); err != nil {
		return outcome{err: err}
	}
	began := time.Now()
	o := s.bounded(ctx, in, p)
	use, err := in.network.use()
	if err != nil {
		return outcome{err: err}
	}
	if o.measurement != nil {
		o.measurement.Extra["network late, p99, µs"] = float64(use.Late.Latency.at(99).Nanoseconds()) / 1000
		o.measurement.Extra["network's share of the cores, %"] = 100 * use.Processor.Seconds() / time.Since(began).Seconds() / float64(runtime.NumCPU())
	}
	return o
}

// bounded runs a subject within the time limit: it first cancels the context, then ends the
// subject's sessions at the server, and finally abandons it.
func (s subject) bounded(ctx context.Context, in *arena, p pace) outcome {
	ctx, cancel := context.WithTimeoutCause(ctx, p.Limit, errTooLong)
	defer cancel()
	done := make(chan outcome, 1)
	go func() {
		m, err := s.run(ctx, in, p)
		done <- outcome{measurement: m, err: err}
	}()
	wait := func(stop <-chan struct{}) (outcome, bool) {
		select {
		case o := <-done:
			if o.err != nil {
				o.measurement = nil
			}
			return o, true
		case <-stop:
			return outcome{}, false
		}
	}
	if o, ended := wait(ctx.Done()); ended {
		if o.err != nil && ctx.Err() != nil {
			o.hung = true
		}
		return o
	}
	for _, settled := range []bool{false, true} {
		if settled {
			if err := in.settle(context.WithoutCancel(ctx)); err != nil {
				return outcome{err: err}
			}
		}
		bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(grace, p.Limit))
		o, ended := wait(bound.Done())
		cancel()
		if ended {
			o.hung = o.err != nil
			return o
		}
	}
	return outcome{err: errTooLong, hung: true}
}

var errTooLong = errors.New("hung: it did not end in time")
