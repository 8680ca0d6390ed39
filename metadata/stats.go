package metadata

import (
	"errors"
	"sync/atomic"
	"time"

	"example.com/lockstore/lock"
)

// Stats counts what a store, with all its views, has done since it was made. Subtract two,
// except for Largest, to see what happened in between. A [Memory] counts no Commits, Largest
// and Waits.
type Stats struct {
	Writes    int64         // writes by Merge, MergeMany, Update, Replace, Delete that succeeded
	Bytes     int64         // of their patches and documents, as PostgreSQL prints them; none of an Update
	WriteTime time.Duration // the sum of the time that they took
	Failures  int64         // writes that failed, also those refused before anything was sent
	Busy      int64         // failures: a write gave up waiting for the document's lock
	Conflicts int64         // failures: the document had another version
	Rejected  int64         // failures: the database refused the data
	Unknown   int64         // failures with an unknown outcome

	Commits int64 // transactions that gave writes their outcome; Writes ÷ Commits is the mean batch
	Largest int64 // the most writes that shared one
	Waits   int64 // attempts that failed for the time being, mostly because the lock or row was taken
}

// counts are the counters of Stats.
type counts struct {
	writes, bytes, nanos, failures, busy, conflicts, rejected, unknown atomic.Int64
	commits, largest, waits                                            atomic.Int64
}

func (c *counts) wrote(size int, took time.Duration, err error) {
	if err == nil {
		c.writes.Add(1)
		c.bytes.Add(int64(size))
		c.nanos.Add(int64(took))
		return
	}
	c.failures.Add(1)
	for reason, count := range map[error]*atomic.Int64{
		lock.ErrBusy: &c.busy, ErrConflict: &c.conflicts, ErrRejected: &c.rejected, ErrUnknownOutcome: &c.unknown,
	} {
		if errors.Is(err, reason) {
			count.Add(1)
		}
	}
}

func (c *counts) committed(writes int) {
	c.commits.Add(1)
	for {
		largest := c.largest.Load()
		if int64(writes) <= largest || c.largest.CompareAndSwap(largest, int64(writes)) {
			return
		}
	}
}

func (c *counts) stats() Stats {
	return Stats{
		Writes: c.writes.Load(), Bytes: c.bytes.Load(), WriteTime: time.Duration(c.nanos.Load()),
		Failures: c.failures.Load(), Busy: c.busy.Load(), Conflicts: c.conflicts.Load(),
		Rejected: c.rejected.Load(), Unknown: c.unknown.Load(),
		Commits: c.commits.Load(), Largest: c.largest.Load(), Waits: c.waits.Load(),
	}
}
