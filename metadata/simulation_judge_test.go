package metadata

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"example.com/lockstore/backoff"
	"example.com/lockstore/lock"
)

// What is here is for who has the world's mutex, but for check.

// stored judges what a statement is about to store.
func (w *world) stored(s *backend, c *change) {
	c.to = 0
	c.from = c.before.version
	if s.doomed {
		return
	}
	key := w.key(c.id).Int64()
	if c.ownHold() != nil {
		key = w.key(c.id).Guard()
	}
	if w.server.locks[key] != s {
		w.Problem("UNLOCKED", "session %d stores %s without the lock", s.pid, c.id)
	}
	if t := c.leads(); t != nil && w.server.locks[t.key.Int64()] != t.session {
		w.Problem("LATE WRITE", "session %d stores %s under hold %d of %s, which is over", s.pid, c.id, t.number, t.id)
	}
	if c.after == nil {
		return
	}
	c.to, c.fresh = c.after.version, c.after.marks.without(c.before.marks)
	c.claimed = map[int64]*op{}
	changes := int(c.to - c.from)
	replaces := false
	c.fresh.each(func(n int) { replaces = replaces || w.ops[n].kind == "replace" })
	if n := c.fresh.count(); n > changes || n < changes-1 || n < changes && c.from > 0 {
		w.Problem("TWICE", "%s stores %d changes in %s, of which %d are new: %s", c.what, changes, c.id, n, c.after.text)
	}
	if lost := c.before.marks.without(c.after.marks); lost != (marks{}) && !replaces {
		w.Problem("LOST WRITE", "%s stores %s over %s", c.what, c.after.text, c.before.text)
	}
	c.fresh.each(func(n int) { w.judgeRights(s.preparedFor, w.ops[n]) })
}

// judgeRights judges a write of o on a connection that was prepared for by.
func (w *world) judgeRights(by, o *op) {
	if by == nil || by.root() == o.root() || by == o.group {
		return
	}
	switch told := by.at.store.options.Principal != nil; {
	case told && by.rights != o.rights:
		w.Problem("RIGHTS", "%s, for %s, is made with the rights of %s", o, o.rights, by.rights)
	case !told && by.at.pool.prepares:
		w.Problem("RIGHTS", "%s is made on the connection of %s", o, by)
	}
}

// made judges what has become true.
func (w *world) made(r *row, c *change) {
	if r.current != nil && r.current.version == 0 {
		w.Problem("CREATED", "a row is left that nobody wanted: %s", r.id)
	}
	if c == nil {
		return
	}
	w.Tell("committed: %s of %s: versions %d to %d: %s", c.what, c.id, c.from, c.to, r.current.print())
	if t := c.ownHold(); t != nil && t.number < w.holdsBegun[c.id] {
		w.Problem("LATE WRITE", "hold %d of %s writes when %d has begun", t.number, c.id, w.holdsBegun[c.id])
	}
	if t := c.leads(); t != nil && t.number < w.holdsBegun[t.id] {
		w.Problem("LATE WRITE", "hold %d of %s has %s written when %d has begun", t.number, t.id, c.id, w.holdsBegun[t.id])
	}
	switch {
	case c.after == nil && c.op != nil && c.op.host == nil: // of whoever comes to know of it
		w.removals[removal{c.op.at, c.id}]++
	case c.after == nil && c.op != nil:
		w.applied(c.op)
	}
	c.fresh.each(func(n int) {
		w.ops[n].change = c
		w.applied(w.ops[n])
	})
}

func (m *image) print() []byte {
	if m == nil {
		return []byte("removed")
	}
	return m.text
}

// ownHold is the hold of the document itself under which the change is made.
func (c *change) ownHold() *hold {
	if t := c.hold(); t != nil && t.id == c.id {
		return t
	}
	return nil
}

// leads is the hold of another document under which it is made.
func (c *change) leads() *hold {
	if t := c.hold(); t != nil && t.id != c.id {
		return t
	}
	return nil
}

func (c *change) hold() *hold {
	if c.op == nil || !strings.HasSuffix(c.what, "under") {
		return nil
	}
	return c.op.hold()
}

func (w *world) applied(o *op) {
	o.applied++
	w.moment++
	o.made = w.moment
	switch {
	case o.applied > 1:
		w.Problem("TWICE", "%s is applied again", o)
	case o.token != "": // see judgeTokens
	case o.done && o.host == nil && o.panicked == nil && o.err == nil:
		w.Problem("LOST WRITE", "%s was answered before", o)
	case o.done && o.host == nil && o.panicked == nil && !errors.Is(o.err, ErrUnknownOutcome):
		w.Problem("DENIED THOUGH MADE", "%s is applied after its answer: %v", o, o.err)
	}
}

// judge judges an answer.
func (w *world) judge(o *op) {
	if o.decided > 1 && (o.host != nil || o.at.store.options.MaxBatch == 1) {
		w.Problem("TWICE", "%s decided %d times", o, o.decided)
	}
	if o.observed > 1 {
		w.Problem("STATS", "%s: the observer was told %d times", o, o.observed)
	}
	switch {
	case o.panicked != nil, o.kind == "many":
	case o.err == nil:
		w.judgeSuccess(o)
	case errors.Is(o.err, ErrUnknownOutcome):
		if !w.strange.Load() {
			w.Problem("UNFOUNDED", "%s: %v", o, o.err)
		}
	case o.applied > 0 && o.token == "":
		w.Problem("DENIED THOUGH MADE", "%s: %v", o, o.err)
	default:
		w.judgeFailure(o)
	}
}

func (w *world) judgeSuccess(o *op) {
	if o.kind == "delete" {
		if by := (removal{o.at, o.doc}); o.host == nil && w.removals[by] > 0 {
			w.removals[by]--
			o.applied = 1
		}
		if o.applied != 1 {
			w.Problem("LOST WRITE", "%s: applied %d times", o, o.applied)
		}
		return
	}
	if o.got.ID == o.doc && o.got.Repeated {
		w.judgeRepeated(o)
		return
	}
	w.judgeOnce(o)
	if o.got.ID != o.doc || len(o.got.Metadata) == 0 {
		w.Problem("EMPTY ANSWER", "%s: nil, and document %q: %s", o, o.got.ID, o.got.Metadata)
		return
	}
	w.judgeOrigin(o, o.got)
	switch o.kind {
	case "get", "get many":
		w.judgeReading(o)
		return
	case "idle merge", "idle update":
		if o.applied != 0 {
			w.Problem("TWICE", "%s: changed something", o)
		}
		w.judgeFresh(o)
		return
	}
	if o.refused() {
		w.Problem("REFUSED", "%s: is not allowed, and was acknowledged: %s", o, o.patch)
		return
	}
	root := o.root()
	c, shown := root.change, marksOf(o.got.Metadata)
	if o.kind == "update" && (o.basis.Version != o.got.Version-1 || marksOf(o.basis.Metadata).count() != shown.count()-1) {
		w.Problem("BASIS", "%s: has decided on version %d, %s, and made %d, %s", o, o.basis.Version, o.basis.Metadata, o.got.Version, o.got.Metadata)
	}
	switch {
	case root.applied != 1 || c == nil:
		w.Problem("LOST WRITE", "%s: applied %d times", o, root.applied)
	case !shown.has(root.n):
		w.Problem("EMPTY ANSWER", "%s: is not in its document: %s", o, o.got.Metadata)
	case o.got.Version <= c.from || o.got.Version > c.to:
		w.Problem("VERSION", "%s: version %d, but it made one of %d to %d", o, o.got.Version, c.from+1, c.to)
	case c.claimed[o.got.Version] != nil && c.claimed[o.got.Version] != root:
		w.Problem("VERSION", "%s: version %d is that of %s", o, o.got.Version, c.claimed[o.got.Version])
	case o.view >= 0 && o.got.Version != o.view+1:
		w.Problem("VERSION", "%s: version %d of a view of %d", o, o.got.Version, o.view)
	case shown.without(c.after.marks) != marks{}:
		w.Problem("EMPTY ANSWER", "%s: more in its answer than in the document: %s", o, o.got.Metadata)
	case o.got.Version == c.to && !bytes.Equal(o.got.Metadata, c.after.text):
		w.Problem("EMPTY ANSWER", "%s: %s, but stored was %s", o, o.got.Metadata, c.after.text)
	}
	c.claim(o.got.Version, root)
}

// judgeOrder judges that patches of the same document were merged in their order.
func (w *world) judgeOrder(ops []*op) {
	for i, later := range ops {
		for _, earlier := range ops[:i] {
			if earlier.doc == later.doc && earlier.err == nil && later.err == nil && later.made < earlier.made {
				w.Problem("ORDER", "%s was merged before %s", later, earlier)
			}
		}
	}
}

// judgeOrigin judges that what an op was given is not of another server: see serverFor.
func (w *world) judgeOrigin(o *op, doc Document) {
	if bytes.Contains(doc.Metadata, []byte(`"old"`)) {
		w.Problem("ELSEWHERE", "%s: was given %s", o, doc.Metadata)
	}
}

// judgeFresh judges that what changes nothing was not told of a document as it was before
// it began. What others have made in the same commit may be in it.
func (w *world) judgeFresh(o *op) {
	if o.host != nil || o.first == 0 {
		return
	}
	since := w.server.history[o.doc][o.first-1:]
	for i, m := range since {
		if m == nil || i > 0 && m.version < since[i-1].version {
			return // it was deleted, and its versions have begun anew
		}
	}
	if o.got.Version < since[0].version {
		w.Problem("STALE", "%s: version %d was given, and %d was stored before it began", o, o.got.Version, since[0].version)
	}
}

// judgePresent judges a conflict, which there is only where the document was of another
// version, and the document that it is told with: it is of the version that the conflict
// names, and says what some commit has left of that version, if one has.
func (w *world) judgePresent(o *op, have int64) {
	w.judgeOrigin(o, o.got)
	if all := w.server.history[o.doc]; o.host == nil && o.first > 0 && len(all) == o.first && all[o.first-1] != nil && all[o.first-1].version == o.view {
		w.Problem("CONFLICT", "%s: has %d, but the document was of the version that it asked for, from beginning to end", o, have)
	}
	if o.got.ID != o.doc || o.got.Version != have || (have == 0) != (o.got.Metadata == nil) {
		w.Problem("CONFLICT", "%s: has %d, and was given version %d: %s", o, have, o.got.Version, o.got.Metadata)
	}
	var left [][]byte
	last := int64(0)
	for _, m := range w.server.history[o.doc] {
		if m == nil || m.version < last {
			return // it was deleted, and its versions have begun anew
		}
		if last = m.version; last == have {
			left = append(left, m.text)
		}
	}
	if len(left) > 0 && o.host == nil && !slices.ContainsFunc(left, func(text []byte) bool { return bytes.Equal(text, o.got.Metadata) }) {
		w.Problem("CONFLICT", "%s: was given %s as version %d, which is %s", o, o.got.Metadata, have, left[0])
	}
}

// judgeReading judges what a reader was given: a state between its begin and its
// end.
func (w *world) judgeReading(o *op) {
	if o.host != nil {
		return // which sees its own changes
	}
	for _, m := range w.server.history[o.doc][max(o.first-1, 0):] {
		if m != nil && m.version == o.got.Version && bytes.Equal(m.text, o.got.Metadata) {
			return
		}
	}
	w.Problem("STALE", "%s: %s was not true between", o, o.got.Metadata)
}

// judgeFailure judges the reason of an error.
func (w *world) judgeFailure(o *op) {
	err, founded := o.err, true
	switch {
	case errors.Is(err, ErrClosed):
		founded = o.at.closing
	case errors.Is(err, ErrNotFound):
		founded = o.kind == "delete" || o.kind == "get" || o.kind == "get many" || w.isMissing(o.doc)
	case errors.Is(err, ErrUnsupported):
		founded = o.kind == "delete" && !o.at.store.options.Table.Create
	case errors.Is(err, ErrTokenReused):
		founded = w.isReused(o)
	case errors.Is(err, ErrConflict):
		var conflict *VersionError
		founded = errors.As(err, &conflict) && o.view >= 0 && conflict.Have != o.view && !o.known // or else it is a repetition
		if founded && o.kind != "delete" {
			w.judgePresent(o, conflict.Have)
		}
	case errors.Is(err, errDecided):
		founded = o.kind == "failing update"
	case errors.Is(err, ErrTooLarge):
		founded = o.at.store.options.MaxDocumentBytes == 100
	case o.isFull():
		founded = o.at.store.options.MaxWaitingBytes <= 120 && len(w.ops) > 1
	case errors.Is(err, ErrRejected):
		founded = o.refused()
	case errors.Is(err, lock.ErrLost), errors.Is(err, lock.ErrReleased):
		t := o.hold()
		founded = t != nil && (t.ended || t.session.ended || t.misled) || errors.Is(err, ErrUnknownHold) && w.strange.Load()
	case errors.Is(err, backoff.ErrExhausted):
		w.judgePatience(o)
	case errors.Is(err, errTaken) && o.decided > 0: // whose document somebody inserts meanwhile who has no lock of it any more
		founded = w.inserted || w.strange.Load()
	case o.ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)):
	default:
		founded = w.strange.Load()
	}
	if !founded {
		w.Problem("UNFOUNDED", "%s: %v", o, err)
	}
}

// isMissing reports whether writes of a document fail, since they do not make it.
func (w *world) isMissing(id string) bool {
	return w.table.Name != "" && w.server.committed(id) == nil
}

// judgePatience judges a policy's giving up, which each caller has for itself. Of its
// attempts some are made by whoever it stands behind: how many, a BusyError tells; where
// MergeMany ends with another error, all that may be are counted, see lost. There are two
// more than the limit where that was reached while it was taken along, and it led then.
func (w *world) judgePatience(o *op) {
	of := o
	if o.group != nil {
		of = o.group // whose context it has
	}
	attempts := int(of.rivals.Load())
	var busy *lock.BusyError
	told := errors.As(o.err, &busy)
	if told {
		attempts = busy.Attempts + int(of.undos.Load())
	}
	switch waited := time.Since(o.since); {
	case o.at.limit == 0 && o.at.within == 0:
		w.Problem("PATIENCE", "%s: there is no limit: %v", o, o.err)
	case o.at.limit > 0 && attempts < o.at.limit && (told || o.group != nil):
		w.Problem("PATIENCE", "%s: gave up after %d attempts, of %d: %v", o, attempts, o.at.limit, o.err)
	case o.at.limit > 0 && attempts > o.at.limit+2 && o.group == nil:
		w.Problem("PATIENCE", "%s: gave up after %d attempts, of only %d: %v", o, attempts, o.at.limit, o.err)
	case o.at.within > 0 && waited < o.at.within:
		w.Problem("PATIENCE", "%s: gave up after %s, of %s: %v", o, waited, o.at.within, o.err)
	}
}

// check judges a moment in which everybody waits for something: who has lost its
// context, or whose store has been closed, waits for nobody, unless something of
// its write is under way.
func (w *world) check() {
	time.Sleep(time.Microsecond) // so that what begins in different steps does not end at once
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.processes {
		p.judgeQueue()
	}
	for _, o := range w.live() {
		if o.at.yielding.Load() > 0 || o.busy.Load() > 0 {
			o.kept = time.Now()
		}
		w.judgeSlow(o)
		if o.host == nil && o.overdue() && o.busy.Load() == 0 && o.at.yielding.Load() == 0 && !o.at.pool.busyWith(o) {
			w.Problem("LATE ANSWER", "%s: nothing of it is under way, context %v, closed %t", o, o.ctx.Err(), o.at.closing)
		}
	}
}

// judgeSlow judges that somebody who decides holds up nobody for longer than is allowed:
// by then a leader has let the document go, and those whose context has ended have left.
func (w *world) judgeSlow(slow *op) {
	p, took := slow.at, time.Since(slow.asked)
	if slow.host != nil || slow.asked.IsZero() || p.yielding.Load() > 0 {
		return
	}
	used := func(is func(*conn) bool) bool { return slices.ContainsFunc(p.pool.used, is) }
	keeps := w.panics == 0 && p.store.options.MaxBatch > 1 && used(func(c *conn) bool { return c.op == slow && c.inTx && c.sent == nil })
	rests := !used(func(c *conn) bool { return c.sent != nil || c.op != slow && c.op.busy.Load() > 0 })
	for _, o := range w.live() {
		if o == slow || o.at != p || o.host != nil || o.doc != slow.doc || o.hold() != slow.hold() || !o.asked.IsZero() || o.busy.Load() > 0 || o.many > 0 || strings.HasPrefix(o.kind, "get") {
			continue
		}
		if rests && took > 3*decideBudget && o.overdue() || keeps && min(took, time.Since(o.since), time.Since(o.kept)) > p.store.options.Timeout/3 {
			w.Problem("HELD UP", "%s, as %s decides for %s", o, slow, took)
		}
	}
}

// busyWith reports whether something of an op could be under way.
func (p *pool) busyWith(o *op) bool {
	return slices.ContainsFunc(p.used, func(c *conn) bool {
		return c.op == o || slices.ContainsFunc(p.at.group(o), func(each *op) bool {
			return c.op.doc == each.doc || slices.Contains(c.ids, each.doc)
		})
	})
}
