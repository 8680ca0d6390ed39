// Package history records what callers of lockstore saw, and checks whether one sequence of
// events explains all of it. The checks assume nothing of how the library works.
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
	Merge  Kind = "merge"  // a patch with one key, and a unique value
	Update Kind = "update" // increments the document's counter
	// Replace is a merge by hand: reads the document under its lock, changes and replaces it.
	Replace Kind = "replace"
	// Guarded is an update by hand: reads the counter under the document's lock and merges it.
	Guarded Kind = "guarded"
	Get     Kind = "get"
	Hold    Kind = "hold" // of a lock

	Watched Kind = "watched" // a state that a watcher received; failed: one that it did not

	Once Kind = "once" // a write with a token (Field) and its version, after all repetitions

	Eviction Kind = "evict" // of a lock's holders

	Stall Kind = "stall" // a time in which the machine did not run the process

	// Writes of documents that have a tenant.
	Rightful Kind = "rightful write" // by that tenant
	Trespass Kind = "trespass"       // by another
)

// Outcome is what a call returned.
type Outcome string

const (
	OK      Outcome = "ok"
	Failed  Outcome = "failed"  // nothing was done
	Refused Outcome = "refused" // nothing was done, because the document or the right to it is missing
	Unknown Outcome = "unknown" // it may have been done, or the call did not return
)

// Counter is the key that an Update increments.
const Counter = "count"

// An Event is one call, or one hold from Lock to Unlock. Times are of the machine's clock.
type Event struct {
	N       int64     `json:"n"` // number within the process; a later record with the same number replaces an earlier one
	Process int       `json:"p"`
	Worker  int       `json:"w"`
	Kind    Kind      `json:"k"`
	Key     string    `json:"id"`
	Call    time.Time `json:"c"`
	Return  time.Time `json:"r,omitzero"` // of the call; of a hold, of Lock
	Outcome Outcome   `json:"o,omitempty"`
	Error   string    `json:"e,omitempty"`

	// For writes and Get.
	Field    string          `json:"f,omitempty"` // the patch is {Field: Value}
	Value    json.RawMessage `json:"v,omitempty"`
	Answer   string          `json:"a,omitempty"` // the id of the document returned
	Version  int64           `json:"ver,omitempty"`
	Document json.RawMessage `json:"doc,omitempty"`

	// For a write whose caller has no deadline.
	Hung time.Time `json:"hung,omitzero"` // its connection hung until then

	// For Guarded: the document that it read.
	Base        json.RawMessage `json:"b,omitempty"`
	BaseVersion int64           `json:"bver,omitempty"`

	// For a hold that was granted (Outcome OK).
	Shared   bool      `json:"s,omitempty"`
	Until    time.Time `json:"u,omitzero"`  // Unlock was called, or the holder learned of the loss
	Unlocked time.Time `json:"ul,omitzero"` // Unlock returned
	Lost     bool      `json:"l,omitempty"`
	Fence    int64     `json:"fence,omitempty"`
}

func (e Event) String() string {
	const clock = "05.000000"
	s := fmt.Sprintf("process %d worker %d: %s %s [%s, %s] %s", e.Process, e.Worker, e.Kind, e.Key, e.Call.Format(clock), e.Return.Format(clock), e.Outcome)
	switch {
	case e.Kind == Hold && e.Outcome == OK:
		s += fmt.Sprintf(", held until %s, lost: %v, fence %d", e.Until.Format(clock), e.Lost, e.Fence)
	case e.Kind == Get:
		s += fmt.Sprintf(", version %d", e.Version)
	case e.Kind != Hold:
		s += fmt.Sprintf(", {%q: %s}, version %d", e.Field, e.Value, e.Version)
	}
	if e.Error != "" {
		s += ": " + e.Error
	}
	return s
}

// who returns the process and the worker.
func (e Event) who() [2]int { return [2]int{e.Process, e.Worker} }

// writes reports whether the event is a change of a document.
func (e Event) writes() bool {
	return e.Kind == Merge || e.Kind == Update || e.Kind == Replace || e.Kind == Guarded
}

// made reports whether the event is a change that must be in its document, at its version,
// according to what the call returned.
func (e Event) made() bool { return e.writes() && e.Outcome == OK && e.Version > 0 }

// A Recorder writes the events of one process. It is safe for concurrent use.
type Recorder struct {
	process int
	last    atomic.Int64
	mu      sync.Mutex
	to      func(Event)
}

// NewRecorder returns a recorder that calls to for each event, one after the other.
func NewRecorder(process int, to func(Event)) *Recorder {
	return &Recorder{process: process, to: to}
}

// Begin records and returns an event that begins now. Its outcome is unknown, in case its
// process does not live to record another.
func (r *Recorder) Begin(e Event) Event {
	e.N, e.Process, e.Call, e.Outcome = r.last.Add(1), r.process, time.Now(), Unknown
	r.Record(e)
	return e
}

// Record records an event.
func (r *Recorder) Record(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.to(e)
}

// Stalls calls each, until ctx ends, for every time in which the machine did not run this
// process.
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
			panic(err) // the reader is gone
		}
	}
}

// Save writes events to a file, ordered by the time of their calls.
func Save(name string, events []Event) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(f)
	write := Write(out)
	for _, e := range slices.SortedFunc(slices.Values(events), byCall) {
		write(e)
	}
	return errors.Join(out.Flush(), f.Close())
}

// Read calls each for every event in r, until its end. It ignores an event that was cut off.
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

// A Log collects events. It is safe for concurrent use.
type Log struct {
	mu     sync.Mutex
	events map[[2]int64]Event
}

// Add adds an event, or replaces its earlier record.
func (l *Log) Add(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.events == nil {
		l.events = map[[2]int64]Event{}
	}
	l.events[[2]int64{int64(e.Process), e.N}] = e
}

// Ended records that a process was killed, which ended its holds.
func (l *Log) Ended(process int, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, e := range l.events {
		if e.Process == process && e.Kind == Hold && e.Outcome == OK && e.Until.IsZero() {
			e.Until, e.Lost = at, true
			l.events[id] = e
		}
	}
}

// Events returns all events, in no order.
func (l *Log) Events() []Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	events := make([]Event, 0, len(l.events))
	for _, e := range l.events {
		events = append(events, e)
	}
	return events
}

// A Violation is a broken rule, and the events that show it.
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
