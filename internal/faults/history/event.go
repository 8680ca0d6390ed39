// Package history records what callers of lockstore saw, and judges it: is
// there one story that explains it all? Its checks assume nothing of how the
// library works.
package history

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Kind says what an Event is.
type Kind string

const (
	Merge  Kind = "merge"  // of a patch with one key, and a value that nobody else sets
	Update Kind = "update" // of the document's counter, by one
	// Replace is a Merge done by hand: of the document just read under its lock.
	Replace Kind = "replace"
	// Guarded is an Update done by hand: the counter is read and merged under the document's lock.
	Guarded Kind = "guarded"
	Get     Kind = "get"
	Tenure  Kind = "tenure" // of a lock

	Watched Kind = "watched" // what a watcher is told; failed: what it is not

	Once Kind = "once" // a write with a token, Field, and its version, however often it was repeated

	Eviction Kind = "evict" // of whoever holds a lock

	Stall Kind = "stall" // a time in which the machine had none for the process

	// Writes of documents that have a tenant.
	Rightful Kind = "rightful write" // by that tenant
	Trespass Kind = "trespass"       // by another
)

// Outcome is what a call returned.
type Outcome string

const (
	OK      Outcome = "ok"
	Failed  Outcome = "failed"  // nothing was done
	Refused Outcome = "refused" // nor could it be: there is no such document, or no right to it
	Unknown Outcome = "unknown" // it may have been done; also of a call that did not return
)

// Counter is the key that an Update counts in.
const Counter = "count"

// An Event is one call, or one tenure from Lock to Unlock. Times are those of
// the machine's clock.
type Event struct {
	N       int64     `json:"n"` // within its process; a later record of the same event replaces an earlier one
	Process int       `json:"p"`
	Worker  int       `json:"w"`
	Kind    Kind      `json:"k"`
	Key     string    `json:"id"`
	Call    time.Time `json:"c"`
	Return  time.Time `json:"r,omitzero"` // of the call; of a tenure, of Lock
	Outcome Outcome   `json:"o,omitempty"`
	Error   string    `json:"e,omitempty"`

	// Of writes, and what Get read.
	Field    string          `json:"f,omitempty"` // the patch is {Field: Value}
	Value    json.RawMessage `json:"v,omitempty"`
	Answer   string          `json:"a,omitempty"` // the id of the document returned
	Version  int64           `json:"ver,omitempty"`
	Document json.RawMessage `json:"doc,omitempty"`

	// Of a write whose caller has no deadline.
	Hung time.Time `json:"hung,omitzero"` // its connection hung until then

	// Of a Guarded, the document that it read.
	Base        json.RawMessage `json:"b,omitempty"`
	BaseVersion int64           `json:"bver,omitempty"`

	// Of a tenure that was granted (Outcome OK).
	Shared   bool      `json:"s,omitempty"`
	Until    time.Time `json:"u,omitzero"`  // Unlock was called, or the loss was told
	Unlocked time.Time `json:"ul,omitzero"` // Unlock returned
	Lost     bool      `json:"l,omitempty"`
	Fence    int64     `json:"fence,omitempty"`
}

func (e Event) String() string {
	const clock = "05.000000"
	s := fmt.Sprintf("process %d worker %d: %s %s [%s, %s] %s", e.Process, e.Worker, e.Kind, e.Key, e.Call.Format(clock), e.Return.Format(clock), e.Outcome)
	switch {
	case e.Kind == Tenure && e.Outcome == OK:
		s += fmt.Sprintf(", held until %s, lost: %v, fence %d", e.Until.Format(clock), e.Lost, e.Fence)
	case e.Kind == Get:
		s += fmt.Sprintf(", version %d", e.Version)
	case e.Kind != Tenure:
		s += fmt.Sprintf(", {%q: %s}, version %d", e.Field, e.Value, e.Version)
	}
	if e.Error != "" {
		s += ": " + e.Error
	}
	return s
}

// writes reports whether the event is a change of a document.
func (e Event) writes() bool {
	return e.Kind == Merge || e.Kind == Update || e.Kind == Replace || e.Kind == Guarded
}

// made reports whether the event is a change that is in its document, at its
// version, by what its call returned.
func (e Event) made() bool { return e.writes() && e.Outcome == OK && e.Version > 0 }

// A Recorder writes the events of one process. It is safe for concurrent use.
type Recorder struct {
	process int
	last    atomic.Int64
	mu      sync.Mutex
	to      func(Event)
}

// NewRecorder records by calling to, one event after the other.
func NewRecorder(process int, to func(Event)) *Recorder {
	return &Recorder{process: process, to: to}
}

// Begin is an event that begins now. It is recorded as one with an unknown
// outcome, should its process not live to record another.
func (r *Recorder) Begin(e Event) Event {
	e.N, e.Process, e.Call, e.Outcome = r.last.Add(1), r.process, time.Now(), Unknown
	r.Record(e)
	return e
}

// Record records what is known of an event.
func (r *Recorder) Record(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.to(e)
}

// Stalls calls each, until ctx ends, for every time in which the machine let this process wait.
func Stalls(ctx context.Context, each func(from, to time.Time)) {
	const often, long = 10 * time.Millisecond, 50 * time.Millisecond
	for from := time.Now(); ctx.Err() == nil; {
		time.Sleep(often)
		to := time.Now()
		if to.Sub(from) > often+long {
			each(from.Add(often), to)
		}
		from = to
	}
}

// Write returns a function that writes events to w, for Read.
func Write(w io.Writer) func(Event) {
	encoder := json.NewEncoder(w)
	return func(e Event) {
		if err := encoder.Encode(e); err != nil {
			panic(err) // the reader has gone: nobody wants to know any more
		}
	}
}

// Save writes events to a file, by the time of their calls.
func Save(name string, events []Event) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(f)
	write := Write(out)
	for _, e := range slices.SortedFunc(slices.Values(events), func(a, b Event) int { return a.Call.Compare(b.Call) }) {
		write(e)
	}
	return errors.Join(out.Flush(), f.Close())
}

// Read calls each for every event in r, until its end. An event that was cut
// off counts for nothing.
func Read(r io.Reader, each func(Event)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var e Event
		if json.Unmarshal(lines.Bytes(), &e) == nil && e.N > 0 {
			each(e)
		}
	}
	return lines.Err()
}

// A Log gathers events. It is safe for concurrent use.
type Log struct {
	mu     sync.Mutex
	events map[[2]int64]Event
}

// Add adds an event, or what has become known of it since.
func (l *Log) Add(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.events == nil {
		l.events = map[[2]int64]Event{}
	}
	l.events[[2]int64{int64(e.Process), e.N}] = e
}

// Ended says that a process was killed: what it held, it held until then.
func (l *Log) Ended(process int, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, e := range l.events {
		if e.Process == process && e.Kind == Tenure && e.Outcome == OK && e.Until.IsZero() {
			e.Until, e.Lost = at, true
			l.events[id] = e
		}
	}
}

// Events returns all of them, in no order.
func (l *Log) Events() []Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	events := make([]Event, 0, len(l.events))
	for _, e := range l.events {
		events = append(events, e)
	}
	return events
}

// A Violation is what no story explains, and the events that show it.
type Violation struct {
	Rule   string  `json:"rule"`
	Key    string  `json:"key"`
	Reason string  `json:"reason"`
	Events []Event `json:"events"`
}

func (v Violation) String() string {
	s := fmt.Sprintf("%s of %s: %s", v.Rule, v.Key, v.Reason)
	for _, e := range v.Events {
		s += "\n    " + e.String()
	}
	return s
}
