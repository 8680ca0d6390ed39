package metadata

import "errors"

// judgeEnd judges what is left of a process when nobody wants anything any more,
// and what it says that it has done.
func (p *process) judgeEnd() {
	w, q, stats := p.world, &p.store.pg.queues, p.store.Stats()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !p.closed {
		w.Problem("CLOSE", "process %d: does not return", p.n)
	}
	if len(q.byKey) != 0 || len(q.connQueues) != 0 {
		w.Problem("LEAK", "process %d: %d wait queues, %d connection queues", p.n, len(q.byKey), len(q.connQueues))
	}
	if len(p.pool.used) != 0 {
		w.Problem("LEAK", "process %d: %d connections", p.n, len(p.pool.used))
	}
	for by, left := range w.removals {
		for _, o := range w.ops {
			if o.kind == "delete" && o.at == by.at && o.doc == by.id && (o.panicked != nil || errors.Is(o.err, ErrUnknownOutcome)) {
				left--
			}
		}
		if by.at == p && left > 0 {
			w.Problem("DENIED THOUGH MADE", "process %d: %d removals of %s", p.n, left, by.id)
		}
	}
	for _, t := range w.holds {
		if t.writing < 0 || t.writing > 0 && !w.strange.Load() && len(w.hosts) == 0 { // writes of a host end with its transaction
			w.Problem("LEAK", "hold %d of %s: %d writing", t.number, t.id, t.writing)
		}
	}
	p.judgeStats(&stats)
}

// judgeStats compares what the store has counted with what its observer was told,
// and with the answers.
func (p *process) judgeStats(stats *Stats) {
	w, seen := p.world, &p.seen
	for _, c := range []struct {
		what         string
		counted, was int64
	}{
		{"writes", stats.Writes, seen.made.Load()}, {"failures", stats.Failures, seen.failed.Load()},
		{"unknown", stats.Unknown, seen.unknown.Load()}, {"conflicts", stats.Conflicts, seen.conflicts.Load()},
		{"rejected", stats.Rejected, seen.rejected.Load()}, {"busy", stats.Busy, seen.busy.Load()},
	} {
		if c.counted != c.was && !seen.torn.Load() {
			w.Problem("STATS", "process %d: %d %s, but its observer was told of %d", p.n, c.counted, c.what, c.was)
		}
	}
	if w.panics > 0 {
		return // which can keep an observer from being told
	}
	if begun, ended := seen.begun.Load(), seen.ended.Load(); begun != ended {
		w.Problem("STATS", "process %d: its observer was told of %d beginnings and %d ends", p.n, begun, ended)
	}
	var made, many int64
	halved := false // a MergeMany can decide on what a statement failed of later
	for _, o := range w.ops {
		halved = halved || o.at == p && o.kind == "many"
		if o.at == p && o.writes() && o.err == nil {
			made++
			if o.group != nil || o.host != nil {
				many++
			}
		}
	}
	if stats.Writes != made {
		w.Problem("STATS", "process %d: %d writes, but %d were acknowledged", p.n, stats.Writes, made)
	}
	if decided := seen.decided.Load(); decided < made-many {
		w.Problem("STATS", "process %d: commits of %d writes, but %d were acknowledged", p.n, decided, made-many)
	}
	if stats.Largest < seen.largest.Load() && many == 0 {
		w.Problem("STATS", "process %d: the largest commit is %d, but its observer was told of %d", p.n, stats.Largest, seen.largest.Load())
	}
	if told := seen.commits.Load(); told != stats.Commits && !halved {
		w.Problem("STATS", "process %d: %d commits, but its observer was told of %d", p.n, stats.Commits, told)
	}
	if made-many > 0 && stats.Commits == 0 {
		w.Problem("STATS", "process %d: no commit", p.n)
	}
}

func (o *op) writes() bool {
	return o.done && o.kind != "many" && o.kind != "get" && o.kind != "get many"
}

// judgeEnd judges what is left in the server.
func (v *server) judgeEnd() {
	v.w.mu.Lock()
	defer v.w.mu.Unlock()
	for id, r := range v.rows {
		if r.holder != nil || len(r.waiting) > 0 || r.current != r.committed {
			v.w.Problem("LEAK", "row %s is locked", id)
		}
	}
	for id := range v.locks {
		v.w.Problem("LEAK", "lock %v is taken", id)
	}
}
