package main

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"example.com/lockstore/metadata"
)

// A commit is a commit of this process.
type commit struct {
	At     time.Time
	User   string
	Writes int
	Took   time.Duration
	Failed string // the kind of error; empty: none
}

// commits records the last 20 commits. It is a [metadata.CommitObserver].
type commits struct {
	mu   sync.Mutex
	last []commit
}

// CommitStart returns ctx. It implements [metadata.CommitObserver].
func (*commits) CommitStart(ctx context.Context, _ metadata.CommitStart) context.Context { return ctx }

// CommitEnd records a commit. It implements [metadata.CommitObserver].
func (c *commits) CommitEnd(_ context.Context, e metadata.CommitEnd) {
	if e.Writes == 0 { // the document is locked: the store tries again
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.last) == 20 {
		c.last = slices.Delete(c.last, 0, 1)
	}
	c.last = append(c.last, commit{time.Now(), strings.Join(e.IDs, ", "), e.Writes, e.Took.Round(10 * time.Microsecond), metadata.ErrorType(e.Err)})
}

// recent returns the last commits, newest first.
func (c *commits) recent() []commit {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := slices.Clone(c.last)
	slices.Reverse(last)
	return last
}
