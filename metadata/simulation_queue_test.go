package metadata

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"example.com/lockstore/lock"
)

// judgeQueue judges how much waits for each document. Nobody else is at work.
func (p *process) judgeQueue() {
	if p.closing {
		return
	}
	p.judgeCaptains()
	for key, l := range p.store.pg.queue.lines {
		size := 0
		for _, c := range l.all() {
			size += c.size
		}
		switch most := p.store.options.MaxWaitingBytes; {
		case size != l.size:
			p.Problem("QUEUE", "%s: %d bytes wait, and %d are counted", key.id, size, l.size)
		case size > most && len(l.all()) > 1:
			p.Problem("QUEUE", "%s: %d bytes wait, of %d", key.id, size, most)
		}
	}
}

// all is who waits or is under way.
func (l *line) all() []*call {
	calls := slices.Clone(l.calls)
	if l.chain != nil {
		for _, f := range l.chain.flights {
			calls = append(calls, f.calls...)
		}
	}
	return calls
}

// A watched captain was not there at one moment that was judged. It has been on its way
// since another, the first in which the schedule kept nobody from it.
type watched struct{ before, since time.Time }

// judgeCaptains judges for how long others wait for one that waits for a connection:
// for twice as long as the pool was full.
func (p *process) judgeCaptains() {
	now, seen, kept := time.Now(), map[*passage]watched{}, p.yielding.Load() > 0
	for principal, b := range p.store.pg.queue.boardings {
		c, known := p.captains[b.captain]
		if !known {
			c.before = p.judged
		}
		if c.since.IsZero() && !kept {
			c.since = now
		}
		seen[b.captain] = c
		if len(b.waiting) == 0 || kept {
			continue
		}
		age, full := now.Sub(c.since), max(0, p.pool.freed.Sub(c.before))
		if p.pool.free > 0 && age > 2*full+2*lateCaptain || age > 3*lastLook {
			p.Problem("HELD UP", "%d wait for a captain of %q, for %s", len(b.waiting), principal, age)
		}
	}
	p.captains, p.judged = seen, now
}

// isFull reports whether an op was refused since others waited.
func (o *op) isFull() bool {
	return errors.Is(o.err, lock.ErrBusy) && errors.Is(o.err, errQueueFull)
}

// dearMembers make a patch one that is not for the merge function.
var dearMembers = func() string {
	var b strings.Builder
	for n := range cheapSteps + 1 {
		fmt.Fprintf(&b, `,"n%d":null`, n)
	}
	return b.String()
}()

// judgeCompany judges that no such patch is in a statement with the merge function.
func (p *process) judgeCompany(text string, args []any) {
	switch name := p.dialect.names[text]; name {
	case "merge", "merge many", "merge free", "merge late", "create many":
		if strings.Contains(fmt.Sprint(args[1]), `"n0": null`) {
			p.Problem("COMPANY", "%s of what is to be merged in Go", name)
		}
	}
}
