package metadata

import (
	"cmp"
	"context"
	"maps"
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
	locks int // that it may take

	// run does it, with the world's mutex. It can be run again after it has
	// said that it waits for a row.
	run func(s *backend) error
}

// lost counts an attempt that failed since somebody else was there: of the op, and of
// each MergeMany in the same process that may stand behind it. Its caller has the
// world's mutex.
func (q *request) lost() {
	if q.op == nil {
		return
	}
	q.op.rivals.Add(1)
	p := q.op.at
	for _, o := range p.live() {
		if o != q.op && o.at == p && slices.ContainsFunc(p.group(o)[1:], func(each *op) bool { return each.doc == q.ids[0] }) {
			o.rivals.Add(1)
		}
	}
}

// A dialect is the statements of one store by their texts.
type dialect struct {
	sql   statements
	names map[string]string
	waits map[string]time.Duration // for a row, where the statement limits that
	keeps map[string]keeping       // by their texts

	locked, versioned, digested, relocked bool // what the statements say that they do
}

// limit is where a statement says how long it waits for a row.
var limit = regexp.MustCompile(`LEAST\('(\d+ms)'::interval`)

func newDialect(sql statements) *dialect {
	d := &dialect{sql: sql, names: map[string]string{}, waits: map[string]time.Duration{}, keeps: map[string]keeping{}}
	all := map[string]statement{"used": sql.used}
	for name, s := range map[string]storing{
		"merge": sql.merge, "save on": sql.saveOn,
		"insert": sql.taking.insert, "save": sql.taking.save, "remove": sql.taking.remove, "note": sql.taking.note,
		"insert under": sql.under.insert, "save under": sql.under.save, "remove under": sql.under.remove, "note under": sql.under.note,
		"insert under all": sql.underAll.insert, "save under all": sql.underAll.save, "remove under all": sql.underAll.remove, "note under all": sql.underAll.note,
	} {
		all[name], all[name+" once"] = s.plain, s.once
		d.keeps[s.once.text] = keepingOf(s.once)
	}
	maps.Copy(all, map[string]statement{
		"get": sql.get.plain, "get many": sql.getMany.plain, "get under": sql.get.held, "get many under": sql.getMany.held, "merge many": sql.mergeMany, "merge free": sql.mergeFree, "merge busy": sql.mergeBusy, "merge here": sql.mergeHere,
		"create many": sql.createMany,
		"open":        sql.taking.open, "open under": sql.under.open, "open under all": sql.underAll.open,
	})
	for name, s := range all {
		d.names[s.text] = name
		if strings.Contains(s.text, "lock_timeout") {
			d.waits[name], _ = time.ParseDuration(limit.FindStringSubmatch(s.text)[1])
		}
	}
	d.names[sql.mergeManyFree.text] = "merge free"
	for name, s := range map[string]storing{"insert": sql.taking.collide, "insert under": sql.under.collide, "insert under all": sql.underAll.collide} {
		d.names[s.plain.text], d.names[s.once.text] = name, name+" once" // rows of the model collide with none but their own
		d.keeps[s.once.text] = keepingOf(s.once)
	}
	for _, name := range []string{"SAVEPOINT", "ROLLBACK TO SAVEPOINT", "RELEASE SAVEPOINT"} {
		d.names[name+" lockstore"], d.names[name+" host"] = name, name
	}
	d.names[sql.mergeOnce.text], d.keeps[sql.mergeOnce.text] = "merge once", keepingOf(sql.mergeOnce)
	d.locked = strings.Contains(sql.taking.open.text, "pg_try_advisory_xact_lock(")
	d.relocked = strings.Contains(sql.saveOn.plain.text, "pg_try_advisory_xact_lock(")
	d.versioned = strings.Contains(sql.saveOn.plain.text, "OPERATOR(pg_catalog.=) $5::bigint")
	d.digested = strings.Contains(sql.saveOn.plain.text, "OPERATOR(pg_catalog.=) $6::pg_catalog.text")
	return d
}

// request makes one of a statement's text and arguments. What it returns goes
// into dest, or is given to each.
func (d *dialect) request(ctx context.Context, dest []any, each func(pgdb.Row) error, affected *int64, text string, args []any) *request {
	what := d.names[text]
	q := &request{what: strings.TrimSuffix(strings.TrimSuffix(what, " once"), " all"), op: opOf(ctx), most: d.waits[what]}
	if k, keeps := d.keeps[text]; keeps && strings.HasSuffix(what, " once") {
		n := 4
		if text == d.sql.mergeOnce.text {
			n = 3
		}
		kept := args[len(args)-n:]
		args = args[:len(args)-n]
		defer func() { q.withTokens(k, kept, dest) }()
	}
	checked := strings.Contains(text, "pg_locks")
	switch q.what {
	case "get many", "get many under", "merge many", "merge free", "merge busy", "create many":
		q.ids = args[0].([]string)
		if strings.HasPrefix(q.what, "get many") {
			slices.Sort(q.ids) // which come out of a map
		}
	case "used": // which asks for digests, of the document that was opened
	case "":
		panic("the model does not know: " + text)
	default:
		if len(args) > 0 {
			q.ids = []string{args[0].(string)}
		}
	}
	switch q.what {
	case "get", "get many", "get under", "get many under":
		q.reads = true
		q.run = func(s *backend) error {
			rows := []pgdb.Row{idRow{}} // without a document
			for _, id := range q.ids {
				if m := s.visible(id); m != nil {
					rows = append(rows, idRow{id, m})
				}
			}
			held := strings.HasSuffix(q.what, "under")
			for _, row := range rows {
				if held {
					row = heldReadRow{row, s.holds(args[1].(string))}
				}
				if err := each(row); err != nil {
					return err
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
	case "merge here":
		q.run = mergeHere(q, args[1].(string), args[2].(int64), args[6].(int64), strings.Contains(text, "pg_try_advisory_xact_lock("), strings.Contains(text, "NOT EXISTS (SELECT FROM _ours)"), dest)
	case "merge many", "merge free", "merge busy", "create many":
		q.commits = true
		q.run = mergeAll(q, each, args[1].([]string), args[2].([]int64), args[5].([]int64))
	case "insert":
		q.run = func(s *backend) error { return s.create(q, args[1].(int64), args[2].(string), true, dest) }
	case "insert under":
		q.run = func(s *backend) error {
			return s.create(q, args[1].(int64), args[2].(string), !checked || s.held(args[3:]), dest)
		}
	case "open":
		q.run = func(s *backend) error {
			return s.open(q, args[1], args[2].(int64), d.locked, slices.Delete(slices.Clone(dest), 3, 4))
		}
	case "open under":
		q.run = func(s *backend) error {
			err := s.open(q, args[1], args[2].(int64), strings.Contains(text, "pg_try_advisory_xact_lock("), slices.Delete(slices.Clone(dest), 3, 4))
			if *dest[5].(*bool) && strings.Contains(text, "pg_try_advisory_xact_lock_shared(") {
				s.share(args[3].(string))
			}
			if checked && (err == nil || err == pgdb.ErrNoRows) && !s.held(args[3:]) {
				return dest[3].(pgdb.Here).Scan(false)
			}
			return err
		}
	case "save":
		q.run = func(s *backend) error { return s.save(q, args[1].(int64), args[2].(string), true, dest) }
	case "save on":
		q.commits = true
		q.run = func(s *backend) error {
			return s.saveOn(q, args[1].(int64), args[2].(string), args[3].(int64), args[4].(int64), args[5].(string), d, dest)
		}
	case "save under":
		q.run = func(s *backend) error {
			return s.save(q, args[1].(int64), args[2].(string), !checked || s.held(args[3:]), dest)
		}
	case "remove":
		q.run = func(s *backend) error { return s.remove(q, true, dest) }
	case "remove under":
		q.run = func(s *backend) error { return s.remove(q, !checked || s.held(args[1:]), dest) }
	case "used":
		q.run = func(s *backend) (err error) {
			s.used(args[0].([]string), func(place int, k *keptRow) { err = cmp.Or(err, each(tokenRow{place, k})) })
			return err
		}
	case "note":
		q.run = func(s *backend) error { return s.note(q.ids[0], true, dest) }
	case "note under":
		q.run = func(s *backend) error { return s.note(q.ids[0], !checked || s.held(args[1:]), dest) }
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
		*dest[2].(**int64) = &at
	}
	return nil
}

// An idRow is an id and {row}, where there is one.
type idRow struct {
	id string
	m  *image
}

func (r idRow) Scan(dest ...any) error {
	*dest[0].(*string) = r.id
	if r.m == nil {
		*dest[1].(*[]byte), *dest[2].(*int64) = nil, 0
		return nil
	}
	return answer(dest[1:], r.m)
}

// A heldReadRow says before its row whether that is where the holds are held.
type heldReadRow struct {
	pgdb.Row
	here bool
}

func (r heldReadRow) Scan(dest ...any) error {
	if err := dest[0].(pgdb.Here).Scan(r.here); err != nil {
		return err
	}
	return r.Row.Scan(dest[1:]...)
}

// A shareRow says before its row how many documents a statement may have done.
type shareRow struct {
	idRow
	locks int
}

func (r shareRow) Scan(dest ...any) error {
	*dest[0].(*int64) = int64(r.locks)
	return r.idRow.Scan(dest[1:]...)
}
