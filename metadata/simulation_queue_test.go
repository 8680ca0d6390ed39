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
	p.judgeConnLeaders()
	for key, wq := range p.store.pg.queues.byKey {
		size := 0
		for _, c := range wq.all() {
			size += c.size
		}
		switch most := p.store.options.MaxWaitingBytes; {
		case size != wq.size:
			p.Problem("QUEUE", "%s: %d bytes wait, and %d are counted", key.id, size, wq.size)
		case size > most && len(wq.all()) > 1:
			p.Problem("QUEUE", "%s: %d bytes wait, of %d", key.id, size, most)
		}
	}
}

// all is who waits or is under way.
func (wq *waitQueue) all() []*call {
	calls := slices.Clone(wq.calls)
	if wq.chain != nil {
		for _, f := range wq.chain.commits {
			calls = append(calls, f.calls...)
		}
	}
	return calls
}

// A watched leader of a connection queue was not there at one moment that was judged. It has been on its way
// since another, the first in which the schedule kept nobody from it.
type watched struct{ before, since time.Time }

// judgeConnLeaders judges for how long others wait for one that waits for a connection:
// for twice as long as the pool was full, and until the last look at most.
func (p *process) judgeConnLeaders() {
	now, seen, kept := time.Now(), map[*connWaiter]watched{}, p.yielding.Load() > 0
	for principal, b := range p.store.pg.queues.connQueues {
		c, known := p.connLeaders[b.leader]
		if !known {
			c.before = p.judged
		}
		if c.since.IsZero() && !kept {
			c.since = now
		}
		seen[b.leader] = c
		if len(b.waiting) == 0 || kept {
			continue
		}
		age, full := now.Sub(c.since), max(0, p.pool.freed.Sub(c.before))
		if p.pool.free > 0 && age > 2*full+2*lateConnLeader || age > lastLook+2*lateConnLeader {
			p.Problem("HELD UP", "%d wait for the connection leader of %q, for %s", len(b.waiting), principal, age)
		}
	}
	p.connLeaders, p.judged = seen, now
}

// isFull reports whether an op was refused since others waited.
func (o *op) isFull() bool {
	return errors.Is(o.err, lock.ErrBusy) && errors.Is(o.err, errQueueFull)
}

// costlyMembers make a patch one that is not for the merge function.
var costlyMembers = func() string {
	var b strings.Builder
	for n := range cheapSteps + 1 {
		fmt.Fprintf(&b, `,"n%d":null`, n)
	}
	return b.String()
}()

// judgeCompany judges that no such patch is in a statement with the merge function.
func (p *process) judgeCompany(text string, args []any) {
	switch name := p.dialect.names[text]; name {
	case "merge", "merge many", "merge free", "merge busy", "create many":
		if strings.Contains(fmt.Sprint(args[1]), `"n0": null`) {
			p.Problem("COMPANY", "%s of what is to be merged in Go", name)
		}
	}
}
