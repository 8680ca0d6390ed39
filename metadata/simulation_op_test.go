package metadata

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"time"
)

// An op is one write, or one reading, that somebody asks for.
type op struct {
	n      int // its mark
	kind   string
	at     *process
	doc    string
	patch  json.RawMessage
	rights string
	ctx    context.Context
	cancel context.CancelFunc
	since  time.Time

	view    int64 // IfVersion, or -1
	ownHold *hold
	leads   *hold // of another document's key, instead
	host    *host
	many    int          // with so many others, that come next
	group   *op          // that makes it
	rivals  atomic.Int32 // attempts that found the lock taken, or its own that were undone
	undos   atomic.Int32 // those that were undone, as the server resolved a conflict
	first   int          // the document's history when it began
	decided int
	basis   Document  // what it has decided on last
	asked   time.Time // since when it decides, if it does
	kept    time.Time // when the schedule, or the host's code, last kept it from the queue

	busy       atomic.Int32 // in the host's code
	connecting atomic.Bool  // waits for the pool, which only its context ends
	observed   int

	done     bool
	got      Document
	err      error
	panicked any

	token   string // it is made once
	repeats *op    // the one that it is
	known   bool   // to have been made
	firsts  int    // answers that say that it was made just now
	voided  bool   // its host has not committed
	unsure  bool   // or does not know

	applied int
	made    int // the moment of that, among all
	change  *change
}

// hold is the hold that its context carries.
func (o *op) hold() *hold {
	if o.group != nil {
		o = o.group // whose context it has
	}
	return cmp.Or(o.ownHold, o.leads)
}

// opKey is the context key of an op.
type opKey struct{}

func opOf(ctx context.Context) *op {
	o, _ := ctx.Value(opKey{}).(*op)
	return o
}

func (o *op) String() string {
	return fmt.Sprintf("op %d: %s of %s by process %d", o.n, o.kind, o.doc, o.at.n)
}

// overdue reports whether the op has reason to be answered at once.
func (o *op) overdue() bool {
	return !o.done && (o.ctx.Err() != nil || o.at.closing && !o.connecting.Load())
}

// undone counts an attempt that lost to others in the server.
func (o *op) undone() {
	if o != nil {
		o.rivals.Add(1)
		o.undos.Add(1)
	}
}
