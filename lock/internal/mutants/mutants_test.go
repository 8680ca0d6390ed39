// Package mutants checks that the simulation of lock finds known faults. It is a package of its own
// because it takes long.
package mutants

import (
	"testing"

	"example.com/lockstore/internal/simulate"
)

// TestMutants checks that the simulation finds the fault in each mutant.
func TestMutants(t *testing.T) { simulate.RejectMutants(t, "../..", "TestSimulation", mutants) }

var mutants = []simulate.Mutant{
	{
		Name: "a request that ends stays in the wait queue", File: "keytable.go",
		Old:  "\tif r.entry != nil {\n\t\tt.dequeue(r)\n\t}\n\tr.become(",
		New:  "\tr.become(",
		Rule: "ORDER",
	}, {
		Name: "a caller waits for what it holds", File: "reentrancy.go",
		Old:  "\t\treturn err == nil\n",
		New:  "\t\treturn false\n",
		Rule: "SELF, LIVENESS",
	}, {
		Name: "a hold that has ended is in its caller's way", File: "reentrancy.go",
		Old:  "\t\treturn err == nil\n",
		New:  "\t\treturn true\n",
		Rule: "SELF",
	}, {
		Name: "a shared holder waits to share the key again", File: "request.go",
		Old:  "try || own != nil, since",
		New:  "try, since",
		Rule: "SELF, LIVENESS",
	}, {
		Name: "a call with one of several keys is given another", File: "semaphore.go",
		Old:  "first != nil && first.hold.any && len(first.hold.requests) > 0;",
		New:  "false;",
		Rule: "LEAK, STATS, LIVENESS, PANIC, ENTRY",
	}, {
		Name: "a waiter for one of several keys does not leave", File: "semaphore.go",
		Old:  "\t\t\twithdraw(causeOf(ctx))\n",
		New:  "",
		Rule: "OUTSTAYED, LIVENESS, HANG",
	}, {
		Name: "a key that is denied is not asked for again", File: "keytable.go",
		Old:  "\t\te.state = pausing\n\t\tt.schedule(e)\n",
		New:  "\t\te.state = pausing\n",
		Rule: "LOST WAKE-UP",
	}, {
		Name: "the next waiter is not asked for", File: "keytable.go",
		Old:  "\tif e.waiters.n == 0 {\n\t\tt.forget(e)\n\t\treturn\n\t}\n\tt.ask(e)\n",
		New:  "\tif e.waiters.n == 0 {\n\t\tt.forget(e)\n\t\treturn\n\t}\n",
		Rule: "LOST WAKE-UP, PANIC, ENTRY",
	}, {
		Name: "the end of a session is its connection's", File: "reading.go",
		Old:  "\t\tif s.failure = failure; failure.Fatal {\n",
		New:  "\t\tif s.failure = failure; false {\n",
		Rule: "TOLD LATE",
	}, {
		Name: "all waiters are admitted", File: "handoff.go",
		Old:  "if len(e.holders) > 0 && (first.mode == alone || e.holders[0].mode == alone) {",
		New:  "if len(e.holders) > 7 && (first.mode == alone || e.holders[0].mode == alone) {",
		Rule: "EXCLUSION",
	}, {
		Name: "a shared request is admitted beside an exclusive holder", File: "handoff.go",
		Old:  "(first.mode == alone || e.holders[0].mode == alone) {",
		New:  "first.mode == alone {",
		Rule: "EXCLUSION",
	}, {
		Name: "a try waits for those who came before", File: "keytable.go",
		Old:  "if !w.try && (w.mode == alone || r.mode == alone) {",
		New:  "if !w.try && w.mode != w.mode {",
		Rule: "ORDER, LEFT WAITING, LIVENESS",
	}, {
		Name: "a try fails as the key was busy before it came", File: "keytable.go",
		Old:  "return r.asked || err != nil })",
		New:  "return true })",
		Rule: "BUSY",
	}, {
		Name: "sharers do not ask others once the period is over", File: "sharing.go",
		Old:  "now.Sub(e.periodStart) < t.period {",
		New:  "now.Sub(e.periodStart)/100 < t.period {",
		Rule: "PERIOD",
	}, {
		Name: "a shared request after the period is left waiting", File: "sharing.go",
		Old:  "\t\tt.admit(e, now)\n\t\treturn\n\t}\n\tt.inquire(e)\n",
		New:  "\t\tt.admit(e, now)\n\t\treturn\n\t}\n",
		Rule: "LEFT WAITING, ORDER",
	}, {
		Name: "a shared request for a wanted key does not ask again", File: "sharing.go",
		Old:  "\t\tt.schedule(e)\n",
		New:  "",
		Rule: "LEFT WAITING, ORDER, LIVENESS",
	}, {
		Name: "shared holders have exclusively what was handed to them", File: "handoff.go",
		Old:  "e.mode == e.first().mode && e.handOffs",
		New:  "(e.mode == alone || e.first().mode == shared) && e.handOffs",
		Rule: "SHARING",
	}, {
		Name: "an exclusive request gets a shared lock", File: "handoff.go",
		Old:  "if first := e.first(); first != nil && first.mode == e.mode {",
		New:  "if first := e.first(); first != nil {",
		Rule: "EXCLUSION, SHARING",
	}, {
		Name: "a holder does not learn of the end", File: "handoff.go",
		Old:  "\tif why != nil && r.hold.cancel != nil {",
		New:  "\tif why == ErrClosed && r.hold.cancel != nil {",
		Rule: "TOLD LATE",
	}, {
		Name: "waiters of a lost key are forgotten", File: "handoff.go",
		Old:  "\t\t\tlost += t.endAll(e, why)\n",
		New:  "\t\t\tlost += t.endAll(e, why)\n\t\t\tif e.waiters.n > 0 {\n\t\t\t\te.state = asking\n\t\t\t\tcontinue\n\t\t\t}\n",
		Rule: "LOST WAKE-UP",
	}, {
		Name: "losses are not counted", File: "handoff.go",
		Old:  "\tt.counts.Lost += int64(lost)\n",
		New:  "\tt.counts.Lost += 2 * int64(lost)\n",
		Rule: "STATS",
	}, {
		Name: "evictions are not counted", File: "handoff.go",
		Old:  "\tt.counts.Evicted += int64(evicted)\n",
		New:  "",
		Rule: "STATS",
	}, {
		Name: "grants are counted twice", File: "handoff.go",
		Old:  "\t\tt.counts.Acquired++\n",
		New:  "\t\tt.counts.Acquired += 2\n",
		Rule: "STATS",
	}, {
		Name: "a key goes on here despite a write under way", File: "handoff.go",
		Old:  "if !expired && !e.writing && e.mode",
		New:  "if !expired && e.mode",
		Rule: "LATE WRITE",
	}, {
		Name: "an announced write is forgotten", File: "handoff.go",
		Old:  "\te.writing = e.writing || r.hold.writes > 0\n",
		New:  "",
		Rule: "LATE WRITE",
	}, {
		Name: "Close leaves waiters", File: "keytable.go",
		Old:  "\t\t\tt.end(first, ErrClosed)\n",
		New:  "\t\t\tt.dequeue(first)\n",
		Rule: "LIVENESS, STATS, PANIC",
	}, {
		Name: "a withdrawn request does not learn of its grant", File: "keytable.go",
		Old:  "\tif r.state != waiting {\n\t\treturn\n\t}\n\te, wasFirst",
		New:  "\tif r.state != waiting {\n\t\tr.granted, r.err = false, why\n\t\treturn\n\t}\n\te, wasFirst",
		Rule: "LIVENESS, ENTRY, STATS, ERROR, LEAK",
	}, {
		Name: "shared waiters behind one that left wait on", File: "keytable.go",
		Old:  "\t\tt.share(e) // with shared waiters behind it\n",
		New:  "",
		Rule: "LEFT WAITING",
	}, {
		Name: "a lost wait connection is used", File: "waitconns.go",
		Old:  "\tk.all, k.idle = slices.DeleteFunc(k.all, is), slices.DeleteFunc(k.idle, is)\n",
		New:  "\tk.all = slices.DeleteFunc(k.all, is)\n",
		Rule: "WAIT CONNS, LIVENESS",
	}, {
		Name: "an entry with its key still wants a wait connection", File: "waitconns.go",
		Old:  "\t\tp.waitConns.wanted = slices.DeleteFunc(p.waitConns.wanted, func(other *entry) bool { return other == e })\n",
		New:  "",
		Rule: "LEAK, HANG",
	}, {
		Name: "a wait connection is idle while it holds", File: "waitconns.go",
		Old:  "\ts := p.waitConns.idle[0]\n\tp.waitConns.idle = p.waitConns.idle[1:]\n",
		New:  "\ts := p.waitConns.idle[0]\n",
		Rule: "WAIT CONNS",
	}, {
		Name: "the backlog is dropped", File: "postgres.go",
		Old:  "\t\tp.backlog = backlog // s is lost already; there will be another\n",
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
		Name: "what a lost session was asked is not answered", File: "postgres.go",
		Old:  "\tp.settle(unanswered, why)\n\tclosed := ",
		New:  "\tclosed := ",
		Rule: "LOST WAKE-UP, LIVENESS",
	}, {
		Name: "a wait connection is not taken off the list", File: "postgres.go",
		Old:  "\tp.waitConns.remove(s)\n\tp.dropEvictRequests",
		New:  "\tp.dropEvictRequests",
		Rule: "WAIT CONNS, LIVENESS, LEAK",
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
		Name: "a lost session tells of the first batch in flight", File: "session.go",
		Old:  "\tfor _, b := range s.sent {\n\t\tunanswered",
		New:  "\tfor _, b := range s.sent[:min(1, len(s.sent))] {\n\t\tunanswered",
		Rule: "LOST WAKE-UP, LIVENESS",
	}, {
		Name: "what failed is not unlocked", File: "reading.go",
		Old:  "\t\tcase opTry, opWait:\n\t\t\ts.enqueue([]op{{code: opDrop, key: batch[failed].key}})\n",
		New:  "",
		Rule: "LEAK, LIVENESS",
	}, {
		Name: "a wait that ends keeps what it was granted just then", File: "wait.go",
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
		Old:  "func (t *keyTable) patience() patience { return patience{polls: backoff.Start(t.policy)} }",
		New:  "var inherited backoff.Sequence\n\nfunc (t *keyTable) patience() patience {\n\tif inherited.Next(); t.holding%2 == 0 {\n\t\tinherited = backoff.Start(t.policy)\n\t}\n\treturn patience{polls: inherited}\n}",
		Rule: "PATIENCE, PANIC",
	}, {
		Name: "a key that was given up is taken again at once", File: "evictrequests.go",
		Old:  "return r.key == e.key.id })",
		New:  "return r.key == e.key.id && e.state == held })",
		Rule: "EVICTED BY MISTAKE, EVICTED UNASKED",
	}, {
		Name: "a withheld key is handed off here", File: "handoff.go",
		Old:  "e.handOffs < t.limits.of(e) && !t.server.withheld(e) {",
		New:  "e.handOffs < t.limits.of(e) {",
		Rule: "EVICTED BY MISTAKE, EVICTED UNASKED",
	}, {
		Name: "a hold that began after the request is not spared", File: "evictrequests.go",
		Old:  "\tbefore, now := r.session.looks.before, time.Now()\n",
		New:  "\tnow := time.Now()\n\tbefore := now\n",
		Rule: "EVICTED UNASKED",
	}, {
		Name: "a request that is gone is not forgotten", File: "evictrequests.go",
		Old:  "\tp.evictRequests = slices.DeleteFunc(slices.Clone(before), gone)\n",
		New:  "",
		Rule: "LEAK, LIVENESS",
	}, {
		Name: "a request of a session that is lost is not forgotten", File: "postgres.go",
		Old:  "\tp.dropEvictRequests(func(r *evictRequest) bool { return r.session == s })\n",
		New:  "",
		Rule: "LEAK, LIVENESS",
	}, {
		Name: "a process with nothing to report does not say so", File: "evictrequests.go",
		Old:  "\t\tp.table.submit(p.session, op{code: opRest})\n",
		New:  "",
		Rule: "REST",
	}, {
		Name: "a session that knows of requests looks only if there are others", File: "evictrequests.go",
		Old:  "o.value != 1 && !known {",
		New:  "o.value != 1 && (known || !known) {",
		Rule: "LEAK, LIVENESS",
	}, {
		Name: "an eviction does not check the lock table", File: "evict.go",
		Old:  "\t\t\treturn false, err\n\t\t}\n\t}\n\treturn err == nil, err\n",
		New:  "\t\t\treturn v.raised, err\n\t\t}\n\t}\n\treturn err == nil, err\n",
		Rule: "EVICT",
	}, {
		Name: "an eviction does not wait for grace", File: "evict.go",
		Old:  "time.Since(asked) >= grace {",
		New:  "time.Since(asked) >= grace/2 {",
		Rule: "EVICTED BY MISTAKE",
	}, {
		Name: "a batch ends before it has begun", File: "session.go",
		Old:  "\t\ts.writing.Lock() // until the last of them has begun\n\t\tdefer s.writing.Unlock()\n",
		New:  "",
		Rule: "STATS",
	}, {
		Name: "the end of a lost hold is not observed", File: "hold.go",
		Old:  "\tif h.notifyEnd != nil {\n",
		New:  "\tif h.notifyEnd != nil && err == nil {\n",
		Rule: "STATS",
	},
}
