package metadata

import (
	"bytes"
	"context"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"time"

	"example.com/lockstore/internal/pgdb"
)

// A request is a statement on its way.
type request struct {
	what string
	ids  []string
	most time.Duration // that it waits for a row; 0: for ever
	op   *op           // on whose behalf
	reads,
	commits bool

	// run does it, with the server's mutex. It can be run again after it has
	// said that it waits for a row.
	run func(s *backend) error
}

// A dialect is the statements of one store by their texts.
type dialect struct {
	sql   statements
	names map[string]string
	waits map[string]time.Duration // for a row, where the statement limits that

	locked, guarded, checked bool // what the statements say that they do
}

// limit is where a statement says how long it waits for a row.
var limit = regexp.MustCompile(`old::interval > '(\d+ms)'::interval`)

func newDialect(sql statements) *dialect {
	d := &dialect{sql: sql, names: map[string]string{}, waits: map[string]time.Duration{}}
	for name, s := range map[string]statement{
		"get": sql.get, "get many": sql.getMany, "merge": sql.merge, "merge many": sql.mergeMany, "merge free": sql.mergeFree,
		"create many": sql.createMany, "insert": sql.insert,
		"open": sql.taking.open, "save": sql.taking.save, "remove": sql.taking.remove,
		"open under": sql.under.open, "save under": sql.under.save, "remove under": sql.under.remove,
	} {
		d.names[s.text] = name
		if strings.Contains(s.text, "lock_timeout") {
			d.waits[name], _ = time.ParseDuration(limit.FindStringSubmatch(s.text)[1])
		}
	}
	for _, name := range []string{"SAVEPOINT", "ROLLBACK TO SAVEPOINT", "RELEASE SAVEPOINT"} {
		d.names[name+" lockstore"], d.names[name+" host"] = name, name
	}
	d.locked = strings.Contains(sql.taking.open.text, "pg_try_advisory_xact_lock(")
	d.guarded = strings.Contains(sql.under.open.text, "pg_try_advisory_xact_lock(")
	d.checked = strings.Contains(sql.under.save.text, "pg_locks")
	return d
}

// request makes one of a statement's text and arguments. What it returns goes
// into dest, or is given to each.
func (d *dialect) request(ctx context.Context, dest []any, each func(pgdb.Row) error, affected *int64, text string, args []any) *request {
	what := d.names[text]
	q := &request{what: what, op: opOf(ctx), most: d.waits[what]}
	switch q.what {
	case "get many", "merge many", "merge free", "create many":
		q.ids = args[0].([]string)
		if q.what == "get many" {
			slices.Sort(q.ids) // which come out of a map
		}
	case "":
		panic("the model does not know: " + text)
	default:
		if len(args) > 0 {
			q.ids = []string{args[0].(string)}
		}
	}
	switch q.what {
	case "get":
		q.reads = true
		q.run = func(s *backend) error { return answer(dest, s.visible(q.ids[0])) }
	case "get many":
		q.reads = true
		q.run = func(s *backend) error {
			for _, id := range q.ids {
				if m := s.visible(id); m != nil {
					if err := each(rowOf(id, m)); err != nil {
						return err
					}
				}
			}
			return nil
		}
	case "merge":
		q.commits = true
		q.run = func(s *backend) error {
			m, err := s.merge(q, q.ids[0], args[1].(string), args[2].(int64), false)
			if err == nil {
				err = answer(dest, m)
			}
			return err
		}
	case "merge many", "merge free", "create many":
		q.commits = true
		q.run = mergeAll(q, each, args[1].([]string), args[2].([]int64))
	case "insert":
		q.run = func(s *backend) (err error) { *affected, err = s.insert(q.ids[0]); return err }
	case "open":
		q.run = func(s *backend) error { return s.open(q, args[1], lockID{key: args[3].(int64)}, d.locked, dest) }
	case "open under":
		q.run = func(s *backend) error {
			key := int64(args[3].(int32))<<32 | int64(uint32(args[4].(int32)))
			return s.open(q, args[1], lockID{key, true}, d.guarded, dest)
		}
	case "save":
		q.run = func(s *backend) error { return s.save(q, args[1].(int64), args[2].(string), true, dest) }
	case "save under":
		q.run = func(s *backend) error {
			return s.save(q, args[1].(int64), args[2].(string), !d.checked || s.held(args[3:]), dest)
		}
	case "remove":
		q.run = func(s *backend) error { return s.remove(q, true, dest) }
	case "remove under":
		q.run = func(s *backend) error { return s.remove(q, !d.checked || s.held(args[1:]), dest) }
	case "SAVEPOINT", "ROLLBACK TO SAVEPOINT", "RELEASE SAVEPOINT":
		q.run = func(s *backend) error { return s.savepoint(q.what, text[len(q.what)+1:]) }
	}
	return q
}

// answer is {row}.
func answer(dest []any, m *image) error {
	if m == nil {
		return pgdb.ErrNoRows
	}
	if len(dest) > 0 {
		*dest[0].(*[]byte) = slices.Clone(m.text)
		*dest[1].(*int64) = m.version
		at := m.updated
		*dest[2].(**time.Time) = &at
	}
	return nil
}

// An idRow is an id and {row}.
type idRow struct {
	id string
	m  *image
}

func rowOf(id string, m *image) idRow { return idRow{id, m} }

func (r idRow) Scan(dest ...any) error {
	*dest[0].(*string) = r.id
	return answer(dest[1:], r.m)
}

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
	c := &change{id: r.id, before: r.current, after: m, op: q.op, what: q.what, altered: altered}
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
	if !s.try(lockID{key: key}) {
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
func mergeAll(q *request, each func(pgdb.Row) error, patches []string, keys []int64) func(*backend) error {
	var out []idRow
	i := 0 // the rows before are done
	return func(s *backend) error {
		for ; i < len(q.ids); i++ {
			var m *image
			var err error
			if q.what == "create many" {
				m, err = s.create(q, q.ids[i], patches[i], keys[i])
			} else {
				m, err = s.merge(q, q.ids[i], patches[i], keys[i], q.what == "merge free")
			}
			if err != nil {
				return err
			}
			if m != nil {
				out = append(out, rowOf(q.ids[i], m))
			}
		}
		for _, r := range out {
			if err := each(r); err != nil {
				return err
			}
		}
		return nil
	}
}

func (s *backend) create(q *request, id, patch string, key int64) (*image, error) {
	if !s.try(lockID{key: key}) {
		return nil, nil
	}
	n, err := s.insert(id)
	if err != nil || n == 0 {
		return nil, err
	}
	r := s.server.rows[id]
	m, _, err := s.write(q, r, patched([]byte("{}"), patch), 1)
	if m == nil {
		s.set(r, nil, nil)
	}
	return m, err
}

// insert is insertSQL.
func (s *backend) insert(id string) (int64, error) {
	r := s.server.rows[id]
	if r == nil {
		r = &row{id: id}
		s.server.rows[id] = r
	}
	if s.visible(id) != nil && r.current != nil {
		return 0, nil
	}
	if err := s.lockRow(r); err != nil {
		return 0, err
	}
	if r.current != nil {
		s.yieldRow(r)
		return 0, nil
	}
	s.set(r, newImage([]byte("{}"), 0), nil)
	return 1, nil
}

// open is openSQL: {row}, whether there is one, whether its lock is free, and what
// lock_timeout was and is.
func (s *backend) open(q *request, idle any, lock lockID, asked bool, dest []any) error {
	*dest[3].(*bool), *dest[4].(*bool) = false, false
	*dest[5].(*string), *dest[6].(*bool) = "0", true
	id := q.ids[0]
	if s.visible(id) == nil {
		return nil
	}
	r := s.server.rows[id]
	if err := s.lockRow(r); err != nil {
		return err
	}
	if r.current == nil {
		s.yieldRow(r)
		return nil
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
	free := !asked || s.try(lock)
	if !free {
		q.op.lost()
	}
	*dest[3].(*bool), *dest[4].(*bool) = true, free
	return answer(dest, r.current)
}

// held is stillHeldSQL: the key's two halves, the session's process id, its start.
func (s *backend) held(args []any) bool {
	holder := s.server.locks[lockID{key: args[0].(int64)<<32 | args[1].(int64)}]
	return holder != nil && holder.pid == uint32(args[2].(int32))
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
	*dest[1].(*bool), *dest[2].(*int64) = true, m.version
	at := m.updated
	*dest[3].(**time.Time) = &at
	if altered {
		*dest[4].(*[]byte) = slices.Clone(m.text)
	}
	return nil
}

// remove is removeSQL.
func (s *backend) remove(q *request, open bool, dest []any) error {
	r := s.server.rows[q.ids[0]]
	done := open && r != nil && r.holder == s && r.current != nil
	if dest != nil {
		*dest[0].(*bool), *dest[1].(*bool) = open, done
	}
	if done {
		var c *change
		if r.current.version > 0 || r.current == r.committed { // else it was made for nothing
			c = &change{id: r.id, before: r.current, op: q.op, what: q.what}
			s.server.w.stored(s, c)
		}
		s.set(r, nil, c)
	}
	return nil
}
