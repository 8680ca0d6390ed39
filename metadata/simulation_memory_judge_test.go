package metadata

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"example.com/lockstore/lock"
)

// judge judges what became of one document.
func (w *memoryWorld) judge(id string) {
	doc, err := w.store.Get(context.Background(), id)
	if err != nil && !errors.Is(err, ErrNotFound) {
		w.Problem("LOST WRITE", "%s: %v", id, err)
	}
	if most := w.store.options.MaxDocumentBytes; len(doc.Metadata) > most {
		w.Problem("SIZE", "%s has %d bytes, of %d", id, len(doc.Metadata), most)
	}
	// What was answered, and at last what there is now.
	var answered, denied []*memoryWrite
	for _, o := range w.judgeOnce() {
		if o.doc == id && o.decided > 1 {
			w.Problem("TWICE", "write %d decided %d times", o.n, o.decided)
		}
		switch {
		case o.doc != id:
		case o.err != nil:
			denied = append(denied, o)
		case o.kind != "delete" && o.got.ID != id, o.marks() && !o.shows().has(o.n):
			w.Problem("EMPTY ANSWER", "write %d: %s", o.n, o.got.Metadata)
		case o.marks() && o.view >= 0 && o.got.Version != o.view+1:
			w.Problem("VERSION", "write %d: version %d, view %d", o.n, o.got.Version, o.view)
		default:
			answered = append(answered, o)
		}
	}
	if err == nil {
		answered = append(answered, &memoryWrite{n: len(w.asked), kind: "get", doc: id, got: doc, begun: math.MaxInt, ended: math.MaxInt})
	}
	for _, o := range denied {
		w.judgeFailure(o, answered)
	}
	w.judgeLives(id, answered)
	w.judgeAges(answered)
}

// marks reports whether the document shows a write of that kind.
func (o *memoryWrite) marks() bool {
	return o.kind == "merge" || o.kind == "update" || o.kind == "replace"
}

// shows are the writes that are in an answer.
func (o *memoryWrite) shows() marks { return marksOf(o.got.Metadata) }

// isEmpty reports whether the answer is a document as it is made for somebody who
// changes nothing.
func (o *memoryWrite) isEmpty() bool { return o.got.Version == 1 && o.shows() == marks{} }

// A memoryState is one state of a document: no two have the same.
type memoryState struct {
	version int64
	marks   marks
}

func (o *memoryWrite) state() memoryState { return memoryState{o.got.Version, o.shows()} }

// before is the state that a merge or an update has changed.
func (o *memoryWrite) before() memoryState {
	return memoryState{o.got.Version - 1, o.shows().without(marksOf(fmt.Appendf(nil, `"w%d" `, o.n)))}
}

// judgeLives judges that the answers make lives of the document, each of which
// begins with version 1 and is ended by somebody, but for that of now.
func (w *memoryWorld) judgeLives(id string, answered []*memoryWrite) {
	states := map[memoryState]string{} // the texts of those that writes have made
	last := map[int64]int{}            // how many of them nobody has changed, by version
	empties, deletes := 0, 0           // of those that had an empty document, which one at least has made, and of deletes
	for _, o := range answered {
		switch {
		case o.kind == "delete":
			deletes++
		case o.marks():
			states[o.state()] = string(o.got.Metadata)
			last[o.got.Version]++
		case o.kind != "get" && o.isEmpty():
			empties++
		}
	}
	changed := map[memoryState]int{} // by the write
	for _, o := range answered {
		switch text, made := states[o.state()]; {
		case o.kind == "delete":
		case !made && (!o.isEmpty() || empties == 0), made && text != string(o.got.Metadata):
			w.Problem("EMPTY ANSWER", "write %d: nobody has made version %d: %s", o.n, o.got.Version, o.got.Metadata)
		case !o.marks():
			if o.kind == "get" {
				last[o.got.Version]-- // and goes on
			}
		case o.got.Version == 1 && o.shows().count() == 1:
		case o.kind == "replace":
			if last[o.got.Version-1]--; o.shows().count() != 1 {
				w.Problem("REPLACE", "write %d: %s", o.n, o.got.Metadata)
			}
		default:
			last[o.got.Version-1]--
			before := o.before()
			if _, made := states[before]; !made && before != (memoryState{version: 1}) {
				w.Problem("VERSION", "write %d: nobody has made what it has changed: %s", o.n, o.got.Metadata)
			}
			if other, twice := changed[before]; twice && before.marks != (marks{}) {
				w.Problem("LOST WRITE", "writes %d and %d have changed the same", other, o.n)
			}
			changed[before] = o.n
		}
	}
	ended := 0
	for version, n := range last {
		if version > 1 {
			ended += n
		}
		if n < 0 && (version > 1 || -n > empties) {
			w.Problem("VERSION", "%s: version %d is changed %d times too often", id, version, -n)
		}
	}
	// Of version 1 there are as many more as had an empty document made for them.
	if made := deletes - ended - last[1]; made < 0 || deletes < ended {
		w.Problem("LOST WRITE", "%s: %d lives more have ended than by %d deletes", id, max(-made, ended-deletes), deletes)
	} else if made > empties {
		w.Problem("TWICE", "%s: %d deletes are %d too many", id, deletes, made-empties)
	}
}

// judgeAges judges that who comes after a write sees it, unless somebody has
// replaced or deleted the document meanwhile.
func (w *memoryWorld) judgeAges(answered []*memoryWrite) {
	for _, later := range answered {
		for _, o := range answered {
			if !o.marks() || later.kind == "delete" || later.begun < o.ended {
				continue
			}
			if later.got.Version < o.got.Version && !among(answered, o, later, "delete") ||
				!later.shows().has(o.n) && !among(answered, o, later, "delete", "replace") {
				w.Problem("LOST WRITE", "write %d, version %d, is not in what write %d has: version %d: %s", o.n, o.got.Version, later.n, later.got.Version, later.got.Metadata)
			}
		}
	}
}

// among reports whether a write of one of kinds can have come between two others,
// or is the later of them.
func among(answered []*memoryWrite, o, later *memoryWrite, kinds ...string) bool {
	return slices.ContainsFunc(answered, func(x *memoryWrite) bool {
		return x != o && x.ended > o.begun && x.begun < later.ended && slices.Contains(kinds, x.kind)
	})
}

func (w *memoryWorld) judgeFailure(o *memoryWrite, answered []*memoryWrite) {
	for _, other := range answered {
		if other.shows().has(o.n) {
			w.Problem("DENIED THOUGH MADE", "write %d: %v, but write %d has %s", o.n, o.err, other.n, other.got.Metadata)
		}
	}
	for _, known := range []error{context.Canceled, context.DeadlineExceeded, lock.ErrReleased, lock.ErrBusy} {
		if errors.Is(o.err, known) {
			return
		}
	}
	missing := func() bool {
		return !slices.ContainsFunc(answered, func(other *memoryWrite) bool {
			return other.marks() && other.ended < o.begun && !among(answered, other, o, "delete")
		})
	}
	switch {
	case errors.Is(o.err, errDecided) && o.kind == "failing update":
	case errors.Is(o.err, ErrConflict) && o.view >= 0:
	case errors.Is(o.err, ErrTooLarge) && w.store.options.MaxDocumentBytes < 100:
	case errors.Is(o.err, ErrNotFound) && o.kind == "delete" && missing():
	default:
		w.Problem("UNFOUNDED", "write %d: %v", o.n, o.err)
	}
}

// judgeOnce judges that of a write and its repetitions one has made it, of which the others
// are told. It returns all writes, of these the one that has.
func (w *memoryWorld) judgeOnce() (writes []*memoryWrite) {
	for _, root := range w.asked {
		if root.repeats != nil {
			continue
		}
		by := *root
		for _, o := range w.asked {
			if o.root() == root && o.err == nil && !o.got.Repeated {
				if o != root && by.err == nil && !by.got.Repeated {
					w.Problem("TWICE", "write %d is made again by write %d", root.n, o.n)
				}
				by = *o
				by.n = root.n
			}
		}
		for _, o := range w.asked {
			if o.root() == root && o.err == nil && o.got.Repeated && (by.err != nil || o.got.Made != by.got.Version) {
				w.Problem("INVENTED", "write %d is told to have made version %d, and write %d has: %d, %v", o.n, o.got.Made, by.n, by.got.Version, by.err)
			}
		}
		writes = append(writes, &by)
	}
	return writes
}
