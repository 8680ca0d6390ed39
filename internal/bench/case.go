package main

import (
	"context"
	"time"
)

// A testCase is one question that is asked of several subjects in turn.
type testCase struct {
	name  string // family/what[/how many]; what -cases matches
	asks  string // the question, in one sentence
	floor string // the subject that is the least anybody could do; empty: there is none
	by    figure // what the ratios compare
	far   bool   // it is also asked over a distance
	fine  bool   // more and shorter rounds, for what takes next to no time and suffers from every neighbour

	// prepare makes what all subjects of the case share, once, and undo
	// removes it. Nil: there is nothing to make.
	prepare func(ctx context.Context, in *arena, p pace) (undo func() error, err error)

	subjects []subject

	rtt time.Duration // the distance, there and back; 0: the servers' sockets
}

// A subject is one way to do what a case asks for.
type subject struct {
	name string
	how  string // it is called, in a few words
	run  runFunc
}

// runFunc does what the case asks for about as long as the pace says, and says
// how that went. An error means that there is nothing to say: the subject could
// not do it at all. It returns soon after ctx has ended.
type runFunc func(ctx context.Context, in *arena, p pace) (*measurement, error)

// A pace is how long a run lasts.
type pace struct {
	Warm  time.Duration // what is done first, and does not count
	Count time.Duration // what counts
	Limit time.Duration // after which a run counts as hung
	Quick bool          // -quick: large data sets are made smaller, too
}

// fine is the pace of a case that is to be interleaved more finely, and how many
// rounds make one of the usual ones.
func (p pace) fine() (shorter pace, rounds int) {
	if p.Quick {
		return p, 1
	}
	const parts = 4
	p.Warm, p.Count = p.Warm/parts, p.Count/parts
	return p, parts
}

// times makes the counted part of a run longer, for cases that need more of it.
func (p pace) times(n int) pace {
	p.Count *= time.Duration(n)
	return p
}

// patience bounds how long what is under way may go on when the time is over.
func (p pace) patience() time.Duration { return 3 * p.Count }

// A figure is what the ratios of a case compare. A ratio is always so many times
// better: the rate over the floor's rate, or the floor's time over the time.
type figure string

const (
	byRate   figure = "ops/s"
	byMedian figure = "p50"
)

func (f figure) better(m, than *measurement) float64 {
	if f == byMedian {
		return quotient(float64(than.latency.at(50)), float64(m.latency.at(50)))
	}
	return quotient(m.rate(), than.rate())
}

func quotient(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}
