// Package mutants checks that the tests of metadata find known faults: its simulations, and those
// that a mutant names. It is a package of its own because it takes long.
package mutants

import (
	"testing"

	"example.com/lockstore/internal/simulate"
)

// TestMutants checks that the simulation, or the test that a mutant names, finds the fault in each.
func TestMutants(t *testing.T) { simulate.RejectMutants(t, "../..", "TestSimulation", mutants) }

var mutants = []simulate.Mutant{
	// The queue.
	{
		Name: "what has been taken can withdraw", File: "queue.go",
		Old: "\tcase i < wq.taken: // or under way, in a chain\n\t\tc.leaving = cause\n\t\treturn false\n", New: "",
		Rule: "DENIED THOUGH MADE, PANIC, LATE ANSWER, EMPTY ANSWER, LIVENESS",
	},
	{
		Name: "what is put back is not told that its context has ended", File: "queue.go",
		Old: "case c.leaving != nil:", New: "case false:",
		Rule: "LATE ANSWER",
	},
	{
		Name: "the next leader is not told", File: "queue.go",
		Old: "\twq.calls[0].signal <- struct{}{}\n", New: "",
		Rule: "LATE ANSWER, LIVENESS",
	},
	{
		Name: "patience is inherited", File: "queue.go",
		Old: "\t\twq.calls, wq.led = wq.calls[1:], false\n", New: "\t\tpolls := wq.calls[0].polls\n\t\twq.calls, wq.led = wq.calls[1:], false\n\t\tif len(wq.calls) > 0 {\n\t\t\twq.calls[0].polls = polls\n\t\t}\n",
		Rule: "PATIENCE",
	},
	{
		Name: "patience is used up by others' attempts", File: "queue.go",
		Old: "\t\tcase !c.due.After(now):\n", New: "\t\tcase !c.due.After(now):\n\t\t\tc.polls.Next()\n",
		Rule: "PATIENCE, LATE ANSWER",
	},
	{
		Name: "who stands behind others has the patience of all", File: "queue.go",
		Old: "\t\t\tcase c.found <- struct{}{}:\n", New: "\t\t\tcase make(chan struct{}, 1) <- struct{}{}:\n",
		Rule: "PATIENCE",
	},
	{
		Name: "Close does not wait", File: "queue.go",
		Old: "\tq.sent.Wait()\n", New: "",
		Rule: "CLOSE",
	},
	{
		Name: "Close leaves who waits", File: "queue.go",
		Old: "\t\t\tfor _, c := range wq.calls[from:] {\n\t\t\t\tc.tell(ErrClosed)\n\t\t\t}\n\t\t\twq.calls = wq.calls[:from]\n", New: "\t\t\t_ = from\n",
		Rule: "LATE ANSWER",
	},
	{
		Name: "a queue has no bound", File: "queue.go",
		Old: "if c.size > maxBytes-wq.size {", New: "if false {",
		Rule: "QUEUE",
	},
	{
		Name: "what leaves the queue still counts", File: "queue.go",
		Old: "\twq.size -= c.size\n\tc.err = wq.busyError(c, cause)\n", New: "\tc.err = wq.busyError(c, cause)\n",
		Rule: "QUEUE",
	},
	{
		Name: "what is answered still counts", File: "queue.go",
		Old: "\tfor _, c := range answered {\n\t\twq.size -= c.size\n\t}\n", New: "",
		Rule: "QUEUE",
	},

	// Rights.
	{
		Name: "what tells callers apart is not compared", File: "queue.go",
		Old: "&& c.principal == other.principal", New: "",
		Rule: "RIGHTS",
	},
	{
		Name: "who may write alone only shares a commit", File: "queue.go",
		Old: "!c.alone && !other.alone &&", New: "",
		Rule: "RIGHTS, TWICE, DENIED THOUGH MADE",
	},
	{
		Name: "who may write alone only shares a connection", File: "sharedconn.go",
		Old: "p.isOneStatement(wq, c) && !c.alone &&", New: "p.isOneStatement(wq, c) &&",
		Rule: "RIGHTS",
	},
	{
		Name: "what tells callers apart is not kept", File: "lead.go",
		Old: "\t\tc.principal = p.options.Principal(ctx)\n", New: "\t\t_ = p.options.Principal(ctx)\n",
		Rule: "RIGHTS",
	},
	{
		Name: "a connection is shared with anybody", File: "sharedconn.go",
		Old: "principal: c.principal}", New: `principal: ""}`,
		Rule: "RIGHTS",
	},
	{
		Name: "that a pool prepares its connections is not looked at", File: "lead.go",
		Old: "case p.db.PreparesForCaller():", New: "case false:",
		Rule: "RIGHTS",
	},

	// Reads.
	{
		Name: "a read serves who came after it was sent", File: "reads.go",
		Old: "\tdoc, err = read()\n\tif err", New: "\tdoc, err = read()\n\tfollowers = append(followers, q.takeWaiting(key)...)\n\tif err",
		Rule: "STALE",
	},
	{
		Name: "nobody leads those that wait to read", File: "reads.go",
		Old: "case len(b.waiting) > 0:", New: "case false:",
		Rule: "PANIC, LATE ANSWER, LIVENESS",
	},
	{
		Name: "what its leader has not read is served", File: "reads.go",
		Old: "if err == nil && len(followers) > 0 {", New: "if len(followers) > 0 {",
		Rule: "EMPTY ANSWER, STALE, UNFOUNDED, VERSION",
	},

	// The leader.
	{
		Name: "who was not decided on is answered", File: "lead.go",
		Old: "\twhole = true\n", New: "\twhole = true\n\tif n > 0 {\n\t\tn = len(calls)\n\t}\n",
		Rule: "EMPTY ANSWER, LOST WRITE, REFUSED, DENIED THOUGH MADE, VERSION, TWICE, BASIS, STALE, UNFOUNDED",
	},
	{
		Name: "a panic puts back what may have been made", File: "lead.go",
		Old: "n = max(1, p.queues.abandon(wq))", New: "n = 1",
		Rule: "TWICE, VERSION, DENIED THOUGH MADE, UNFOUNDED",
	},
	{
		Name: "after a panic all that was sent counts as made", File: "queue.go",
		Old: "decide(wq.calls[n:n+1], ErrUnknownOutcome)", New: "decide(wq.calls[n:n+1], nil)",
		Rule: "LOST WRITE, EMPTY ANSWER, REFUSED, STATS",
	},
	{
		Name: "halving forgets the second half", File: "lead.go",
		Old: "\t\trest, err := p.commit(ctx, conn, wq, leader, calls[half:])\n\t\treturn half + rest, err\n", New: "\t\treturn done, nil\n",
		Rule: "LOST WRITE, EMPTY ANSWER, REFUSED, STATS",
	},
	{
		Name: "decide is run again where each write has its own commit", File: "lead.go",
		Old: "isRepeatable(err) && !once:", New: "isRepeatable(err) && (!once || true):",
		Rule: "TWICE",
	},
	{
		Name: "who decides is waited for", File: "decide.go",
		Old: "timer := time.NewTimer(p.budget())", New: "timer := time.NewTimer(time.Hour)",
		Rule: "HELD UP, LATE ANSWER, LIVENESS",
	},
	{
		Name: "others are taken along while the leader decides", File: "queue.go",
		Old: "c.size, c.decide != nil, undecided", New: "c.size, false, undecided",
		Rule: "HELD UP, CLOSE",
	},
	{
		Name: "who decides for long keeps the document", File: "queue.go",
		Old: "return len(wq.calls) > 1 || wq.apart && q.byKey[wq.key] != nil", New: "return false",
		Rule: "HELD UP, LATE ANSWER",
	},
	{
		Name: "who lets the document go keeps its row", File: "decide.go",
		Old: "\t\t\ts.undo()\n", New: "",
		Rule: "HELD UP", Schedules: 150000, // it takes a leader that has opened the row and decides for long
	},
	{
		Name: "what was decided on another document counts", File: "decide.go",
		Old: "w.lastDecision == nil || !w.lastDecision.holdsFor(wc.doc)", New: "w.lastDecision == nil",
		Rule: "BASIS",
	},
	{
		Name: "what is covered is not stored", File: "workingcopy.go",
		Old: "case w.covers && d.changes > 0:", New: "case false:",
		Rule: "LOST WRITE, TWICE, REFUSED",
	},
	{
		Name: "the first part of a commit is made without the last", File: "write.go",
		Old: "\t\ts.last = s.checked\n", New: "",
		Rule: "BASIS, DENIED THOUGH MADE, TWICE, VERSION, LOST WRITE",
	},
	{
		Name: "who decides for too long is forgotten", File: "queue.go",
		Old: "\tc.tell(errSlowDecision)\n", New: "",
		Rule: "LATE ANSWER, LIVENESS",
	},
	{
		Name: "what may have been made is tried again", File: "lead.go",
		Old: `&& !errors.Is(err, ErrUnknownOutcome)
}`, New: `|| errors.Is(err, ErrUnknownOutcome)
}`,
		Rule: "TWICE, DENIED THOUGH MADE, VERSION, PATIENCE",
	},
	{
		Name: "a write under a hold is done although its outcome is unknown", File: "lead.go",
		Old: "\tif !errors.Is(err, ErrUnknownOutcome) {\n\t\tended()\n\t}\n", New: "\tended()\n",
		Rule: "LATE WRITE", Schedules: 150000,
	},
	{
		Name: "an unknown outcome is told as a failure", File: "postgres.go",
		Old: "case sent && pgdb.Uncertain(err):", New: "case false:",
		Rule: "DENIED THOUGH MADE",
	},

	// What a commit has left.
	{
		Name: "a document is stored over what others have written meanwhile", File: "base.go",
		Old: `" AND {version} {=} {4}::bigint AND CASE WHEN "+strings.ReplaceAll(sizeSQL, "{target}", "t.{column}")+" {<=} 262144 THEN "+digestSQL+" {=} {5}::{text} ELSE false END"`, New: `""`,
		Rule: "LOST WRITE, TWICE",
	},
	{
		Name: "a document that was read before is stored without its lock", File: "base.go",
		Old: ` AND pg_catalog.pg_try_advisory_xact_lock({3}::bigint)"`, New: `"`,
		Rule: "UNLOCKED",
	},
	{
		Name: "what is recalled is of any document", File: "base.go",
		Old: "r.key == wq.key && ", New: "",
		Rule: "EMPTY ANSWER, LOST WRITE, BASIS",
	},
	{
		Name: "who knows more loses to what the process has left", File: "base.go",
		Old: " || c.lost.Want > c.lost.Have", New: "",
		Rule: "CONFLICT", Schedules: 150000,
	},
	{
		Name: "a conflict does not tell the document", File: "write.go",
		Old: "\t\t\tc.doc, c.changes = wc.present(), wc.changes\n", New: "",
		Rule: "CONFLICT",
	},
	{
		Name: "a conflict is told with what may not be stored", File: "base.go",
		Old: "\treturn tells\n", New: "\treturn true\n",
		Rule: "CONFLICT", Schedules: 150000,
	},
	{
		Name: "what fails is not looked up", File: "write.go",
		Old: "\t\tif err != nil && c.token != nil && n >= used.calls {", New: "\t\tif false {",
		Rule: "UNFOUNDED",
	},
	{
		Name: "what a trigger has made of a document is not looked at", File: "chain.go",
		Old: "case !bytes.Equal(f.leaves.doc.Metadata, f.workingCopy.doc.Metadata):", New: "case false && bytes.Equal(nil, nil):",
		Rule: "CONFLICT",
	},
	{
		Name: "what changes nothing of a document as it was is not looked at again", File: "base.go",
		Old: "\tif wc.changes == 0 || wc.removed {", New: "\tif wc.changes == 0 && p.keep(wq.key.id, wc, made) == nil {\n\t\treturn made, nil\n\t}\n\tif wc.removed {",
		Rule: "STALE",
	},
	{
		Name: "what was not stored, as the document is another, counts as stored", File: "base.go",
		Old: "\t\terr = errStale\n", New: "\t\terr = nil\n",
		Rule: "LOST WRITE, EMPTY ANSWER, REFUSED, TWICE",
	},
	{
		Name: "what may have been stored on a base is made anew", File: "base.go",
		Old: "!errors.As(err, &last), !pgdb.Uncertain(err):", New: "!errors.As(err, &last), true:",
		Rule: "TWICE, DENIED THOUGH MADE, VERSION, LATE ANSWER, LIVENESS",
	},

	// Commits of one document that are under way at once.
	{
		Name: "what is under way does not wait for the answers before", File: "chain.go",
		Old: "\t\t<-before\n", New: "",
		Rule: "PIPELINE",
	},
	{
		Name: "a commit is confirmed while others are under way", File: "chain.go",
		Old: "\t\tf.unread.Wait()\n", New: "",
		Rule: "PIPELINE",
	},
	{
		Name: "what was not stored on a predicted base is not put back", File: "chain.go",
		Old: "\t\tq.requeue(wq, f.calls[len(answered):])\n", New: "",
		Rule: "LATE ANSWER, LIVENESS, QUEUE",
	},
	{
		Name: "what was not stored on a predicted base counts as stored", File: "chain.go",
		Old: "\tcase undecided:\n\t\tanswered, back", New: "\tcase undecided + 9:\n\t\tanswered, back",
		Rule: "EMPTY ANSWER, LOST WRITE, REFUSED, LIVENESS, LATE ANSWER",
	},
	{
		Name: "what may have been stored is put back after a panic", File: "chain.go",
		Old: "\t\tdecide(f.calls, ErrUnknownOutcome)\n", New: "\t\tq.requeue(wq, f.calls[1:])\n\t\tanswered = f.calls[:1]\n",
		Rule: "TWICE, DENIED THOUGH MADE, VERSION, CLOSE, BASIS", Schedules: 150000,
	},
	{
		Name: "a chain's connection is not given back", File: "queue.go",
		Old: "\t\twq.chain.conn.Release()\n", New: "",
		Rule: "LEAK, LIVENESS, LATE ANSWER, HELD UP",
	},
	{
		Name: "a chain's connection is given back while it is used", File: "chain.go",
		Old: "|| ch.over || wq.led || len(ch.commits) > 0", New: "|| ch.over || wq.led",
		Rule: "LEAK, PANIC, LIVENESS, PIPELINE, DENIED THOUGH MADE, EMPTY ANSWER, QUEUE, UNFOUNDED",
	},
	{
		Name: "who retreats leads still", File: "chain.go",
		Old: "wq.chain.broken, wq.led, wq.calls, c.gone = true, false, wq.calls[1:], true", New: "wq.chain.broken, wq.led, wq.calls = true, false, wq.calls[1:]",
		Rule: "LIVENESS, PANIC, QUEUE, LATE ANSWER",
	},

	// Those who share a connection.
	{
		Name: "the next leader for a connection is not told", File: "sharedconn.go",
		Old: "\t\tb.leader.signal <- struct{}{}\n", New: "",
		Rule: "LATE ANSWER, LIVENESS, HELD UP",
	},
	{
		Name: "those who go on without their leader have none", File: "queue.go",
		Old: "\trest.makeLeader()\n", New: "",
		Rule: "LATE ANSWER, LIVENESS",
	},
	{
		Name: "a connection leader that hangs is waited for until the last look", File: "sharedconn.go",
		Old: "late < lastLook && !over.Load() && p.db.Full()", New: "late < lastLook",
		Rule: "HELD UP",
	},
	{
		Name: "while the pool is full, each look counts anew", File: "sharedconn.go",
		Old: "\t\t\tlate = min(2*late, lastLook)\n\t\t\ttime.AfterFunc(late-waited, look)\n", New: "\t\t\tlate = 2*late + 0*waited\n\t\t\ttime.AfterFunc(late, look)\n",
		Rule: "HELD UP",
	},
	{
		Name: "a connection leader that hangs is waited for", File: "sharedconn.go",
		Old: "func() { p.queues.replaceLeader(leader) }", New: "func() {}",
		Rule: "HELD UP",
	},
	{
		Name: "what a batch could not merge counts as merged", File: "sharedconn.go",
		Old: "g.outcome, g.call.err = mergeAlone, nil", New: "g.call.err = nil",
		Rule: "EMPTY ANSWER, STATS",
	},
	{
		Name: "what was merged in a batch is not woken", File: "sharedconn.go",
		Old: "\t\tif g.signal != nil {\n\t\t\tg.signal <- struct{}{}\n\t\t}\n", New: "",
		Rule: "LATE ANSWER, LIVENESS",
	},
	{
		Name: "who waits for a connection leader is not told that the store was closed", File: "sharedconn.go",
		Old: "\tcase <-q.closing:\n\t\terr = ErrClosed\n", New: "",
		Rule: "LATE ANSWER, LIVENESS",
	},
	{
		Name: "what is costly is left to the merge function", File: "lead.go",
		Old: "c.patch != nil && !c.patch.costly &&", New: "c.patch != nil &&",
		Rule: "COMPANY",
	},
	{
		Name: "what is costly is among many", File: "many.go",
		Old: "j.apart = j.patch.costly ||", New: "j.apart =",
		Rule: "COMPANY",
	},
	{
		Name: "what comes after a costly patch is merged before", File: "many.go",
		Old: "\t\tseen[j.id] = true // later", New: "\t\tseen[j.id] = seen[j.id] || !j.apart // later",
		Rule: "ORDER",
	},
	{
		Name: "who comes after somebody that waits is merged before", File: "many.go",
		Old: "behind, jobs = separate(jobs, left)", New: "behind = nil",
		Rule: "ORDER",
	},
	{
		Name: "halving many forgets the second half", File: "many.go",
		Old: "return append(again(ctx, jobs[:half:half]), again(ctx, jobs[half:])...)", New: "return again(ctx, jobs[:half:half])",
		Rule: "EMPTY ANSWER",
	},
	{
		Name: "what many leave over is forgotten", File: "many_busy.go",
		Old: "left = append(left, c.settle(ctx, over, err, c.attempt)...)", New: "c.settle(ctx, over, err, c.attempt)",
		Rule: "EMPTY ANSWER",
	},
	{
		Name: "what many must do apart is not done", File: "many.go",
		Old: "j.sent, j.free = time.Time{}, docs[i].ID != \"\"", New: "j.sent = time.Time{}",
		Rule: "LIVENESS, PATIENCE",
	},

	// Locks, and writes under a hold.
	{
		Name: "the lock is not taken", File: "postgres.go",
		Old: `newPreconditionSQL(expand, tryLockSQL, "true", 0)`, New: `newPreconditionSQL(expand, "true", "true", 0)`,
		Rule: "UNLOCKED, UNFOUNDED",
	},
	{
		Name: "the guard is not taken", File: "postgres.go",
		Old: "newPreconditionSQL(expand, tryLockSQL, stillHeldSQL, 4)", New: `newPreconditionSQL(expand, "true", stillHeldSQL, 4)`,
		Rule: "UNLOCKED, LATE WRITE",
	},
	{
		Name: "whether the hold is there is not asked", File: "postgres.go",
		Old: "tryLockSQL, stillHeldSQL, 4)", New: `tryLockSQL, "(true)", 4)`,
		Rule: "LATE WRITE, ELSEWHERE",
	},
	{
		Name: "whether a hold of another key is there is not asked", File: "postgres.go",
		Old: "tryLockUnderSQL, allHeldSQL, 1)", New: `tryLockUnderSQL, "(true)", 1)`,
		Rule: "LATE WRITE",
	},
	{
		Name: "the second guard is not taken", File: "postgres.go",
		Old: "newPreconditionSQL(expand, tryLockUnderSQL, allHeldSQL, 1)", New: "newPreconditionSQL(expand, tryLockSQL, allHeldSQL, 1)",
		Rule: "LATE WRITE",
	},
	{
		Name: "what is read under a hold is not proved", File: "heldread.go",
		Old: "if len(under) > 0 {", New: "if false {",
		Rule: "ELSEWHERE",
	},
	{
		Name: "what a write under a hold reads is not proved", File: "write_sql.go",
		Old: "\t{held}, _doc.version IS NOT NULL", New: "\ttrue, _doc.version IS NOT NULL",
		Rule: "ELSEWHERE",
	},
	{
		Name: "whether the hold has ended is not looked at", File: "write.go",
		Old: "\t\terr = g.under.check()\n", New: "",
		Rule: "LATE WRITE",
	},
	{
		Name: "the hold is not told of writes", File: "precondition.go",
		Old: "one, err := held.Writing()", New: "one, err := func() {}, error(nil)",
		Rule: "LATE WRITE",
	},

	// What is stored and told.
	{
		Name: "a document has no bound", File: "workingcopy.go", Test: "TestSimulationOfMemory",
		Old: "if size > d.max && size > len(d.doc.Metadata) {", New: "if false {",
		Rule: "SIZE",
	},
	{
		Name: "what is refused for its size stays in the working copy", File: "workingcopy.go",
		Old: "\t\td.value = nil // which is of no use now\n", New: "",
		Rule: "DENIED THOUGH MADE, LOST WRITE, TWICE",
	},
	{
		Name: "versions are not checked", File: "documents.go",
		Old: "if d.version != nil && *d.version != have {", New: "if false {",
		Rule: "VERSION",
	},
	{
		Name: "all that share a commit have its last version", File: "write.go",
		Old: "c.doc.Version += version - wc.doc.Version", New: "c.doc.Version = version",
		Rule: "VERSION, EMPTY ANSWER",
	},
	{
		Name: "what a trigger made is not told", File: "write.go",
		Old: "if altered != nil && c.changes == wc.changes {", New: "if false {",
		Rule: "EMPTY ANSWER",
	},
	{
		Name: "what a trigger suppressed counts as made", File: "write.go",
		Old: "\tcase !done:\n", New: "\tcase false:\n",
		Rule: "REFUSED, LOST WRITE",
	},
	{
		Name: "a missing document needs no lock", File: "write.go",
		Old: "\tcase !row.free:\n", New: "\tcase !row.free && row.found:\n",
		Rule: "UNLOCKED",
	},
	{
		Name: "a row that was in the way has the write refused", File: "write.go",
		Old: "\tcase row.found && calls[0].displaced < mostDisplaced:\n", New: "\tcase row.found && false:\n",
		Rule: "UNFOUNDED",
	},
	{
		Name: "a merge in a host's transaction goes without the lock", File: "write_sql.go",
		Old: "_doc_lock AS MATERIALIZED (SELECT ` + tryLockSQL + ` AS free FROM (", New: "_doc_lock AS MATERIALIZED (SELECT true AS free FROM (",
		Rule: "UNLOCKED",
	},
	{
		Name: "a host's transaction that has the row queues for it", File: "write_sql.go",
		Old: "WHERE NOT EXISTS (SELECT FROM _ours) AND EXISTS", New: "WHERE EXISTS",
		Rule: "DEADLOCK",
	},
	{
		Name: "a merge in a host's transaction that does nothing is taken for done", File: "tx.go",
		Old: "return err == nil && c.doc.Metadata != nil, err", New: "return err == nil, err",
		Rule: "EMPTY ANSWER",
	},
	{
		Name: "a host's savepoint is not gone back to", File: "tx.go",
		Old: `h.exec(ctx, "ROLLBACK TO SAVEPOINT lockstore")`, New: "error(nil)",
		Rule: "DENIED THOUGH MADE, CREATED, UNFOUNDED, UNLOCKED, LEAK",
	},
	{
		Name: "a row that is locked for long fails the write", File: "postgres.go",
		Old: "case code == pgdb.LockNotAvailable:", New: "case false:",
		Rule: "UNFOUNDED",
	},
	{
		Name: "commits are not counted", File: "lead.go",
		Old: "\t\tp.counts.committed(r.writes)\n", New: "",
		Rule: "STATS",
	},
	{
		Name: "failures are not counted", File: "stats.go",
		Old: "\tc.failures.Add(1)\n", New: "",
		Rule: "STATS",
	},

	// The ways of merging.
	{
		Name: "for who shares a statement, a number that is written otherwise is no change", File: "many.go", Test: "TestEveryWayOfMergingAgrees",
		Old: " OR merged::{text} {<>} metadata::{text} AS changed", New: " AS changed",
		Rule: "DIFFERENT",
	},
	{
		Name: "a merge in Go puts nulls into new objects", File: "internal/jsonb/value.go", Test: "TestEveryWayOfMergingAgrees",
		Old: "\t\t\tm.object.merge(patch)\n\t\t\tfallthrough\n", New: "\t\t\tm.object = Open(patch.value()).object\n\t\t\tfallthrough\n",
		Rule: "DIFFERENT",
	},

	// Writes that are made once.
	{
		Name: "what is stored leaves no token", File: "write.go",
		Old: "g.store(g.sql.save, k, wc.stored()...)", New: "g.store(g.sql.save, nil, wc.stored()...)",
		Rule: "TWICE, INVENTED",
	},
	{
		Name: "what is stored on a base leaves no token", File: "base.go",
		Old: "p.saveOn(wq, b, wc, p.keep(wq.key.id, wc, made))", New: "p.saveOn(wq, b, wc, nil)",
		Rule: "TWICE, INVENTED",
	},
	{
		Name: "a token is kept by a commit of its own", File: "write.go",
		Old:  "\tdoc, err := p.read(ctx, conn, q, wq.key.id)\n",
		New:  "\tplain := query{p.sql.merge.plain, q.args[:6]}\n\tdoc, err := p.read(ctx, conn, plain, wq.key.id)\n\tif err == nil && c.token != nil {\n\t\tg := p.preconditionOf(wq, c.under)\n\t\tn := g.store(g.sql.note, append(q.args[6:9:9], int64(0)))\n\t\t_ = conn.QueryRow(ctx, []any{new(bool), new(bool), new(int64), new(*int64), new([]byte)}, n.text, n.args...)\n\t}\n",
		Rule: "TWICE, INVENTED",
	},
	{
		Name: "tokens are looked up before the document is locked, and not again", File: "once_sql.go",
		Old: "\tWHERE (SELECT true FROM", New: "\tWHERE (SELECT false FROM",
		Rule: "UNFOUNDED, TWICE",
	},
	{
		Name: "what was asked for with a token is not compared", File: "once.go",
		Old: "case m.digest != t.digest:", New: "case m.digest == \"\":",
		Rule: "INVENTED",
	},
	{
		Name: "tokens go before their time", File: "postgres.go",
		Old: `"{keep}", milliseconds(o.KeepTokens)`, New: `"{keep}", "0ms"`,
		Rule: "TWICE, INVENTED, LOST WRITE",
	},
	{
		Name: "a token has the version of an attempt that was undone", File: "write.go",
		Old: "[]*call{{write: c.write}}", New: "[]*call{c}",
		Rule: "VERSION, TWICE",
	},
	{
		Name: "that a token has been used is the loss of a hold", File: "write.go",
		Old: "\tcase !open && q.keeps: // a token was used; if none was, the next attempt finds that the hold has ended\n\t\treturn errUsed\n", New: "",
		Rule: "UNFOUNDED",
	},
	{
		Name: "a repetition is told of no version", File: "once.go",
		Old: "\tdoc.Repeated, doc.Made = true, version\n", New: "\tdoc.Repeated = version >= 0\n",
		Rule: "VERSION",
	},

	// The store without a server.
	{
		Name: "writes under a hold of a Memory do not exclude each other", File: "memory.go", Test: "TestSimulationOfMemory",
		Old: "\t\tdefer letGo()\n", New: "\t\tletGo()\n",
		Rule: "LOST WRITE, VERSION, TWICE",
	},
	{
		Name: "a Memory stores what is late", File: "memory.go", Test: "TestSimulationOfMemory",
		Old: "\tif err := under.check(); err != nil {\n\t\treturn Document{}, err\n\t}\n\tdoc", New: "\tdoc",
		Rule: "LOST WRITE, VERSION, TWICE",
	},
	{
		Name: "a Memory deletes nothing", File: "memory.go", Test: "TestSimulationOfMemory",
		Old: "\tcase wc.removed:\n\t\tdelete(m.stored, doc.ID)\n", New: "",
		Rule: "TWICE, LOST WRITE, VERSION, EMPTY ANSWER",
	},
	{
		Name: "a Memory keeps no tokens", File: "memory.go", Test: "TestSimulationOfMemory",
		Old: "\tif t != nil {\n\t\tm.keep(", New: "\tif false {\n\t\tm.keep(",
		Rule: "TWICE",
	},

	// Watchers.
	{
		Name: "what changes while it is read is not read again", File: "watcher.go", Test: "TestWatchersStory",
		Old: "\tif !v.due {\n", New: "\tif !v.due && !v.looking {\n",
		Rule: "MISSED",
	},
	{
		Name: "what is watched is not compared", File: "watch_read.go", Test: "TestWatchersStory",
		Old: "\tif len(ids) == 0 {\n", New: "\tif true {\n",
		Rule: "MISSED",
	},
	{
		Name: "what one watcher finds is not told to the others", File: "watch_read.go", Test: "TestWatchersStory",
		Old: "\t\tcase another:\n", New: "\t\tcase another && false:\n",
		Rule: "MISSED",
	},
	{
		Name: "whoever comes back has nobody read what has become due", File: "watcher.go", Test: "TestWatchersStory",
		Old: "\tif len(w.due) > 0 {\n\t\tg.notify()\n\t}\n", New: "",
		Rule: "MISSED",
	},
	{
		Name: "whoever reads for all is not followed", File: "watcher.go", Test: "TestWatchersStory",
		Old: "\t\t\tg.leader = nil\n\t\t\tg.makeLeader()\n", New: "",
		Rule: "MISSED",
	},
	{
		Name: "nobody asks whether others watch", File: "fit.go", Test: "TestWatchersStory",
		Old: "\t\tp.hints.ask(ctx, conn)\n", New: "",
		Rule: "MISSED",
	},
	{
		Name: "others are not told", File: "hints.go", Test: "TestWatchersStory",
		Old: "\t\th.pending[document] = true\n", New: "",
		Rule: "MISSED",
	},
	{
		Name: "a new connection has nothing compared", File: "hints.go", Test: "TestWatchersStory",
		Old: "\t\t\th.watched.resume(again)\n", New: "",
		Rule: "MISSED",
	},

	// Observers.
	{
		Name: "a commit that decides on nothing does not end", File: "lead.go",
		Old: "\t\tc.made(nil, report{err: why}) // of a commit that has decided on nothing\n", New: "\t\t_ = why\n",
		Rule: "STATS",
	},
	{
		Name: "a write does not know its commit", File: "observers.go",
		Old: "\t\tw.commit = c.ctx\n", New: "",
		Rule: "STATS",
	},
	{
		Name: "who was put back tells of commits while it waits", File: "lead.go",
		Old: "\tdefer p.queues.handOff(wq, c)\n", New: "\tdefer func() { p.queues.handOff(wq, c); p.report(ctx, wq.key.id, c) }()\n",
		Rule: "LEAK, LIVENESS, HANG",
	},
}
