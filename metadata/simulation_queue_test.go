package metadata

import (
	"errors"
	"fmt"
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
		for _, c := range l.calls {
			size += c.size
		}
		switch most := p.store.options.MaxWaitingBytes; {
		case size != l.size:
			p.Problem("QUEUE", "%s: %d bytes wait, and %d are counted", key.id, size, l.size)
		case size > most && len(l.calls) > 1:
			p.Problem("QUEUE", "%s: %d bytes wait, of %d", key.id, size, most)
		}
	}
}

// judgeCaptains judges for how long others wait for one that waits for a connection.
func (p *process) judgeCaptains() {
	seen := map[*passage]time.Time{}
	for principal, b := range p.store.pg.queue.boardings {
		since, known := p.captains[b.captain]
		if !known {
			since = time.Now()
		}
		seen[b.captain] = since
		if len(b.waiting) == 0 || p.yielding.Load() > 0 {
			continue
		}
		hasRoom := p.pool.free > 0 && time.Since(p.pool.freed) > lateness && time.Since(since) > lateness
		if hasRoom || time.Since(since) > lateAnywhere+lateness {
			p.Problem("HELD UP", "%d wait for a captain of %q, for %s", len(b.waiting), principal, time.Since(since))
		}
	}
	p.captains = seen
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
