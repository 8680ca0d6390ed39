package metadata

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"example.com/lockstore/internal/pgdb"
	"example.com/lockstore/lock"
)

const getManySQL = `
SELECT t.{id}::{text}, {row} FROM {table} AS t
WHERE t.{id} {=} ANY ($1::{text}[]::{idtype}[]){within}`

// GetMany returns those of the documents that there are, by their ids, in one
// round trip.
func (p *Postgres) GetMany(ctx context.Context, ids ...string) (map[string]Document, error) {
	if p.pg.queue.isClosed() {
		return nil, ErrClosed
	}
	asked := make(map[string][]string, len(ids)) // by canonical id
	for _, id := range ids {
		canonical, err := p.checkID(id)
		if err != nil {
			return nil, err
		}
		asked[canonical] = append(asked[canonical], id)
	}
	found := make(map[string]Document, len(ids))
	s := p.pg.sql.getMany
	err := p.pg.db.Query(ctx, func(row pgdb.Row) error {
		doc, err := scanDocument(row)
		for _, id := range asked[doc.ID] {
			found[id] = doc
		}
		return err
	}, s.text, s.args(slices.Collect(maps.Keys(asked)))...)
	return found, p.pg.failure(because(ctx, err), false)
}

// scanDocument reads an id and {row}.
func scanDocument(row pgdb.Row) (Document, error) {
	var doc Document
	var updated nullTime
	err := row.Scan(&doc.ID, (*[]byte)(&doc.Metadata), &doc.Version, &updated.at)
	doc.UpdatedAt = updated.time()
	return doc, err
}

// Patch is a merge patch for one document.
type Patch struct {
	ID    string
	Patch json.RawMessage
}

// Result is what became of one of several merges: the document after it, or
// an error.
type Result struct {
	Document Document
	Err      error
}

// patchesSQL are the arguments of the statements below. (An unnest of several
// arrays is always PostgreSQL's own, and cannot be qualified.)
const patchesSQL = `unnest($1::{text}[]::{idtype}[], {1}::{text}[], {2}::bigint[], {3}::boolean[], {4}::boolean[], {5}::bigint[]) AS p (id, patch, key, flat, sets, room)`

// mergeManySQL is mergeSQL for many documents at once. While it waits for a row
// that somebody else has locked it keeps those that it has locked before, so it
// does not wait for long: for less than passes before PostgreSQL looks for a
// deadlock, by default, of which a host's transaction could be the victim.
var mergeManySQL = `
UPDATE {table} AS t SET {column} = {merged}{bump}
FROM ` + patchesSQL + `
WHERE t.{id} {=} p.id{within} AND pg_catalog.pg_try_advisory_xact_lock(p.key) AND {fits} AND {changes}
	AND (SELECT ` + atMost("lock_timeout", "'100ms'") + `)
RETURNING t.{id}::{text}, {row}`

// mergeFreeSQL is mergeManySQL without waiting: it passes over rows that others
// have locked. It also returns the documents that their patch does not change: a
// number that is written otherwise is a change, which only the text shows.
// All that is stored has been computed from rows that were locked before.
const mergeFreeSQL = `
WITH doc AS MATERIALIZED (
	SELECT t.{id} AS id, {row}, p.patch::{jsonb} AS patch, p.key, p.flat, p.room
	FROM ` + patchesSQL + ` JOIN {table} AS t ON t.{id} {=} p.id{within}
	FOR NO KEY UPDATE OF t SKIP LOCKED
), new AS MATERIALIZED (
	SELECT id, metadata, version, updated_at, {merged} AS merged FROM doc
	WHERE pg_catalog.pg_try_advisory_xact_lock(key) AND {fits}
), made AS MATERIALIZED (
	SELECT *, merged {<>} metadata OR merged::{text} {<>} metadata::{text} AS changed FROM new
), stored AS (
	UPDATE {table} AS t SET {column} = made.merged{bump} FROM made
	WHERE t.{id} {=} made.id{within} AND made.changed
	RETURNING t.{id} AS id, t.{column} AS metadata, {version} AS version, {updated} AS updated_at
)
SELECT id::{text}, metadata, version, updated_at FROM stored
UNION ALL
SELECT id::{text}, metadata, version, updated_at FROM made WHERE NOT changed`

// createManySQL makes documents of patches that the others found missing. It waits
// for another transaction that makes one of them no longer than mergeManySQL does.
var createManySQL = `
INSERT INTO {table} AS t ({id}, {column}{columns})
SELECT p.id, {merge}('{}'::{jsonb}, p.patch::{jsonb}){firsts}
FROM ` + patchesSQL + `
WHERE pg_catalog.pg_try_advisory_xact_lock(p.key) AND p.room {>=} 0 AND (SELECT ` + atMost("lock_timeout", "'100ms'") + `) ORDER BY p.id
ON CONFLICT DO NOTHING
RETURNING t.{id}::{text}, {row}`

// Bounds of one statement of MergeMany.
const (
	manyPatches = 1000
	manyBytes   = 4 << 20
)

// MergeMany merges each patch into its document, many to a round trip and a
// commit, and returns a result for each, in the order of the patches. Every
// merge promises what Merge does, by itself: they do not succeed or fail
// together, except that a lost connection leaves all of them unknown. A document
// that is locked, or whose row is, is waited for when the others are committed.
// Patches of the same document are merged in their order.
//
// The error is nil if every Result's is; otherwise it says how many are not,
// and matches the first of these. With [Options.MergeInGo], and under a
// tenure, each merge has its own commit.
func (p *Postgres) MergeMany(ctx context.Context, patches []Patch) ([]Result, error) {
	results := make([]Result, len(patches))
	rest := make([]*job, 0, len(patches))
	for i, patch := range patches {
		j := &job{Patch: patch, Result: &results[i]}
		if p.admit(ctx, j) {
			rest = append(rest, j)
		}
	}
	var late []*job
	for len(rest) > 0 {
		var now, left []*job
		now, left, rest = nextJobs(rest)
		if left = append(left, p.mergeJobs(ctx, now)...); len(left) > 0 {
			var behind []*job
			behind, rest = split(rest, left)
			late = append(append(late, left...), behind...)
		}
	}
	for _, j := range late {
		p.mergeAlone(ctx, j)
	}
	failed := 0
	for i := range results {
		if results[i].Err != nil {
			failed++
		}
	}
	if failed == 0 {
		return results, nil
	}
	first := slices.IndexFunc(results, func(r Result) bool { return r.Err != nil })
	return results, fmt.Errorf("metadata: %d of %d merges failed, the first: %w", failed, len(patches), results[first].Err)
}

// A target is a document and what is to be merged into it.
type target struct {
	id    string // canonical
	key   lock.Key
	patch *patch
}

// A job is one merge of many.
type job struct {
	Patch
	*Result
	target
}

// admit reports whether a job is fit to be done together with others. One
// that is not has its result when it returns.
func (p *Postgres) admit(ctx context.Context, j *job) bool {
	if p.version != nil || p.options.MergeInGo {
		p.mergeAlone(ctx, j)
		return false
	}
	if j.id, j.Err = p.checkID(j.ID); j.Err != nil {
		return false
	}
	var err error
	if j.patch, err = p.parsePatch(j.Patch.Patch); err != nil {
		j.Err = named(j.ID, err)
		return false
	}
	if j.key = p.options.key(j.id); lock.FromContext(ctx, j.key) != nil {
		p.mergeAlone(ctx, j)
		return false
	}
	return true
}

func (p *Postgres) mergeAlone(ctx context.Context, j *job) {
	j.Document, j.Err = p.Merge(ctx, j.ID, j.Patch.Patch)
}

// nextJobs splits off what one statement is to do: each document once, in the order
// of their ids, in which a careful host locks rows, too. What is to be done alone would
// have been among them.
func nextJobs(jobs []*job) (now, alone, rest []*job) {
	seen := map[string]bool{}
	size := 0
	for _, j := range jobs {
		switch {
		case seen[j.id]:
			rest = append(rest, j)
		case j.patch.dear:
			alone = append(alone, j)
		case len(now) == manyPatches || size+len(j.patch.text) > manyBytes:
			rest = append(rest, j)
		default:
			now = append(now, j)
			size += len(j.patch.text)
		}
		seen[j.id] = true // whatever comes after it comes after it
	}
	slices.SortFunc(now, func(a, b *job) int { return strings.Compare(a.id, b.id) })
	return now, alone, rest
}

// split parts jobs into those whose documents left has, too, and the rest.
func split(jobs, left []*job) (behind, rest []*job) {
	ids := make(map[string]bool, len(left))
	for _, j := range left {
		ids[j.id] = true
	}
	for _, j := range jobs {
		if ids[j.id] {
			behind = append(behind, j)
		} else {
			rest = append(rest, j)
		}
	}
	return behind, rest
}

// mergeJobs does jobs in one statement, and what that leaves over in others. It
// returns those that have to be done alone, because a lock is taken. Where the
// database rejects what a statement makes, it halves the jobs until those that
// are to blame stand alone.
func (p *Postgres) mergeJobs(ctx context.Context, jobs []*job) (left []*job) {
	rest, err := p.together(ctx, p.pg.sql.mergeMany, jobs)
	if err == nil || isRepeatable(err) {
		rest, err = p.together(ctx, p.pg.sql.mergeManyFree, rest)
	}
	if err == nil && p.options.Table.Create {
		rest, err = p.together(ctx, p.pg.sql.createMany, rest)
	}
	rest = p.settle(ctx, rest, err)
	for portion := range slices.Chunk(rest, maxAboard) { // whose documents are larger, or in somebody's hands
		over, err := p.together(ctx, p.pg.sql.mergeFree, portion)
		left = append(left, p.settle(ctx, over, err)...)
	}
	return left
}

// settle ends jobs that a statement has failed to do, and returns those that it has
// left over.
func (p *Postgres) settle(ctx context.Context, jobs []*job, err error) (left []*job) {
	switch {
	case err == nil || isRepeatable(err):
		return jobs
	case errors.Is(err, ErrRejected) && len(jobs) > 1:
		half := len(jobs) / 2
		return append(p.mergeJobs(ctx, jobs[:half:half]), p.mergeJobs(ctx, jobs[half:])...)
	}
	for _, j := range jobs {
		j.Document, j.Err = Document{}, named(j.ID, err)
		p.counted(ctx, j, 0)
	}
	return nil
}

// together does jobs in one statement, and returns those that it has not done:
// after an error, all of them.
func (p *Postgres) together(ctx context.Context, s statement, jobs []*job) (left []*job, err error) {
	if len(jobs) == 0 {
		return nil, nil
	}
	targets := make([]target, len(jobs))
	for i, j := range jobs {
		targets[i] = j.target
	}
	conn, err := p.pg.db.Acquire(ctx)
	if err != nil {
		return jobs, p.pg.failure(because(ctx, err), false)
	}
	defer conn.Release()
	if err := p.pg.queue.begin(); err != nil {
		return jobs, err
	}
	defer p.pg.queue.sent.Done()
	start := time.Now()
	docs, err := p.pg.mergeTargets(ctx, conn, s, targets)
	if err != nil {
		return jobs, p.pg.failure(err, true)
	}
	took := time.Since(start)
	for i, j := range jobs {
		if docs[i].ID == "" {
			left = append(left, j)
			continue
		}
		j.Document, j.Err = docs[i], nil
		p.counted(ctx, j, took)
	}
	if done := len(jobs) - len(left); done > 0 {
		p.counts.committed(done)
	}
	return left, nil
}

// mergeTargets runs one of the statements above. It returns the documents in the
// order of targets, without an ID where nothing has been done.
func (p *postgres) mergeTargets(ctx context.Context, conn pgdb.Conn, s statement, targets []target) ([]Document, error) {
	n := len(targets)
	ids, patches, keys := make([]string, n), make([]string, n), make([]int64, n)
	flat, sets, room := make([]bool, n), make([]bool, n), make([]int64, n)
	place := make(map[string]int, n)
	for i, t := range targets {
		ids[i], patches[i], keys[i] = t.id, string(t.patch.text), t.key.Int64()
		flat[i], sets[i], room[i] = t.patch.flat, t.patch.sets, t.patch.room
		place[t.id] = i
	}
	ctx, cancel := p.bounded(ctx)
	defer cancel()
	docs := make([]Document, n)
	err := conn.Query(ctx, func(row pgdb.Row) error {
		doc, err := scanDocument(row)
		if i, ours := place[doc.ID]; ours {
			docs[i] = doc
		}
		return err
	}, s.text, s.args(ids, patches, keys, flat, sets, room)...)
	return docs, err
}

// counted makes a job's end known, unless Merge has done it.
func (p *Postgres) counted(ctx context.Context, j *job, took time.Duration) {
	p.counts.wrote(len(j.patch.text), took, j.Err)
	if p.options.Observer != nil {
		p.options.Observer.Wrote(ctx, j.id, took, j.Err)
	}
}
