package metadata

import (
	"bytes"
	"encoding/json"
	"slices"
	"time"

	"example.com/lockstore/internal/pgdb"
)

// What the table's constraint and its triggers do.
var (
	errCheck   = &pgdb.Error{Code: "23514", Constraint: "no_bad"}
	suppresses = []byte(`"mute"`)
	refuses    = []byte(`"bad"`)
	alters     = []byte(`"alter"`)
)

// write stores a document in a row that the session has locked. No image means
// that a trigger has suppressed it.
func (s *backend) write(q *request, r *row, text []byte, changes int64) (m *image, altered bool, err error) {
	switch {
	case bytes.Contains(text, suppresses):
		return nil, false, nil
	case bytes.Contains(text, refuses):
		return nil, false, errCheck
	case bytes.Contains(text, alters) && !bytes.Contains(text, []byte(`"trigger"`)):
		text, altered = patched(text, `{"trigger":1}`), true
	}
	m = newImage(text, r.current.version+changes)
	c := &change{id: r.id, before: r.current, after: m, op: q.op, what: q.what}
	s.server.w.stored(s, c)
	s.set(r, m, c)
	return m, altered, nil
}

func patched(text []byte, patch string) []byte {
	merged, err := MergePatch(text, json.RawMessage(patch))
	if err != nil {
		panic(err)
	}
	return merged
}

// merge is mergeSQL, and a row's part in mergeManySQL and mergeFreeSQL: no image
// means that there is no such row, that its lock is taken, or that the patch
// changes nothing, where that is not asked for.
func (s *backend) merge(q *request, id, patch string, key int64, free bool) (*image, error) {
	m := s.visible(id)
	if m == nil {
		return nil, nil
	}
	r := s.server.rows[id]
	if free {
		if r.holder != nil && r.holder != s {
			return nil, nil
		}
		s.lockRow(r)
	}
	if !s.try(key) {
		return nil, nil
	}
	text := patched(m.text, patch)
	if bytes.Equal(text, m.text) {
		if free {
			return m, nil
		}
		return nil, nil
	}
	if err := s.lockRow(r); err != nil {
		return nil, err
	}
	if r.current == nil {
		s.yieldRow(r)
		return nil, nil
	}
	if text = patched(r.current.text, patch); bytes.Equal(text, r.current.text) {
		return nil, nil
	}
	m, _, err := s.write(q, r, text, 1)
	return m, err
}

// mergeAll is mergeManySQL, mergeFreeSQL or createManySQL.
func mergeAll(q *request, each func(pgdb.Row) error, patches []string, keys, room []int64) func(*backend) error {
	var out []idRow
	i := 0 // the rows before are done
	return func(s *backend) error {
		for ; i < min(len(q.ids), q.locks); i++ {
			var m *image
			var err error
			id, busy := q.ids[i], q.what == "merge busy"
			if q.what == "create many" {
				m, err = s.createOne(q, id, patches[i], keys[i])
			} else if room[i] >= 0 {
				m, err = s.merge(q, id, patches[i], keys[i], q.what != "merge many")
			}
			if err != nil {
				return err
			}
			if m != nil {
				out = append(out, idRow{id, m})
			}
			if busy && s.isFree(id, keys[i]) {
				out = append(out, idRow{id, nil})
			} else if busy {
				q.lost()
			}
		}
		if len(out) == 0 && q.what != "merge many" {
			out = append(out, idRow{})
		}
		for _, r := range out {
			if err := each(shareRow{r, q.locks}); err != nil {
				return err
			}
		}
		return nil
	}
}

// isFree reports whether a document is missing, or the session has it or could.
func (s *backend) isFree(id string, key int64) bool {
	r, lock := s.server.rows[id], s.server.locks[key]
	return s.visible(id) == nil || (r.holder == nil || r.holder == s) && (lock == nil || lock == s)
}

// createOne is a row's part in createManySQL.
func (s *backend) createOne(q *request, id, patch string, key int64) (*image, error) {
	if !s.try(key) || s.visible(id) != nil {
		return nil, nil
	}
	m, _, err := s.insert(q, id, patched([]byte("{}"), patch), 1)
	return m, err
}

// create is insertSQL.
func (s *backend) create(q *request, changes int64, text string, open bool, dest []any) error {
	*dest[0].(*bool) = open
	if !open {
		return nil
	}
	m, altered, err := s.insert(q, q.ids[0], []byte(text), changes)
	switch {
	case err != nil:
	case m != nil:
		stored(m, altered, dest)
	case s.visible(q.ids[0]) != nil: // an outsider's
		q.lost()
	}
	return err
}

// insert makes a row, if there is none.
func (s *backend) insert(q *request, id string, text []byte, changes int64) (m *image, altered bool, err error) {
	r := s.server.rows[id]
	if r == nil {
		r = &row{id: id}
		s.server.rows[id] = r
	}
	if s.visible(id) != nil && r.current != nil {
		return nil, false, nil
	}
	if err := s.lockRow(r); err != nil {
		return nil, false, err
	}
	if r.current != nil {
		s.yieldRow(r)
		return nil, false, nil
	}
	if q.op != nil && q.op.hold() != nil { // which may end before the transaction does
		s.server.w.inserted = true
	}
	s.set(r, newImage([]byte("{}"), 0), nil)
	if m, altered, err = s.write(q, r, text, changes); m == nil {
		s.set(r, nil, nil)
	}
	return m, altered, err
}

// open is openSQL: {row}, whether there is one, and whether its lock is free.
func (s *backend) open(q *request, idle any, lock int64, asked bool, dest []any) error {
	*dest[3].(*bool), *dest[4].(*bool), *dest[5].(*bool) = false, false, true
	r := s.server.rows[q.ids[0]]
	found := s.visible(q.ids[0]) != nil
	if found {
		if err := s.lockRow(r); err != nil {
			return err
		}
		if found = r.current != nil; !found {
			s.yieldRow(r)
		}
	}
	if text, ours := idle.(string); ours && s.idle == nil {
		limit, err := time.ParseDuration(text)
		if err != nil {
			panic(err)
		}
		s.idle = time.AfterFunc(limit, s.abandon)
		s.idle.Stop()
		s.limit = limit
	}
	if !found && s.server.w.table.Name != "" { // whose rows are the host's
		return nil
	}
	free := !asked || s.try(lock)
	if !free {
		q.lost()
	}
	*dest[3].(*bool), *dest[4].(*bool) = found, free
	if !found {
		return nil
	}
	return answer(dest, r.current)
}

// mergeHere is mergeHereSQL, to which the row is as it was when it began, too.
func mergeHere(q *request, patch string, lock, rowOrder int64, asked, skips bool, dest []any) func(*backend) error {
	var began time.Time
	var before *image
	return func(s *backend) error {
		id, free := q.ids[0], dest[3].(*bool)
		if began.IsZero() {
			began, before = time.Now(), s.visible(id)
		}
		*free, *dest[4].(*int64), *dest[5].(*bool) = true, time.Since(began).Microseconds(), true
		r := s.server.rows[id]
		if before == nil || r == nil {
			return nil
		}
		if r.holder != nil && r.holder != s || !skips {
			if err := s.lockRow(s.server.rowOrder(rowOrder, id)); err != nil {
				return err
			}
		}
		if err := s.lockRow(r); err != nil {
			return err
		}
		if r.current == nil {
			s.yieldRow(r)
			return nil
		}
		if *free = !asked || s.try(lock); !*free {
			q.lost()
			return nil
		}
		text := patched(r.current.text, patch)
		if bytes.Equal(text, r.current.text) || bytes.Equal(patched(before.text, patch), before.text) {
			return nil
		}
		m, _, err := s.write(q, r, text, 1)
		if err != nil || m == nil {
			return err
		}
		return answer(dest, m)
	}
}

// held is stillHeldSQL: the key's two halves, the session's process id, its start; or
// allHeldSQL, of a text.
func (s *backend) held(args []any) bool {
	if text, ok := args[0].(string); ok {
		return s.holds(text)
	}
	holder := s.server.locks[args[0].(int64)<<32|args[1].(int64)]
	return holder != nil && holder.pid == uint32(args[2].(int32))
}

type heldRow struct {
	High, Low, Guard int64
	PID              int32
}

func parseHolds(text string) (holds []heldRow) {
	if err := json.Unmarshal([]byte(text), &holds); err != nil {
		panic(err)
	}
	return holds
}

// holds is heldReadSQL's part of that, for what [serverHolds.text] says.
func (s *backend) holds(text string) bool {
	for _, h := range parseHolds(text) {
		if !s.held([]any{h.High, h.Low, h.PID}) {
			return false
		}
	}
	return true
}

// share takes the second guards of what [serverHolds.text] says, to the end of the transaction.
func (s *backend) share(text string) {
	for _, h := range parseHolds(text) {
		if h.Guard != 0 {
			s.server.shares[h.Guard]++
			s.undo = append(s.undo, undo{shared: h.Guard})
		}
	}
}

// save is saveSQL.
func (s *backend) save(q *request, changes int64, text string, open bool, dest []any) error {
	*dest[0].(*bool) = open
	r := s.server.rows[q.ids[0]]
	if !open || r == nil || r.holder != s || r.current == nil {
		return nil
	}
	m, altered, err := s.write(q, r, []byte(text), changes)
	if err != nil || m == nil {
		return err
	}
	stored(m, altered, dest)
	return nil
}

// saveOn is saveOnSQL.
func (s *backend) saveOn(q *request, changes int64, text string, lock, version int64, digest string, d *dialect, dest []any) error {
	r := s.server.rows[q.ids[0]]
	same := func(m *image) bool {
		return m != nil && (m.version == version || !d.versioned) && (m.digest() == digest || !d.digested)
	}
	*dest[0].(*bool) = !d.relocked || s.try(lock)
	if !*dest[0].(*bool) || !same(s.visible(q.ids[0])) {
		return nil
	}
	if err := s.lockRow(r); err != nil {
		return err
	}
	if !same(r.current) {
		s.yieldRow(r)
		return nil
	}
	m, altered, err := s.write(q, r, []byte(text), changes)
	if err != nil || m == nil {
		return err
	}
	stored(m, altered, dest)
	return nil
}

// stored is what insertSQL and saveSQL return of what they have stored.
func stored(m *image, altered bool, dest []any) {
	*dest[1].(*bool), *dest[2].(*int64) = true, m.version
	at := m.updated
	*dest[3].(**int64) = &at
	if altered {
		*dest[4].(*[]byte) = slices.Clone(m.text)
	}
}

// remove is removeSQL.
func (s *backend) remove(q *request, open bool, dest []any) error {
	r := s.server.rows[q.ids[0]]
	done := open && r != nil && r.holder == s && r.current != nil
	*dest[0].(*bool), *dest[1].(*bool) = open, done
	if done {
		c := &change{id: r.id, before: r.current, op: q.op, what: q.what}
		s.server.w.stored(s, c)
		s.set(r, nil, c)
	}
	return nil
}
