package history

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// The rules of documents.
const (
	EmptyAnswer = "empty answer"  // a nil error comes with the document: its id, and after a write a version
	OneVersion  = "one version"   // each write makes its own version: if two make the same, one is lost
	LostWrite   = "lost write"    // an acknowledged write is in the document, at its version and permanently
	Contiguity  = "contiguity"    // each version was made by a write
	Unexplained = "unexplained"   // each change was made by a write, once
	NotApplied  = "not applied"   // a write that failed is not in the document
	LostUpdate  = "lost update"   // an update is based on the document before it, so that the counter counts all of them
	RealTime    = "real time"     // an acknowledged write comes before those called afterwards
	FreshRead   = "fresh read"    // a read sees all that was acknowledged or read before it, and no write called after it
	ReadVersion = "read versions" // a version has one document
)

// A Final is the state of a document at the end.
type Final struct {
	Version  int64
	Document json.RawMessage
}

// CheckDocuments checks the writes and reads of documents that were created within the history
// and never deleted.
func CheckDocuments(events []Event, final map[string]Final) (found []Violation) {
	for id, writes := range byKey(events, func(e Event) bool { return e.writes() || e.Kind == Get }) {
		d := newDocument(id, writes)
		d.versions(final[id])
		d.order()
		d.reads(final[id])
		found = append(found, d.found...)
	}
	return found
}

type fields map[string]string

func fieldsOf(document json.RawMessage) fields {
	var raw map[string]json.RawMessage
	if len(document) > 0 && json.Unmarshal(document, &raw) != nil {
		return fields{"not": "an object"}
	}
	f := make(fields, len(raw))
	for k, v := range raw {
		f[k] = string(bytes.TrimSpace(v))
	}
	return f
}

// count returns the counter, which an update increments.
func (f fields) count() int64 { return number(f[Counter]) }

func number[T string | json.RawMessage](text T) int64 {
	n, _ := strconv.ParseInt(string(text), 10, 64)
	return n // 0: it is none
}

// A document is the history of one document.
type document struct {
	id     string
	acked  []Event // acknowledged writes, by version
	others []Event // writes that were not acknowledged
	read   []Event
	used   map[string]bool // values of unknown writes that are in the document
	found  []Violation
}

func newDocument(id string, events []Event) *document {
	d := &document{id: id, used: map[string]bool{}}
	for _, e := range events {
		if e.Outcome == OK && (e.Answer != id || e.writes() && e.Version == 0) {
			d.violates(EmptyAnswer, fmt.Sprintf("it is of document %q, version %d", e.Answer, e.Version), e)
			e.Outcome = Unknown // the answer says nothing
		}
		switch {
		case e.Kind == Get:
			if e.Outcome == OK {
				d.read = append(d.read, e)
			}
		case e.Outcome == OK:
			d.acked = append(d.acked, e)
		default:
			d.others = append(d.others, e)
		}
	}
	slices.SortFunc(d.acked, byVersion)
	return d
}

func (d *document) violates(rule, reason string, events ...Event) {
	d.found = append(d.found, Violation{rule, d.id, reason, events})
}

// versions checks all versions of the document in order.
func (d *document) versions(final Final) {
	state, version := fields{}, int64(0)
	var before Event
	for _, e := range d.acked {
		if e.Version == version {
			d.violates(OneVersion, fmt.Sprintf("two writes made version %d", version), before, e)
			return
		}
		if e.Version > final.Version {
			d.violates(LostWrite, fmt.Sprintf("the document ends at version %d", final.Version), e)
			return
		}
		after := fieldsOf(e.Document)
		if after[e.Field] != string(e.Value) {
			d.violates(LostWrite, "its own answer does not have it", e)
			return
		}
		if !d.explain(state, after, e.Version-version-1, before, e) {
			return
		}
		state, version, before = after, e.Version, e
	}
	d.explain(state, fieldsOf(final.Document), final.Version-version, before, Event{Kind: Get, Key: d.id, Version: final.Version, Outcome: OK})
}

// explain finds the writes that made the changes between two states, except that of e: gap
// writes of unknown outcome.
func (d *document) explain(from, to fields, gap int64, before, e Event) bool {
	least, most := int64(0), gap // updates, of which each adds one to the counter
	if e.Kind == Update || e.Kind == Guarded {
		least, most = 1, gap+1
	}
	if more := to.count() - from.count(); more < least || more > most {
		d.violates(LostUpdate, fmt.Sprintf("the counter went from %d to %d, by %d to %d updates", from.count(), to.count(), least, most), before, e)
	}
	visible := int64(0)
	changed := map[string]bool{e.Field: true}
	for name := range union(from, to) {
		if from[name] == to[name] || e.Field == name {
			continue
		}
		changed[name] = true
		u := d.unacknowledged(name, to[name], e.Return)
		switch {
		case u == nil && from[name] != "" && to[name] != from[name]:
			d.violates(LostWrite, fmt.Sprintf("%s went from %s to %q, which nobody wrote, or somebody twice", name, from[name], to[name]), before, e)
			return false
		case u == nil:
			d.violates(Unexplained, fmt.Sprintf("nobody made %s %s, or somebody twice", name, to[name]), before, e)
			return false
		case u.Outcome == Failed:
			d.violates(NotApplied, fmt.Sprintf("%s is %s", name, to[name]), *u, e)
			return false
		}
		d.used[name+u.id()] = true
		visible++
	}
	if visible > gap {
		d.violates(LostWrite, fmt.Sprintf("%d writes went into %d versions", visible, gap), before, e)
		return false
	}
	for i := 0; i < len(d.others) && visible < gap; i++ { // writes that later ones have overwritten
		u := &d.others[i]
		if u.Outcome == Unknown && changed[u.Field] && !d.used[u.Field+u.id()] &&
			before.possiblyBefore(*u) && u.possiblyBefore(e) && (u.Field != Counter || from.count() < number(u.Value) && number(u.Value) < to.count()) {
			d.used[u.Field+u.id()] = true
			visible++
		}
	}
	if visible < gap {
		d.violates(Contiguity, fmt.Sprintf("nobody made %d of the %d versions between", gap-visible, gap), append(d.suspects(changed, before, e), before, e)...)
		return false
	}
	return true
}

// suspects returns a failed write, if there is one that may have been applied between two
// others and overwritten by the later.
func (d *document) suspects(changed map[string]bool, before, after Event) []Event {
	for _, u := range d.others {
		if u.Outcome == Failed && changed[u.Field] && before.possiblyBefore(u) && u.possiblyBefore(after) {
			return []Event{u}
		}
	}
	return nil
}

// possiblyBefore reports whether e may have been made before the write w was.
func (e Event) possiblyBefore(w Event) bool { return w.Return.IsZero() || w.Return.After(e.Call) }

func (e *Event) id() string { return fmt.Sprint("/", e.Process, "/", e.N) }

// unacknowledged finds the unacknowledged write of a value.
func (d *document) unacknowledged(field, value string, by time.Time) *Event {
	var failed *Event
	for i := range d.others {
		u := &d.others[i]
		if u.Field != field || string(u.Value) != value || d.used[field+u.id()] || !by.IsZero() && u.Call.After(by) {
			continue
		}
		if u.Outcome == Unknown {
			return u
		}
		failed = u
	}
	return failed
}

func union(a, b fields) map[string]bool {
	names := map[string]bool{}
	for name := range a {
		names[name] = true
	}
	for name := range b {
		names[name] = true
	}
	return names
}

// order checks that no call is of an earlier version than those that returned before it began.
func (d *document) order() {
	calls := slices.SortedFunc(slices.Values(slices.Concat(d.acked, d.read)), byCall)
	returned := slices.SortedFunc(slices.Values(calls), byReturn)
	var newest Event // of those that returned before the call
	for _, e := range calls {
		for ; returned[0].Return.Before(e.Call); returned = returned[1:] {
			if returned[0].Version > newest.Version {
				newest = returned[0]
			}
		}
		switch {
		case e.Kind == Get && e.Version < newest.Version:
			d.violates(FreshRead, fmt.Sprintf("it read version %d, when %d was known", e.Version, newest.Version), newest, e)
		case e.Kind != Get && e.Version <= newest.Version && newest.Kind == Get:
			d.violates(FreshRead, fmt.Sprintf("it read version %d, before %d was asked for", newest.Version, e.Version), e, newest)
		case e.Kind != Get && e.Version <= newest.Version:
			d.violates(RealTime, fmt.Sprintf("version %d was acknowledged before %d was asked for", newest.Version, e.Version), e, newest)
		}
	}
}

// reads checks that each version has one document.
func (d *document) reads(final Final) {
	seen := newStates(d.acked, final)
	for _, r := range d.read {
		if reason, by := seen.contradict(r); reason != "" {
			d.violates(ReadVersion, reason, append(by, r)...)
		}
	}
}

// states are the states of one document by version.
type states struct {
	of    map[int64]Event // calls that have returned them, and the end
	final Final
}

func newStates(acked []Event, final Final) states {
	s := states{map[int64]Event{final.Version: {Kind: Get, Outcome: OK, Version: final.Version, Document: final.Document}}, final}
	for _, e := range acked {
		s.of[e.Version] = e
	}
	return s
}

// contradict finds out what is wrong with the state that e has seen, and the call that shows it.
func (s states) contradict(e Event) (reason string, by []Event) {
	if e.Version > s.final.Version {
		return fmt.Sprintf("it saw version %d, and the document ends at version %d", e.Version, s.final.Version), nil
	}
	same, known := s.of[e.Version]
	switch {
	case !known:
		s.of[e.Version] = e
	case !bytes.Equal(e.Document, same.Document):
		return fmt.Sprintf("version %d is\n    %s and\n    %s", e.Version, same.Document, e.Document), []Event{same}
	}
	return "", nil
}
