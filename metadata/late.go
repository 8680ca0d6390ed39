package metadata

import (
	"context"
	"errors"
	"slices"
	"time"

	"example.com/lockstore/backoff"
	"example.com/lockstore/internal/waiting"
	"example.com/lockstore/lock"
)

// wait does jobs that were left over, at each look those whose documents are free. It
// returns when all are done, or the call's patience or context ends.
func (c *bulk) wait(ctx context.Context, jobs []*job) {
	c.waits = true
	defer c.pg.queue.waits.end(c)
	for len(jobs) > 0 {
		before := len(jobs)
		jobs = pass(jobs, func(now []*job) []*job { return c.look(ctx, now) })
		c.looks++
		c.counts.waits.Add(int64(len(jobs)))
		if len(jobs) < before {
			continue
		}
		calls := make([]waiting.Call, len(jobs))
		for i, j := range jobs {
			calls[i] = waiting.Call{Key: j.key, Since: c.since}
		}
		c.pg.queue.waits.begin(c, func() []waiting.Call { return calls })
		if cause := c.pause(ctx); cause != nil {
			for _, j := range jobs {
				c.giveUp(ctx, j, cause)
			}
			return
		}
	}
}

// pause waits before the next look, or returns why there will be none.
func (c *bulk) pause(ctx context.Context) error {
	if ctx.Err() != nil {
		return causeOf(ctx)
	}
	wait, ok := c.polls.Next()
	if !ok {
		return backoff.ErrExhausted
	}
	return c.pg.queue.sleep(ctx, wait)
}

// giveUp ends a job whose document was not free.
func (c *bulk) giveUp(ctx context.Context, j *job, cause error) {
	switch {
	case cause == ErrClosed:
	case c.why != nil && !errors.Is(c.why, errTaken):
		cause = errors.Join(c.why, cause)
	default:
		cause = &lock.BusyError{Key: j.key, Waited: time.Since(c.since), Attempts: c.looks, Cause: cause}
	}
	j.sent = time.Time{}
	c.end(ctx, j, Document{}, cause)
}

// look does those of jobs whose documents are free now, in portions and then apart. It
// waits for nobody.
func (c *bulk) look(ctx context.Context, jobs []*job) (left []*job) {
	var asked []*job
	for _, j := range jobs {
		if j.free = c.goesAlone(ctx); j.free {
			left = append(left, j)
		} else {
			asked = append(asked, j)
		}
	}
	for portion := range slices.Chunk(asked, maxAboard) {
		over, err := c.together(ctx, c.pg.sql.mergeLate, portion)
		left = append(left, c.settle(ctx, over, err, c.look)...)
	}
	return slices.DeleteFunc(left, func(j *job) bool { return j.free && c.mergeApart(ctx, j) })
}

// mergeApart does a job by itself, and reports whether it could.
func (c *bulk) mergeApart(ctx context.Context, j *job) bool {
	j.free, j.sent = false, time.Time{}
	w := j.view.merging(j.patch)
	w.try = true
	doc, err := c.engine.write(ctx, j.id, w)
	gone := endedWith(ctx, err)
	if gone || errors.Is(err, backoff.ErrExhausted) {
		return false
	}
	c.end(ctx, j, doc, err)
	return true
}
