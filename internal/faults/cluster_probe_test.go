package faults_test

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// The interval of the probes, and their time limit.
const (
	probeEvery    = 20 * time.Millisecond
	probePatience = 500 * time.Millisecond
)

// A probe observes the nodes' roles: it asks each over its unix socket.
type probe struct {
	mu      sync.Mutex
	primary map[*node][]time.Time // when it said that it is the primary
	commits []commit
}

type commit struct {
	at time.Time
	by *node
}

// ask asks a node for its role until ctx ends, and makes a primary commit.
func (p *probe) ask(ctx context.Context, n *node) {
	var conn *pgx.Conn
	defer func() {
		if conn != nil {
			_ = conn.Close(context.Background())
		}
	}()
	for ; ctx.Err() == nil; time.Sleep(probeEvery) {
		brief, cancel := context.WithTimeout(ctx, probePatience)
		var err error
		if conn == nil || conn.IsClosed() {
			conn, err = pgx.Connect(brief, "host="+n.dir+" user=postgres dbname=app")
		}
		var standby bool
		if err == nil {
			err = conn.QueryRow(brief, "SELECT pg_is_in_recovery()").Scan(&standby)
		}
		if err == nil && !standby {
			p.mu.Lock()
			p.primary[n] = append(p.primary[n], time.Now())
			p.mu.Unlock()
			if _, err = conn.Exec(brief, "INSERT INTO probe DEFAULT VALUES"); err == nil {
				p.mu.Lock()
				p.commits = append(p.commits, commit{time.Now(), n})
				p.mu.Unlock()
			}
		}
		cancel()
	}
}

// first returns the first commit after a time, by any node but one.
func (p *probe) first(after time.Time, but *node) (at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.commits {
		if c.at.After(after) && c.by != but && (at.IsZero() || c.at.Before(at)) {
			at = c.at
		}
	}
	return at
}

// gap returns the longest time without a commit between two times.
func (p *probe) gap(from, to time.Time) (longest time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := from
	for _, c := range p.commits {
		if c.at.After(from) && c.at.Before(to) {
			longest = max(longest, c.at.Sub(last))
			last = c.at
		}
	}
	return max(longest, to.Sub(last))
}

// both returns how long, after a time, the old primary and another node both said that they
// are the primary.
func (p *probe) both(old *node, after time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	var last, first time.Time // when the old one said so, and when another did
	for n, times := range p.primary {
		for _, at := range times {
			switch {
			case at.Before(after):
			case n == old:
				last = at
			case first.IsZero() || at.Before(first):
				first = at
			}
		}
	}
	if first.IsZero() {
		return 0
	}
	return max(0, last.Sub(first))
}

// two reports whether more than one node said that it was the primary, in a period or shortly
// before or after it.
func (p *probe) two(from, to time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	said := 0
	for _, times := range p.primary {
		for _, at := range times {
			if at.After(from.Add(-probePatience)) && at.Before(to.Add(probePatience)) {
				said++
				break
			}
		}
	}
	return said > 1
}
