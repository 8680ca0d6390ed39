package metadata

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"

	"example.com/lockstore/internal/pgdb"
	"example.com/lockstore/lock"
)

// Reads under a hold: the answer is given only if it comes from the server, and the time, on
// which the caller's holds are held. A write under holds proves the same (precondition.go).

// A reading is a statement that returns ids and {row} of documents: plain, and held, with a
// column before them that says whether certain holds are held there.
type reading struct{ plain, held statement }

// newReading makes a reading of a text that begins with SELECT {key}, and whose own arguments
// end before {place}.
func newReading(expand func(string) statement, text string, place int) reading {
	held := strings.NewReplacer("{document}", strings.ReplaceAll(text, "{key}", "t.{id} AS id"),
		"{holds}", "{"+strconv.Itoa(place)+"}").Replace(heldReadSQL)
	return reading{expand(strings.ReplaceAll(text, "{key}", "t.{id}::{text}")), expand(held)}
}

// heldReadSQL looks the holds up after the statement's snapshot was taken. A hold that is held
// then was held at the snapshot, too, since it is older than the call that reads. Another
// server does not know the holds: a standby, a former primary, another database. Without
// documents it returns one row, without a document.
var heldReadSQL = `
WITH _holds AS MATERIALIZED (SELECT NOT EXISTS (
	SELECT FROM pg_catalog.jsonb_to_recordset({holds}::{text}::{jsonb}) AS h (high bigint, low bigint, mode {text}, pid int, start {text})
	WHERE NOT ` + strings.NewReplacer("{high}", "h.high", "{low}", "h.low", "{pid}", "h.pid", "{start}", "h.start", "{mode}", "h.mode").Replace(stillHeldSQL) + `) AS held)
SELECT _holds.held, coalesce(doc.id::{text}, ''), doc.metadata, coalesce(doc.version, 0), doc.updated_at
FROM _holds LEFT JOIN ({document}
) AS doc ON true ORDER BY doc.id`

// serverHolds are the holds under which documents are read, as far as sessions of a server
// have them.
type serverHolds []heldKey

// A heldKey is one key of a hold.
type heldKey struct {
	held *lock.Held
	lock.Key
}

// serverHoldsOf returns the holds in ctx of the keys that are wanted.
func serverHoldsOf(ctx context.Context, wanted func(lock.Key) bool) (p serverHolds, err error) {
	for _, held := range lock.AllFromContext(ctx) {
		for _, key := range held.Keys() {
			if _, ok := held.Backend(key); ok && lock.FromContext(ctx, key) == held && wanted(key) {
				p = append(p, heldKey{held, key})
			}
		}
	}
	return p, p.check()
}

// check returns an error if a hold is known to have ended.
func (p serverHolds) check() error {
	for _, k := range p {
		if k.held.Context().Err() != nil {
			return over(k.held)
		}
	}
	return nil
}

func (p serverHolds) has(k lock.Key) bool {
	return slices.ContainsFunc(p, func(h heldKey) bool { return h.Int64() == k.Int64() })
}

// text is the argument of heldReadSQL, and of allHeldSQL and tryLockUnderSQL for a write of the
// document with a key. That write has the key's own guard, so only other keys get their second
// one.
func (p serverHolds) text(key lock.Key) string {
	holds := make([]map[string]any, len(p))
	for i, k := range p {
		session := sessionOf(k.held, k.Key)
		holds[i] = map[string]any{"high": session[0], "low": session[1], "pid": session[2], "start": session[3], "mode": "ExclusiveLock"}
		if k.Int64() != key.Int64() {
			holds[i]["guard"] = k.SharedGuard()
		}
		if k.held.Shared() {
			holds[i]["mode"] = "ShareLock"
		}
	}
	text, _ := json.Marshal(holds) // which cannot fail
	return string(text)
}

// readAll runs a statement that reads documents, and calls each with every one. Under holds it
// calls it only with documents that were read where these are held.
func (p *postgres) readAll(ctx context.Context, q pgdb.Querier, r reading, under serverHolds, each func(Document), id any, rest ...any) error {
	s, before := r.plain, []any(nil)
	if len(under) > 0 {
		s, before, rest = r.held, []any{pgdb.Here{}}, append(rest, under.text(lock.Key{}))
	}
	err := q.Query(ctx, func(row pgdb.Row) error {
		doc, err := scanDocument(row, before...)
		if err == nil && doc.Metadata != nil {
			each(doc)
		}
		return err
	}, s.text, s.args(id, rest...)...)
	if err == nil || errors.Is(err, pgdb.ErrElsewhere) {
		if over := under.check(); over != nil {
			err = over
		}
	}
	return p.failure(because(ctx, err), false)
}
