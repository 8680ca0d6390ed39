package main

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"example.com/lockstore/metadata"
)

// A commit is one that this process has made.
type commit struct {
	At     time.Time
	User   string
	Writes int
	Took   time.Duration
	Failed string // of which kind of error; empty: it has not
}

// commits remembers the last of them. It is a [metadata.CommitObserver].
type commits struct {
	mu   sync.Mutex
	last []commit
}

// CommitStart implements [metadata.CommitObserver].
func (*commits) CommitStart(ctx context.Context, _ metadata.CommitStart) context.Context { return ctx }

// CommitEnd implements [metadata.CommitObserver].
func (c *commits) CommitEnd(_ context.Context, e metadata.CommitEnd) {
	if e.Writes == 0 { // somebody has the document's lock, and it is tried again
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.last) == 20 {
		c.last = slices.Delete(c.last, 0, 1)
	}
	c.last = append(c.last, commit{time.Now(), strings.Join(e.IDs, ", "), e.Writes, e.Took.Round(10 * time.Microsecond), metadata.ErrorType(e.Err)})
}

// recent are the last commits, the newest first.
func (c *commits) recent() []commit {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := slices.Clone(c.last)
	slices.Reverse(last)
	return last
}
