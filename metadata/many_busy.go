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

// Documents of a MergeMany that were busy: other sessions had their lock or row. They are
// waited for together, after all others are done; MergeMany hands them to wait.

// wait does the jobs that were left over: at each attempt those whose documents are free. It
// returns when all are done, or the call's policy or context ends.
func (c *bulk) wait(ctx context.Context, jobs []*job) {
	c.waits = true
	defer c.pg.queues.waits.end(c)
	for len(jobs) > 0 {
		before := len(jobs)
		jobs = eachBatch(jobs, func(now []*job) []*job { return c.attempt(ctx, now) })
		c.attempts++
		c.counts.waits.Add(int64(len(jobs)))
		if len(jobs) < before {
			continue
		}
		calls := make([]waiting.Call, len(jobs))
		for i, j := range jobs {
			calls[i] = waiting.Call{Key: j.key, Since: c.since}
		}
		c.pg.queues.waits.begin(c, func() []waiting.Call { return calls })
		if cause := c.pause(ctx); cause != nil {
			for _, j := range jobs {
				c.giveUp(ctx, j, cause)
			}
			return
		}
	}
}

// pause waits before the next attempt, or returns why there is none.
func (c *bulk) pause(ctx context.Context) error {
	if ctx.Err() != nil {
		return causeOf(ctx)
	}
	wait, ok := c.polls.Next()
	if !ok {
		return backoff.ErrExhausted
	}
	return c.pg.queues.sleep(ctx, wait)
}

// giveUp ends a job whose document was not free.
func (c *bulk) giveUp(ctx context.Context, j *job, cause error) {
	switch {
	case cause == ErrClosed:
	case c.why != nil && !errors.Is(c.why, errTaken):
		cause = errors.Join(c.why, cause)
	default:
		cause = &lock.BusyError{Key: j.key, Waited: time.Since(c.since), Attempts: c.attempts, Cause: cause}
	}
	j.sent = time.Time{}
	c.end(ctx, j, Document{}, cause)
}

// attempt does those jobs whose documents are free now, in batches and then alone, and returns
// the others. It waits for no lock and no row.
func (c *bulk) attempt(ctx context.Context, jobs []*job) (left []*job) {
	var asked []*job
	for _, j := range jobs {
		if j.free = c.goesAlone(ctx); j.free {
			left = append(left, j)
		} else {
			asked = append(asked, j)
		}
	}
	for portion := range slices.Chunk(asked, maxConnBatch) {
		over, err := c.together(ctx, c.pg.sql.mergeBusy, portion)
		left = append(left, c.settle(ctx, over, err, c.attempt)...)
	}
	return slices.DeleteFunc(left, func(j *job) bool { return j.free && c.mergeApart(ctx, j) })
}

// mergeApart does a job alone, and reports whether it is done.
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
