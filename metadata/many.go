package metadata

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"example.com/lockstore/backoff"
	"example.com/lockstore/internal/pgdb"
	"example.com/lockstore/lock"
)

const getManySQL = `
SELECT {key}, {row} FROM {table} AS t
WHERE t.{id} {=} ANY ($1::{text}[]::{idtype}[]){within}`

// GetMany returns those of the documents that exist, by the ids as given, in one round trip. A
// missing document is no error, except with [AtLeast]. Holds in ctx, and AtLeast, mean what they
// mean for Get.
func (p *Postgres) GetMany(ctx context.Context, ids ...string) (found map[string]Document, err error) {
	err = p.observe(ctx, "GetMany", func() []string { return ids }, func(ctx context.Context, _ *OperationEnd) error {
		found, err = p.getMany(ctx, ids)
		return err
	})
	return found, err
}

// getMany is GetMany without its observer.
func (p *Postgres) getMany(ctx context.Context, ids []string) (map[string]Document, error) {
	if p.pg.queues.isClosed() {
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
	if err := p.pg.fit(ctx, p.pg.db); err != nil {
		return nil, err
	}
	canonical := slices.Collect(maps.Keys(asked))
	under, err := serverHoldsOf(ctx, func(k lock.Key) bool {
		return slices.ContainsFunc(canonical, func(id string) bool { return p.options.key(id).Int64() == k.Int64() })
	})
	if err != nil {
		return nil, err
	}
	found := make(map[string]Document, len(ids))
	err = p.pg.readAll(ctx, p.pg.db, p.pg.sql.getMany, under, func(doc Document) {
		for _, id := range asked[doc.ID] {
			found[id] = doc
			doc.Metadata = slices.Clone(doc.Metadata)
		}
	}, canonical)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if err := p.options.checkAge(ctx, found[id].Version); err != nil {
			return nil, named(id, err)
		}
	}
	return found, nil
}

// scanDocument reads an id and {row}, and the columns before them.
func scanDocument(row pgdb.Row, before ...any) (Document, error) {
	var doc Document
	var updated nullTime
	err := row.Scan(append(before, &doc.ID, (*[]byte)(&doc.Metadata), &doc.Version, &updated.at)...)
	doc.UpdatedAt = updated.time()
	return doc, err
}

// Patch is a merge patch for one document, for [Postgres.MergeMany].
type Patch struct {
	ID    string
	Patch json.RawMessage
	Token string // for [Postgres.Once]; empty: that of the view, if it has one
}

// Result is the outcome of one merge of [Postgres.MergeMany]: the document after it, or an
// error.
type Result struct {
	Document Document
	Err      error
}

// mergeManySQL is mergeSQL for many documents at once. While it waits for a row that another
// transaction has locked, it keeps the rows that it has locked itself. So it waits for less
// than the server's default deadlock_timeout: a host's transaction could be the victim of a
// deadlock.
//
// Its rows come from no subquery, which would keep a copy of all documents. So if it has done
// nothing, it does not say how many patches it has tried.
var mergeManySQL = `
WITH ` + shareSQL + `
UPDATE {table} AS t SET {column} = {merged}{bump}
FROM ` + patchesSQL + `
WHERE t.{id} {=} p.id{within} AND pg_catalog.pg_try_advisory_xact_lock(p.key) AND {fits} AND {changes}
	AND (SELECT ` + atMost("lock_timeout", "'100ms'") + `)
RETURNING (SELECT locks FROM _share), t.{id}::{text}, {row}`

// mergeFreeSQL is mergeManySQL without waiting: it skips rows that others have locked. It also
// returns the documents that their patch does not change. A number that is written otherwise
// is a change, which only the text shows. All that is stored was computed from rows that were
// locked before.
var mergeFreeSQL = `
WITH ` + shareSQL + `, _doc AS MATERIALIZED (
	SELECT t.{id} AS id, coalesce(t.{column}, '{}') AS metadata, {version} AS version, {at} AS updated_at, p.patch, p.key, p.flat, p.room
	FROM ` + patchesSQL + ` JOIN {table} AS t ON t.{id} {=} p.id{within}
	FOR NO KEY UPDATE OF t SKIP LOCKED
), _free AS MATERIALIZED (
	SELECT * FROM _doc WHERE pg_catalog.pg_try_advisory_xact_lock(key)
), _new AS MATERIALIZED (
	SELECT id, metadata, version, updated_at, {merged} AS merged FROM _free WHERE {fits}
), _made AS MATERIALIZED (
	SELECT *, merged {<>} metadata OR merged::{text} {<>} metadata::{text} AS changed FROM _new
), _stored AS (
	UPDATE {table} AS t SET {column} = _made.merged{bump} FROM _made
	WHERE t.{id} {=} _made.id{within} AND _made.changed
	RETURNING t.{id} AS id, t.{column} AS metadata, {version} AS version, {at} AS updated_at
)
` + reportSQL + `(
	SELECT id::{text}, metadata, version, ` + micros("updated_at") + ` AS updated_at FROM (
		SELECT id, metadata, version, updated_at FROM _stored
		UNION ALL
		SELECT id, metadata, version, updated_at FROM _made WHERE NOT changed
	) AS done{busy}
) AS done ON true`

// busySQL has mergeFreeSQL return the ids of documents, too, that are free, done or not, or
// missing.
const busySQL = `
	UNION ALL
	SELECT id::{text}, NULL, 0, NULL FROM _free
	UNION ALL
	SELECT p.id::{text}, NULL, 0, NULL FROM ` + patchesSQL + `
	WHERE NOT EXISTS (SELECT FROM {table} AS t WHERE t.{id} {=} p.id{within})`

// createManySQL creates the documents that the other statements have found missing, or have
// skipped. It leaves existing documents alone, also where only the table's partitions
// distinguish two rows. For another transaction that creates one of them it waits no longer
// than mergeManySQL does. A row that gets another id from a trigger fails the statement.
var createManySQL = `
WITH ` + shareSQL + `, _created AS (
INSERT INTO {table} AS t ({id}, {column}{columns})
SELECT p.id, {merge}('{}'::{jsonb}, p.patch){firsts}
FROM ` + patchesSQL + `
WHERE NOT EXISTS (SELECT FROM {table} AS t WHERE t.{id} {=} p.id{within})
	AND pg_catalog.pg_try_advisory_xact_lock(p.key) AND p.room {>=} 0 AND (SELECT ` + atMost("lock_timeout", "'100ms'") + `) ORDER BY p.id
ON CONFLICT DO NOTHING
RETURNING CASE WHEN t.{id}::{text} {=} ANY ($1::{text}[]){within} THEN t.{id}::{text} ELSE (t.{id}::{text} {||} ' is not what was inserted')::bigint::{text} END AS id, {row}
)
` + reportSQL + `_created AS done ON true`

// Limits of one statement of MergeMany.
const (
	manyPatches = 1000
	manyBytes   = 4 << 20
)

// MergeMany merges each patch into its document, many in one round trip and one commit, and
// returns a result for each, in the order of the patches.
//
// Each merge promises by itself what Merge does. The merges do not succeed or fail together,
// except that a lost connection leaves all of a statement with an unknown outcome. Patches for
// the same document are merged in their order. Documents whose lock or row others have are
// merged last, as they become free; MergeMany waits for all of them together, by
// [Options].Backoff. (So it does for a row that a policy lets the role read but not write.)
//
// The error is nil if that of every Result is. Otherwise it says how many merges failed, and
// matches the error of the first of them.
//
// A merge shares no statement with others if it has a token, if its patch is expensive (see
// Limits in the package documentation), in a view of [Postgres.IfVersion], if ctx carries a
// hold, and with [Options].MergeInGo.
//
// A statement takes a lock of the server for each of its documents. The statements of all
// processes on a database together take up to half of the server's lock table. If that is in
// use, others do fewer documents at once, and do not fail. (The table's size is
// max_locks_per_transaction × max_connections; the default of 6 400 has room for several calls
// at once.)
func (p *Postgres) MergeMany(ctx context.Context, patches []Patch) (results []Result, err error) {
	ids := func() (ids []string) {
		for _, patch := range patches {
			ids = append(ids, patch.ID)
		}
		return ids
	}
	err = p.observe(ctx, "MergeMany", ids, func(ctx context.Context, end *OperationEnd) error {
		results, err = p.mergeMany(ctx, patches)
		if err != nil && end != nil {
			for _, r := range results {
				end.Errs = append(end.Errs, r.Err)
			}
		}
		return err
	})
	return results, err
}

// mergeMany is MergeMany without its observer.
func (p *Postgres) mergeMany(ctx context.Context, patches []Patch) ([]Result, error) {
	c := bulk{Postgres: p, since: time.Now(), polls: backoff.Start(p.options.Backoff)}
	results := make([]Result, len(patches))
	jobs := make([]*job, 0, len(patches))
	for i, patch := range patches {
		j := &job{Patch: patch, Result: &results[i]}
		if c.admit(ctx, j) {
			jobs = append(jobs, j)
		}
	}
	c.wait(ctx, eachBatch(jobs, func(now []*job) []*job { return c.merge(ctx, now) }))
	failed, first := 0, error(nil)
	for _, r := range results {
		if r.Err != nil {
			failed, first = failed+1, cmp.Or(first, r.Err)
		}
	}
	if failed == 0 {
		return results, nil
	}
	return results, fmt.Errorf("metadata: %d of %d merges failed, the first: %w", failed, len(patches), first)
}

// A target is a document and the patch for it.
type target struct {
	id    string // canonical
	key   lock.Key
	patch *patch
}

// A bulk is one call of MergeMany.
type bulk struct {
	*Postgres
	since    time.Time
	polls    backoff.Sequence // for all busy documents together
	waits    bool             // for busy documents
	attempts int              // attempts at them
	why      error            // the last statement's error, if it may be sent again
}

// A job is one merge of many.
type job struct {
	Patch
	*Result
	target

	view  documents // the view that merges it
	apart bool      // shares no statement with others
	free  bool      // it is to be merged alone
	sent  time.Time
}

// admit checks a job, and reports whether it can be done. If not, it has its result.
func (c *bulk) admit(ctx context.Context, j *job) bool {
	var invalid, err error
	if j.id, invalid = c.checkID(j.ID); invalid != nil {
		j.id = j.ID
	}
	if j.view = c.documents; j.Token != "" {
		j.view.token = &j.Token
	}
	j.patch, err = c.parsePatch(j.Patch.Patch)
	if err = cmp.Or(err, invalid, j.view.checkView()); err != nil {
		c.end(ctx, j, Document{}, err)
		return false
	}
	j.key = c.options.key(j.id)
	j.apart = j.patch.costly || c.version != nil || j.view.token != nil || c.goesAlone(ctx)
	return true
}

// goesAlone reports whether a job cannot be in a statement for many, since that would ask for
// the lock that the job's own context holds, checks no hold, and merges in the database.
func (c *bulk) goesAlone(ctx context.Context) bool {
	return c.options.MergeInGo || len(lock.AllFromContext(ctx)) > 0
}

// end gives a job its result, counts it, and hints at a change.
func (c *bulk) end(ctx context.Context, j *job, doc Document, err error) {
	size := 0
	if j.patch != nil {
		size = len(j.patch.text)
	}
	err = c.described(ctx, err)
	j.Document, j.Err = doc, named(j.ID, err)
	if !j.sent.IsZero() {
		c.pg.hint(j.id, err)
	}
	c.counts.wrote(size, time.Since(c.since), err)
}

// eachBatch has do try all jobs, a batch at a time. It returns in their order the jobs that do has
// left over, and those behind them of the same documents.
func eachBatch(jobs []*job, do func(now []*job) (left []*job)) (busy []*job) {
	for len(jobs) > 0 {
		var now []*job
		now, jobs = nextJobs(jobs)
		if left := do(now); len(left) > 0 {
			var behind []*job
			behind, jobs = separate(jobs, left)
			busy = append(append(busy, left...), behind...)
		}
	}
	return busy
}

// nextJobs splits off the jobs of the next statement: one for each document, in the order of
// their ids, in which a careful host locks rows, too.
func nextJobs(jobs []*job) (now, rest []*job) {
	seen := map[string]bool{}
	size := 0
	for _, j := range jobs {
		if seen[j.id] || len(now) == manyPatches || len(now) > 0 && size+len(j.patch.text) > manyBytes {
			rest = append(rest, j)
		} else {
			now = append(now, j)
			size += len(j.patch.text)
		}
		seen[j.id] = true // later jobs of the document stay behind it
	}
	slices.SortFunc(now, func(a, b *job) int { return strings.Compare(a.id, b.id) })
	return now, rest
}

// separate separates the jobs whose documents are in left from the rest.
func separate(jobs, left []*job) (behind, rest []*job) {
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

// merge does jobs in one statement, and what that leaves over in others. It returns those that
// are to be waited for, or done alone.
func (c *bulk) merge(ctx context.Context, jobs []*job) (left []*job) {
	var rest []*job
	for _, j := range jobs {
		if j.apart {
			left = append(left, j)
		} else {
			rest = append(rest, j)
		}
	}
	rest, err := c.together(ctx, c.pg.sql.mergeMany, rest)
	if err == nil || isRepeatable(err) {
		rest, err = c.together(ctx, c.pg.sql.mergeManyFree, rest)
	}
	if err == nil && c.options.Table.Create {
		rest, err = c.together(ctx, c.pg.sql.createMany, rest)
	}
	return append(left, c.settle(ctx, rest, err, c.merge)...)
}

// settle ends jobs that a statement has failed to do, and returns those left over. Where the
// database rejects what a statement makes, again tries each half of the jobs, until those to
// blame stand alone.
func (c *bulk) settle(ctx context.Context, jobs []*job, err error, again func(context.Context, []*job) []*job) (left []*job) {
	switch {
	case err == nil || isRepeatable(err):
		c.why = err
		return jobs
	case errors.Is(err, ErrRejected) && len(jobs) > 1:
		half := len(jobs) / 2
		return append(again(ctx, jobs[:half:half]), again(ctx, jobs[half:])...)
	}
	sent := 0
	for _, j := range jobs {
		if !j.sent.IsZero() {
			sent++
		}
	}
	if sent > 0 {
		c.counts.committed(sent)
	}
	for _, j := range jobs {
		if sent > 0 && j.sent.IsZero() { // it was not in the statement
			left = append(left, j)
		} else {
			c.end(ctx, j, Document{}, err)
		}
	}
	return left
}

// together does jobs in one statement, or in several where the server's lock table has no room
// for all. It returns those that are not done: after an error, all that are left.
func (c *bulk) together(ctx context.Context, s statement, jobs []*job) (left []*job, err error) {
	for _, j := range jobs {
		j.sent, j.free = time.Time{}, false
	}
	for most := len(jobs); len(jobs) > 0; {
		now := jobs[:min(most, len(jobs))]
		over, tried, err := c.send(ctx, s, now)
		switch {
		case pgdb.Code(err) == pgdb.OutOfMemory && most > 1:
			most = 1
			for _, j := range now {
				j.sent = time.Time{}
			}
		case err != nil:
			return append(left, jobs...), err
		default:
			left = append(left, over...)
			jobs = jobs[tried:]
			most *= 2
		}
	}
	return left, nil
}

// send sends one statement for jobs. It returns how many of them the statement has tried, from
// the first on, and which of these are not done.
func (c *bulk) send(ctx context.Context, s statement, jobs []*job) (left []*job, tried int, err error) {
	var told *observedCommit
	defer func() { told.end() }() // after the connection's Release
	targets := make([]target, len(jobs))
	for i, j := range jobs {
		targets[i] = j.target
		if j.apart { // the statement only says whether its document is free: none is small enough
			targets[i].patch = &patch{text: []byte(`{}`), room: -1}
		}
	}
	conn, err := c.pg.connection(ctx)
	switch {
	case err != nil && ctx.Err() != nil && c.waits:
		return nil, 0, errTaken // as before: the job ends as busy
	case err != nil:
		return nil, 0, c.pg.failure(because(ctx, err), false)
	}
	defer conn.Release()
	if err := c.pg.queues.begin(); err != nil {
		return nil, 0, err
	}
	defer c.pg.queues.sent.Done()
	start := time.Now()
	for _, j := range jobs {
		j.sent = start
	}
	ctx, told = c.pg.beginCommit(ctx, func() []string { return idsOf(targets) })
	docs, tried, err := c.pg.mergeTargets(ctx, conn, s, targets)
	if err != nil {
		err = c.pg.failure(err, true)
		decided := len(jobs)
		if isRepeatable(err) || errors.Is(err, ErrRejected) && len(jobs) > 1 {
			decided = 0
		}
		told.is(decided, err)
		return nil, 0, err
	}
	for _, j := range jobs[tried:] {
		j.sent = time.Time{}
	}
	done := 0
	for i, j := range jobs[:tried] {
		if docs[i].Metadata == nil {
			j.sent, j.free = time.Time{}, docs[i].ID != ""
			left = append(left, j)
			continue
		}
		done++
		c.end(ctx, j, docs[i], nil)
	}
	told.is(done, nil)
	if done > 0 {
		c.counts.committed(done)
	}
	return left, tried, nil
}

func idsOf(targets []target) (ids []string) {
	for _, t := range targets {
		ids = append(ids, t.id)
	}
	return ids
}

// mergeTargets runs one of the statements above. It returns how many targets the statement has
// tried, from the first on, and their documents in order: without an ID where nothing was
// done, and without Metadata where the document is to be merged alone.
func (p *postgres) mergeTargets(ctx context.Context, conn pgdb.Conn, s statement, targets []target) (docs []Document, tried int, err error) {
	n := len(targets)
	ids, patches, keys := make([]string, n), make([]string, n), make([]int64, n)
	flat, sets, room := make([]bool, n), make([]bool, n), make([]int64, n)
	place := make(map[string]int, n)
	for i, t := range targets {
		ids[i], patches[i], keys[i] = t.id, string(t.patch.text), t.key.Int64()
		flat[i], sets[i], room[i] = t.patch.Flat, t.patch.Sets, t.patch.room
		place[t.id] = i
	}
	ctx, cancel := p.bounded(ctx)
	defer cancel()
	docs, tried = make([]Document, n), n
	err = conn.Write(ctx, func(row pgdb.Row) error {
		var locks int64
		doc, err := scanDocument(row, &locks)
		if i, ours := place[doc.ID]; ours && docs[i].Metadata == nil {
			docs[i] = doc
		}
		tried = int(min(locks, int64(n)))
		return err
	}, s.text, s.args(ids, patches, keys, flat, sets, room)...)
	return docs, tried, err
}
