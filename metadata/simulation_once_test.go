package metadata

import (
	"encoding/hex"
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"example.com/lockstore/internal/pgdb"
)

// A keptRow is a row of the table of tokens.
type keptRow struct {
	digest  string
	version int64
	at      time.Time
	by      *backend // whose transaction has made it; nil: it is committed
}

// keeping is what a statement says that it does about tokens.
type keeping struct {
	looks, keeps bool
	age          time.Duration // that they reach
}

var keeps = regexp.MustCompile(`OPERATOR\(pg_catalog.-\) '(\d+ms)'::interval`)

func keepingOf(s statement) (k keeping) {
	k.looks = strings.Contains(s.text, "\tWHERE (SELECT true FROM ") || strings.Contains(s.text, "[1]::pg_catalog.uuid) IS NULL")
	k.keeps = strings.Contains(s.text, `INSERT INTO "`+DefaultTokens)
	if age := keeps.FindStringSubmatch(s.text); age != nil {
		k.age, _ = time.ParseDuration(age[1])
	}
	return k
}

// What is below is for who has the world's mutex.

// used looks up tokens, and gives the places of those that the session sees.
func (s *backend) used(keys []string, each func(place int, k *keptRow)) {
	for i, key := range keys {
		if k := s.server.tokens[key]; k != nil && (k.by == nil || k.by == s) {
			each(i+1, k)
		}
	}
}

// keep inserts tokens of what has made a version, and removes some of the oldest.
func (s *backend) keep(k keeping, version int64, args []any) error {
	keys, digests, behind, old := args[0].([]string), args[1].([]string), args[2].([]int64), int64(0)
	if len(args) > 3 {
		old = args[3].(int64)
	}
	v := s.server
	for _, key := range slices.Sorted(maps.Keys(v.tokens)) {
		if row := v.tokens[key]; row.by == nil && time.Since(row.at) >= k.age && old > 0 {
			delete(v.tokens, key) // whatever becomes of the transaction
			old--
		}
	}
	for i, key := range keys {
		if v.tokens[key] != nil {
			return &pgdb.Error{Code: "23505", Table: DefaultTokens}
		}
		v.tokens[key] = &keptRow{digests[i], version - behind[i], time.Now(), s}
		s.undo = append(s.undo, undo{kept: key})
	}
	return nil
}

// withTokens is a statement that stores, if none of its tokens has been used before it
// began.
func (q *request) withTokens(k keeping, args []any, dest []any) {
	store := q.run
	var began, used bool
	q.run = func(s *backend) error {
		late := false
		if k.looks {
			s.used(args[0].([]string), func(int, *keptRow) { used, late = used || !began, began })
		}
		began = true
		s.doomed = late && !used
		defer func() { s.doomed = false }()
		lone := q.what == "merge"
		switch {
		case used && lone:
			return pgdb.ErrNoRows
		case used:
			*dest[0].(*bool) = false
			return nil
		}
		if err := store(s); err != nil {
			return err
		}
		stored, version := lone, int64(0)
		if lone {
			version = *dest[1].(*int64)
		} else {
			stored, version = *dest[0].(*bool) && *dest[1].(*bool), *dest[2].(*int64)
		}
		if !stored || !k.keeps {
			return nil
		}
		return s.keep(k, version, args)
	}
}

// note is noteSQL.
func (s *backend) note(id string, open bool, dest []any) error {
	*dest[0].(*bool), *dest[1].(*bool) = open, open
	if m := s.visible(id); m != nil && open {
		*dest[2].(*int64) = m.version
	}
	return nil
}

// A tokenRow is one of usedSQL.
type tokenRow struct {
	place int
	*keptRow
}

func (r tokenRow) Scan(dest ...any) error {
	*dest[0].(*int64), *dest[1].(*string), *dest[2].(*int64) = int64(r.place), r.digest, r.version
	return nil
}

// drawToken has some writes made once, some of which repeat others, or use their tokens for
// something else. It reports whether the op is another's repetition.
func (w *world) drawToken(o *op) (repeats bool) {
	if o.kind != "merge" && o.kind != "update" || w.N(3) > 0 {
		return false
	}
	var some []*op
	for _, other := range w.ops {
		if other.token != "" && other.repeats == nil && (other.doc == o.doc || w.N(2) == 0) {
			some = append(some, other)
		}
	}
	if len(some) == 0 || w.N(3) == 0 {
		o.token = hex.EncodeToString([]byte{byte(o.n)})
		return false
	}
	of := some[w.N(len(some))]
	o.token, o.doc = of.token, of.doc
	if of.kind == "merge" && w.N(6) == 0 {
		o.kind = "merge"
		return false
	}
	o.repeats, o.kind, o.rights, o.patch, o.view = of, of.kind, of.rights, of.patch, of.view
	o.known = of.host == nil && of.done && of.panicked == nil && of.err == nil
	return true
}

// root is the op that others repeat.
func (o *op) root() *op {
	if o.repeats != nil {
		return o.repeats
	}
	return o
}

// judgeRepeated judges the answer of a repetition.
func (w *world) judgeRepeated(o *op) {
	root := o.root()
	c := root.change
	switch {
	case o.token == "":
		w.Problem("INVENTED", "%s: is told of a repetition, and has no token", o)
	case root.applied != 1 || c == nil:
		w.Problem("INVENTED", "%s: is told that it was made, and %s was applied %d times", o, root, root.applied)
	case o.got.Made <= c.from || o.got.Made > c.to:
		w.Problem("VERSION", "%s: made version %d is told, but it made one of %d to %d", o, o.got.Made, c.from+1, c.to)
	case c.claimed[o.got.Made] != nil && c.claimed[o.got.Made].root() != root:
		w.Problem("VERSION", "%s: version %d is that of %s", o, o.got.Made, c.claimed[o.got.Made])
	}
	c.claim(o.got.Made, root)
	if len(o.got.Metadata) > 0 {
		w.judgeOrigin(o, o.got)
		w.judgeFresh(o)
	}
}

// judgeOnce judges an answer that says that an op was made just now: once.
func (w *world) judgeOnce(o *op) {
	if o.token == "" {
		return
	}
	root := o.root()
	if root.firsts++; root.firsts > 1 {
		w.Problem("TWICE", "%s: is told that it was made, as another repetition was before", o)
	}
}

// isReused reports whether an op's token was used for another write.
func (w *world) isReused(o *op) bool {
	return slices.ContainsFunc(w.ops, func(other *op) bool {
		return o.token != "" && other.token == o.token && other.doc == o.doc && other.root() != o.root() && other.applied > 0
	})
}

// judgeTokens judges what has become of all that was asked for with a token, in the end.
func (w *world) judgeTokens() {
	for _, o := range w.ops {
		if o.token == "" || o.repeats != nil {
			continue
		}
		made, unsure := false, false
		for _, each := range w.ops {
			if each.root() != o {
				continue
			}
			made = made || each.done && each.panicked == nil && each.err == nil && !each.voided
			unsure = unsure || each.unsure || !each.done || each.panicked != nil || errors.Is(each.err, ErrUnknownOutcome)
		}
		switch {
		case made && o.applied != 1:
			w.Problem("LOST WRITE", "%s: is told to be made, and was applied %d times", o, o.applied)
		case !made && !unsure && o.applied > 0:
			w.Problem("DENIED THOUGH MADE", "%s, and whoever repeats it", o)
		case o.applied > 0 && w.isReused(o):
			w.Problem("TWICE", "%s, and another with its token", o)
		}
	}
}

// claim says whose a version of a change is.
func (c *change) claim(version int64, o *op) {
	if c != nil && c.claimed != nil {
		c.claimed[version] = o
	}
}
