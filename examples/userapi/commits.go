package main

import (
	"context"
	"slices"
	"sync"
	"time"
)

// A commit is one that this process has made.
type commit struct {
	At     time.Time
	User   string
	Writes int
	Took   time.Duration
	Failed bool
}

// commits remembers the last of them. It is a [metadata.Observer].
type commits struct {
	mu   sync.Mutex
	last []commit
}

// Committed implements [metadata.Observer].
func (c *commits) Committed(_ context.Context, id string, writes int, took time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.last) == 20 {
		c.last = slices.Delete(c.last, 0, 1)
	}
	c.last = append(c.last, commit{time.Now(), id, writes, took.Round(10 * time.Microsecond), err != nil})
}

// Wrote implements [metadata.Observer].
func (c *commits) Wrote(context.Context, string, time.Duration, error) {}

// recent are the last commits, the newest first.
func (c *commits) recent() []commit {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := slices.Clone(c.last)
	slices.Reverse(last)
	return last
}
