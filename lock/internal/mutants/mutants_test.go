// Package mutants holds the simulation of lock to its word, in a package of its own for the
// time that it takes.
package mutants

import (
	"testing"

	"example.com/lockstore/internal/simulate"
)

// TestMutants has the simulation find what is wrong with each of these.
func TestMutants(t *testing.T) { simulate.RejectMutants(t, "../..", "TestSimulation", mutants) }

var mutants = []simulate.Mutant{
	{
		Name: "who leaves stays in line", File: "queue.go",
		Old:  "\tif c.entry != nil {\n\t\tq.leaveLine(c)\n\t}\n\tif errors.Is(err, ErrBusy) &&",
		New:  "\tif errors.Is(err, ErrBusy) &&",
		Rule: "LINE",
	}, {
		Name: "a caller waits for what it holds", File: "bearer.go",
		Old:  "\t\treturn over == nil\n",
		New:  "\t\treturn false\n",
		Rule: "SELF, LIVENESS",
	}, {
		Name: "a hold that has ended is in its caller's way", File: "bearer.go",
		Old:  "\t\treturn over == nil\n",
		New:  "\t\treturn true\n",
		Rule: "SELF",
	}, {
		Name: "who shares a key waits to share it again", File: "claim.go",
		Old:  "try || own != nil, since",
		New:  "try, since",
		Rule: "SELF, LIVENESS",
	}, {
		Name: "who has one of several keys is given another", File: "semaphore.go",
		Old:  "first != nil && first.tenure.any && len(first.tenure.claims) > 0;",
		New:  "false;",
		Rule: "LEAK, STATS, LIVENESS, PANIC, ENTRY",
	}, {
		Name: "who waits for one of several keys does not leave", File: "semaphore.go",
		Old:  "\t\t\twithdraw(causeOf(ctx))\n",
		New:  "",
		Rule: "OUTSTAYED, LIVENESS, HANG",
	}, {
		Name: "a key that is denied is not asked for again", File: "queue.go",
		Old:  "\t\te.state = pausing\n\t\tq.schedule(e)\n",
		New:  "\t\te.state = pausing\n",
		Rule: "LOST WAKE-UP",
	}, {
		Name: "the next in line is not asked for", File: "queue.go",
		Old:  "\tif e.line.n == 0 {\n\t\tq.forget(e)\n\t\treturn\n\t}\n\tq.ask(e)\n",
		New:  "\tif e.line.n == 0 {\n\t\tq.forget(e)\n\t\treturn\n\t}\n",
		Rule: "LOST WAKE-UP, PANIC, ENTRY",
	}, {
		Name: "all in line are admitted", File: "handoff.go",
		Old:  "if len(e.holders) > 0 && (first.mode == alone || e.holders[0].mode == alone) {",
		New:  "if len(e.holders) > 7 && (first.mode == alone || e.holders[0].mode == alone) {",
		Rule: "EXCLUSION",
	}, {
		Name: "a sharer is admitted beside who is alone", File: "handoff.go",
		Old:  "(first.mode == alone || e.holders[0].mode == alone) {",
		New:  "first.mode == alone {",
		Rule: "EXCLUSION",
	}, {
		Name: "a try waits for those who came before", File: "queue.go",
		Old:  "if !w.try && (w.mode == alone || c.mode == alone) {",
		New:  "if !w.try && w.mode != w.mode {",
		Rule: "LINE, LEFT WAITING, LIVENESS",
	}, {
		Name: "a try fails as the key was busy before it came", File: "queue.go",
		Old:  "return c.asked || err != nil })",
		New:  "return true })",
		Rule: "BUSY",
	}, {
		Name: "sharers do not ask others once the turn is over", File: "sharing.go",
		Old:  "now.Sub(e.turn) < q.budget {",
		New:  "now.Sub(e.turn)/100 < q.budget {",
		Rule: "TURN",
	}, {
		Name: "who shares beyond the turn is left waiting", File: "sharing.go",
		Old:  "\t\tq.admit(e, now)\n\t\treturn\n\t}\n\tq.inquire(e)\n",
		New:  "\t\tq.admit(e, now)\n\t\treturn\n\t}\n",
		Rule: "LEFT WAITING, LINE",
	}, {
		Name: "who shares what is wanted does not ask again", File: "sharing.go",
		Old:  "\t\tq.schedule(e)\n",
		New:  "",
		Rule: "LEFT WAITING, LINE, LIVENESS",
	}, {
		Name: "sharers have alone what was handed to them", File: "handoff.go",
		Old:  "e.mode == e.first().mode && e.passed",
		New:  "(e.mode == alone || e.first().mode == shared) && e.passed",
		Rule: "SHARING",
	}, {
		Name: "who is alone gets a shared lock", File: "handoff.go",
		Old:  "if first := e.first(); first != nil && first.mode == e.mode {",
		New:  "if first := e.first(); first != nil {",
		Rule: "EXCLUSION, SHARING",
	}, {
		Name: "who ends does not know", File: "handoff.go",
		Old:  "\tif why != nil && c.tenure.cancel != nil {",
		New:  "\tif why == ErrClosed && c.tenure.cancel != nil {",
		Rule: "TOLD LATE",
	}, {
		Name: "waiters of a lost key are forgotten", File: "handoff.go",
		Old:  "\t\t\tlost += q.endAll(e, why)\n",
		New:  "\t\t\tlost += q.endAll(e, why)\n\t\t\tif e.line.n > 0 {\n\t\t\t\te.state = asking\n\t\t\t\tcontinue\n\t\t\t}\n",
		Rule: "LOST WAKE-UP",
	}, {
		Name: "losses are not counted", File: "handoff.go",
		Old:  "\tq.counts.Lost += int64(lost)\n",
		New:  "\tq.counts.Lost += 2 * int64(lost)\n",
		Rule: "STATS",
	}, {
		Name: "evictions are not counted", File: "handoff.go",
		Old:  "\tq.counts.Evicted += int64(evicted)\n",
		New:  "",
		Rule: "STATS",
	}, {
		Name: "grants are counted twice", File: "handoff.go",
		Old:  "\t\tq.counts.Acquired++\n",
		New:  "\t\tq.counts.Acquired += 2\n",
		Rule: "STATS",
	}, {
		Name: "a key goes on here despite a write under way", File: "handoff.go",
		Old:  "if !over && !e.writing && e.mode",
		New:  "if !over && e.mode",
		Rule: "LATE WRITE",
	}, {
		Name: "what was said of a write is forgotten", File: "handoff.go",
		Old:  "\te.writing = e.writing || c.tenure.writes > 0\n",
		New:  "",
		Rule: "LATE WRITE",
	}, {
		Name: "Close leaves who waits", File: "queue.go",
		Old:  "\t\t\tq.end(first, ErrClosed)\n",
		New:  "\t\t\tq.leaveLine(first)\n",
		Rule: "LIVENESS, STATS, PANIC",
	}, {
		Name: "who withdraws is told nothing of a grant", File: "queue.go",
		Old:  "\tif c.state != waiting {\n\t\treturn false\n\t}\n\te, wasFirst",
		New:  "\tif c.state != waiting {\n\t\tc.granted, c.err = false, why\n\t\treturn false\n\t}\n\te, wasFirst",
		Rule: "LIVENESS, ENTRY, STATS, ERROR, LEAK",
	}, {
		Name: "sharers behind one who left wait on", File: "queue.go",
		Old:  "\t\tq.share(e) // with sharers that stood behind it\n",
		New:  "",
		Rule: "LEFT WAITING",
	}, {
		Name: "a dead session is parked on", File: "parking.go",
		Old:  "\tk.all, k.idle = slices.DeleteFunc(k.all, is), slices.DeleteFunc(k.idle, is)\n",
		New:  "\tk.all = slices.DeleteFunc(k.all, is)\n",
		Rule: "PARKING, LIVENESS",
	}, {
		Name: "who has its key still wants a session", File: "parking.go",
		Old:  "\t\tp.parking.wanted = slices.DeleteFunc(p.parking.wanted, func(other *entry) bool { return other == e })\n",
		New:  "",
		Rule: "LEAK, HANG",
	}, {
		Name: "a spare session is idle while it holds", File: "parking.go",
		Old:  "\ts := p.parking.idle[0]\n\tp.parking.idle = p.parking.idle[1:]\n",
		New:  "\ts := p.parking.idle[0]\n",
		Rule: "PARKING",
	}, {
		Name: "the backlog is dropped", File: "postgres.go",
		Old:  "\t\tp.backlog = backlog // s is dead already; there will be another\n",
		New:  "\t\t_ = backlog\n",
		Rule: "LOST WAKE-UP", Schedules: 60000,
	}, {
		Name: "what could not be unlocked may stay", File: "postgres.go",
		Old:  "\t\tcase opDrop, opDropShared:\n\t\t\tbroken = errors.Join(broken, o.err)\n",
		New:  "\t\tcase opDrop, opDropShared:\n",
		Rule: "LEAK, LIVENESS",
	}, {
		Name: "an unlock that failed does not end the session", File: "postgres.go",
		Old:  "\tif broken != nil {\n",
		New:  "\tif broken != nil && len(ops) == 0 {\n",
		Rule: "LEAK, LIVENESS, EXCLUSION",
	}, {
		Name: "what a dead session was asked is not answered", File: "postgres.go",
		Old:  "\tp.settle(unanswered, why)\n\tclosed := ",
		New:  "\tclosed := ",
		Rule: "LOST WAKE-UP, LIVENESS",
	}, {
		Name: "a spare session is not taken off the list", File: "postgres.go",
		Old:  "\tp.parking.remove(s)\n\tp.dropRequests",
		New:  "\tp.dropRequests",
		Rule: "PARKING, LIVENESS, LEAK",
	}, {
		Name: "an unlock of what may not be locked is pipelined", File: "session.go",
		Old:  " || s.inFlight > 0 && s.blind > 0 {",
		New:  " {",
		Rule: "EXCLUSION, LATE WRITE, LEAK", Schedules: 150000,
	}, {
		Name: "a batch is answered as if it were the last", File: "reading.go",
		Old:  "\tanswers := s.sent[0].ops\n\tsize = len(answers)\n\ts.inFlight -= size\n\ts.sent = slices.Delete(s.sent, 0, 1)\n",
		New:  "\tanswers := s.sent[len(s.sent)-1].ops\n\tsize = len(answers)\n\ts.inFlight -= size\n\ts.sent = slices.Delete(s.sent, len(s.sent)-1, len(s.sent))\n",
		Rule: "EXCLUSION, PANIC, LEAK, FENCE",
	}, {
		Name: "any number of operations is in flight", File: "session.go",
		Old:  "depth*min(s.waiting, s.pace.maxBatch) >= s.inFlight",
		New:  "(depth > 0 || s.inFlight == 0)",
		Rule: "WINDOW",
	}, {
		Name: "a part waits while a batch is in flight", File: "session.go",
		Old:  "depth*min(s.waiting, s.pace.maxBatch) >= s.inFlight",
		New:  "depth*0 >= s.inFlight",
		Rule: "LOST WAKE-UP",
	}, {
		Name: "a dead session tells of the first batch in flight", File: "session.go",
		Old:  "\tfor _, b := range s.sent {\n\t\tunanswered",
		New:  "\tfor _, b := range s.sent[:min(1, len(s.sent))] {\n\t\tunanswered",
		Rule: "LOST WAKE-UP, LIVENESS",
	}, {
		Name: "what failed is not unlocked", File: "reading.go",
		Old:  "\t\tcase opTry, opWait:\n\t\t\ts.enqueue([]op{{code: opDrop, key: batch[failed].key}})\n",
		New:  "",
		Rule: "LEAK, LIVENESS",
	}, {
		Name: "who stops waiting keeps what it was granted just then", File: "wait.go",
		Old:  "\tPERFORM ` + dropped + `;\n",
		New:  "",
		Rule: "LEAK, LIVENESS",
	}, {
		Name: "what was behind a failure is not tried again", File: "reading.go",
		Old:  "\ts.enqueue(batch[again:])\n",
		New:  "",
		Rule: "LOST WAKE-UP, LIVENESS",
	}, {
		Name: "a fence that was rolled back is given out", File: "reading.go",
		Old:  "if o.isTransactional() && o.err == nil {",
		New:  "if o.isTransactional() && o.err == nil && failed < 0 {",
		Rule: "FENCE",
	}, {
		Name: "silence is not noticed", File: "session.go",
		Old:  "\tleft := min(s.silence-asked, ",
		New:  "\tleft := max(2*s.silence-asked, ",
		Rule: "TOLD LATE",
	}, {
		Name: "patience is inherited", File: "patience.go",
		Old:  "func (q *queue) patience() patience { return patience{polls: backoff.Start(q.policy)} }",
		New:  "var inherited backoff.Sequence\n\nfunc (q *queue) patience() patience {\n\tif inherited.Next(); q.holding%2 == 0 {\n\t\tinherited = backoff.Start(q.policy)\n\t}\n\treturn patience{polls: inherited}\n}",
		Rule: "PATIENCE, PANIC",
	}, {
		Name: "a key that was given up is taken again at once", File: "requests.go",
		Old:  "return r.key == e.key.id })",
		New:  "return r.key == e.key.id && e.state == held })",
		Rule: "EVICTED BY MISTAKE, EVICTED UNASKED",
	}, {
		Name: "what others have requested is handed on here", File: "handoff.go",
		Old:  "e.passed < q.passes.of(e) && !q.server.withheld(e) {",
		New:  "e.passed < q.passes.of(e) {",
		Rule: "EVICTED BY MISTAKE, EVICTED UNASKED",
	}, {
		Name: "who came after the request is not spared", File: "requests.go",
		Old:  "\tbefore, now := r.session.looks.before, time.Now()\n",
		New:  "\tnow := time.Now()\n\tbefore := now\n",
		Rule: "EVICTED UNASKED",
	}, {
		Name: "a request that is gone is not forgotten", File: "requests.go",
		Old:  "\tp.requests = slices.DeleteFunc(slices.Clone(before), gone)\n",
		New:  "",
		Rule: "LEAK, LIVENESS",
	}, {
		Name: "a request of a session that is lost is not forgotten", File: "postgres.go",
		Old:  "\tp.dropRequests(func(r *request) bool { return r.session == s })\n",
		New:  "",
		Rule: "LEAK, LIVENESS",
	}, {
		Name: "who has nothing to tell does not say so", File: "requests.go",
		Old:  "\t\tp.queue.request(p.session, op{code: opRest})\n",
		New:  "",
		Rule: "REST",
	}, {
		Name: "who knows of requests looks only if there are others", File: "requests.go",
		Old:  "o.value != 1 && !known {",
		New:  "o.value != 1 && (known || !known) {",
		Rule: "LEAK, LIVENESS",
	}, {
		Name: "who evicts does not look before it believes", File: "evict.go",
		Old:  "\t\t\treturn false, err\n\t\t}\n\t}\n\treturn err == nil, err\n",
		New:  "\t\t\treturn v.raised, err\n\t\t}\n\t}\n\treturn err == nil, err\n",
		Rule: "EVICT",
	}, {
		Name: "who evicts does not wait", File: "evict.go",
		Old:  "time.Since(asked) >= grace {",
		New:  "time.Since(asked) >= grace/2 {",
		Rule: "EVICTED BY MISTAKE",
	}, {
		Name: "a batch ends before it has begun", File: "session.go",
		Old:  "\t\ts.writing.Lock() // until the last of them has begun\n\t\tdefer s.writing.Unlock()\n",
		New:  "",
		Rule: "STATS",
	}, {
		Name: "a hold that was lost ends for nobody", File: "tenure.go",
		Old:  "\tif t.told != nil {\n",
		New:  "\tif t.told != nil && err == nil {\n",
		Rule: "STATS",
	},
}
