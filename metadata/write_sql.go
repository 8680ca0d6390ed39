package metadata

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// The SQL of a commit of its own: to lock and read a document, to store it, and to merge in one
// statement. saveOnSQL (base.go) and the statements for tokens (once_sql.go) are made of it.

// mergeSQL is a lone merge in one round trip. It takes the document's lock for its own,
// implicit transaction, merges, and commits. No row means that the lock is taken, that the
// document is missing or large (see fitsSQL), or that the patch changes nothing; openSQL finds
// out which.
//
// A concurrent UPDATE of the row makes this one wait, and then evaluate all of it again with
// the row as it is then (PostgreSQL documentation, section 13.2.1). The row must not come from
// a subquery, which is not evaluated again: updates would be lost. Each wait takes {patience}
// at most, so that a row that another transaction keeps costs neither the connection nor the
// outcome; the caller, if it still waits, sends the statement again.
var mergeSQL = `
UPDATE {table} AS t SET {column} = {merged}{bump}
WHERE {match} AND (SELECT ` + atMost("lock_timeout", "'{patience}'") + `)
	AND pg_catalog.pg_try_advisory_xact_lock({2}::bigint) AND {fits} AND {changes}{unused}
RETURNING {row}`

// The result of a patch on a target, whether it differs from the target, and whether it is
// surely no larger than a document may be. All of it takes time in proportion to the target
// and the patch.
//
//   - A flat patch of an object needs no merge function.
//   - A patch that removes nothing changes a target that does not contain it. This is cheaper
//     to find out than the result. It is not done for a patch with an array: containment of
//     arrays takes the product of their lengths, and PostgreSQL cannot be interrupted in it.
//   - The merge function copies each object that it goes into, with all that is in it. A large
//     document that needs the function is left to openSQL.
//   - A document prints to at most 90 times its size as a jsonb, as a number prints to at most
//     1024 digits. It is printed only if that could be too much. Mostly its size alone answers
//     all of this.
//   - Documents that share a statement have up to {most} bytes each, so that a thousand, or 64,
//     have some MB together. Larger ones share it with fewer, or go alone.
const (
	mergedSQL  = `CASE WHEN {flat} AND pg_catalog.jsonb_typeof({target}) {=} 'object' THEN {target} {||} {patch} ELSE {merge}({target}::{jsonb}, {patch}) END`
	changesSQL = `({sets} AND NOT {target} {@>} {patch} OR NOT ` + mergedSQL + ` {=} coalesce({target}, '{}'))`
	fitsSQL    = `({size} {<=} LEAST({most}, 65536, {room} {/} 90) OR {size} {<=} {most} AND ({flat} OR {size} {<=} 65536)
		AND pg_catalog.octet_length({target}::{text}) {<=} {room})`
	sizeSQL = `coalesce(pg_catalog.pg_column_size({target} {||} '{}')::bigint, 0)` // uncompressed
)

// How large a document may be that shares a statement with a thousand others, with a few, or
// with none.
const (
	mostOfMany = "16384"
	mostOfFew  = "131072"
	mostOfOne  = "2147483647"
)

// merging fills in {merged}, {changes} and {fits}.
func merging(text, most, target, patch, flat, sets, room string) string {
	text = strings.NewReplacer("{merged}", mergedSQL, "{changes}", changesSQL, "{fits}", fitsSQL).Replace(text)
	text = strings.NewReplacer("{size}", sizeSQL, "{most}", most).Replace(text)
	return strings.NewReplacer("{target}", target, "{patch}", patch, "{flat}", flat, "{sets}", sets, "{room}", room).Replace(text)
}

// openSQL locks the row first and then tries the document's lock. So writers of one document
// queue for its row in the server, for as long as a commit takes. If the lock is taken
// nevertheless, another session holds it on purpose, perhaps for long, and the server is not
// to wait for that; or the transaction that had the row is about to release the lock. Where
// writes create documents, the lock of a missing document is taken, too.
//
// The lock is tried outside the subquery, because a select list is evaluated before FOR UPDATE
// has locked the row.
//
// The server ends a transaction of our own if its next statement does not come within {1}, or
// within the host's limit if that is less: a process that is stopped or cut off must not keep
// the document for good. Its statements wait for a row or a lock for {patience} at most. In
// the host's own transaction {1} is NULL, and the limit is for this statement alone: after it,
// lock_timeout is what it was (PostgreSQL documentation, 20.11.1 Statement Behavior).
var openSQL = `
WITH ` + waitSQL + `, _doc AS MATERIALIZED (
	SELECT {row} FROM {table} AS t WHERE {match} AND (SELECT limited FROM _wait) FOR NO KEY UPDATE
)
SELECT _doc.metadata, coalesce(_doc.version, 0), _doc.updated_at,
	{held}, _doc.version IS NOT NULL, CASE WHEN {creates} OR _doc.version IS NOT NULL THEN {lock} ELSE false END,
	CASE WHEN {1}::{text} IS NULL THEN {restored} ELSE ` + atMost("idle_in_transaction_session_timeout", "{1}") + ` END
FROM _wait LEFT JOIN _doc ON true`

// mergeHereSQL is openSQL and saveSQL in one, for a merge in the host's own transaction, which
// makes other writers of the document wait from here on. A transaction that finds the row
// locked waits for an advisory lock first, {6}, which orders the row's waiters: of the waiters
// for an advisory lock the server wakes one, once the lock is its own; of those for a row it
// wakes all, also at each savepoint that is released. A transaction that has locked the row
// already waits for nothing. No document means that the patch changes nothing, or that only
// openSQL can tell what is wrong.
//
// The UPDATE looks for the row as it was when the statement began, and is evaluated again with
// the row as it is (PostgreSQL documentation, section 13.2.1). It can wait for the advisory
// lock, for the row behind other waiters, and for the row itself, for {patience} each, in
// vain; triggers that run before it have that limit, too.
var mergeHereSQL = `
WITH ` + waitSQL + `, _ours AS MATERIALIZED (
	SELECT FROM {table} AS t WHERE {match} AND (SELECT limited FROM _wait) FOR NO KEY UPDATE SKIP LOCKED
), _row_order AS MATERIALIZED (
	SELECT pg_catalog.pg_advisory_xact_lock({6}::bigint) FROM _wait WHERE NOT EXISTS (SELECT FROM _ours) AND EXISTS (SELECT FROM {table} AS t WHERE {match})
), _doc AS MATERIALIZED (
	SELECT FROM {table} AS t WHERE {match} AND EXISTS (SELECT FROM _row_order) FOR NO KEY UPDATE
), _doc_lock AS MATERIALIZED (SELECT ` + tryLockSQL + ` AS free FROM (SELECT FROM _ours UNION ALL SELECT FROM _doc) AS locked),
_stored AS (
	UPDATE {table} AS t SET {column} = {merged}{bump} FROM _doc_lock
	WHERE {match} AND _doc_lock.free AND {fits} AND {changes}
	RETURNING {row}
)
SELECT _stored.metadata, coalesce(_stored.version, 0), _stored.updated_at, coalesce(_doc_lock.free, true),
	(extract(epoch FROM pg_catalog.clock_timestamp() {-} pg_catalog.statement_timestamp()) {*} 1000000::numeric)::bigint, {restored}
FROM _wait LEFT JOIN _doc_lock ON true LEFT JOIN _stored ON true`

// waitSQL limits how long a statement waits for others. {restored}, in the select list of the
// same statement, sets the limit back.
var waitSQL = `_wait AS MATERIALIZED (
	SELECT old AS host, ` + atMost("lock_timeout", "'{patience}'") + ` AS limited FROM pg_catalog.current_setting('lock_timeout') AS old
)`

// atMost is SQL that lowers one of the server's timeouts to value until the transaction ends,
// unless it is lower; 0 is no timeout. lock_timeout is also lowered to a quarter of what a
// statement or, from PostgreSQL 17 on, a transaction may take, so that a few waits, one after
// the other, end before the host's limit for all of it.
func atMost(timeout, value string) string {
	limits := value + "::interval" + mostSQL(timeout, "")
	if timeout == "lock_timeout" {
		limits += mostSQL("statement_timeout", " {/} 4::double precision") + mostSQL("transaction_timeout", " {/} 4::double precision")
	}
	return "pg_catalog.set_config('" + timeout + "', (extract(epoch FROM GREATEST(LEAST(" + limits + "), interval '1ms')) {*} 1000::numeric)::int::{text}, true) IS NOT NULL"
}

// mostSQL is a part of one of the server's timeouts, or NULL where that is none.
func mostSQL(timeout, part string) string {
	setting := "pg_catalog.current_setting('" + timeout + "', true)"
	return ",\n\tCASE WHEN " + setting + " {<>} '0' THEN " + setting + "::interval" + part + " END"
}

// patience is how long a statement may wait for each of so many things, one after the other,
// as text for the server. Together they are less than a statement may take, so that the server
// gives up first, and says so.
func (o *Options) patience(waits int) string {
	return milliseconds(min(max(o.Timeout/time.Duration(waits), time.Millisecond), math.MaxInt32*time.Millisecond))
}

// milliseconds is a duration as text for the server.
func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) + "ms" }

// insertSQL stores a document that openSQL, having its lock, has not found. It returns what
// saveSQL does. Nothing is stored where another row is in the way; it waits for that row's
// transaction no longer than openSQL does.
var insertSQL = `
WITH ` + waitSQL + `, _condition AS MATERIALIZED (SELECT {held}{unused} AS met, {1}::bigint AS changes FROM _wait WHERE limited),
_new AS MATERIALIZED (SELECT {2}::{text}::{jsonb} AS doc),
_stored AS (
	INSERT INTO {table} AS t ({id}, {column}{columns})
	SELECT $1::{text}::{idtype}, _new.doc{values} FROM _condition, _new WHERE _condition.met
	ON CONFLICT DO NOTHING
	RETURNING t.{id}::{text} {=} $1::{text}{within} AS done, {version} AS version, {updated} AS updated_at,
		CASE WHEN t.{column} {=} (SELECT doc FROM _new) THEN NULL ELSE coalesce(t.{column}, '{}') END AS altered
){kept}
SELECT _condition.met AND {restored}, coalesce(_stored.done, false), coalesce(_stored.version, 0), _stored.updated_at, _stored.altered
FROM _wait CROSS JOIN _condition LEFT JOIN _stored ON true`

// collideSQL is insertSQL for a document that insertSQL has not stored although its row is not
// there. If another row is in its way, the server's error names the unique index.
var collideSQL = strings.Replace(insertSQL, "\tON CONFLICT DO NOTHING\n", "", 1)

// saveSQL stores a document whose row openSQL has locked. It returns the document only if a
// trigger has changed it.
var saveSQL = strings.Replace(storeSQL, "{still}", "", 1)

const storeSQL = `
WITH _condition AS MATERIALIZED (SELECT {held}{unused} AS met, {1}::bigint AS changes),
_stored AS (
	UPDATE {table} AS t SET {column} = new.doc{bumps}
	FROM _condition, (SELECT {2}::{text}::{jsonb} AS doc OFFSET 0) AS new
	WHERE {match} AND _condition.met{still}
	RETURNING {version} AS version, {updated} AS updated_at,
		CASE WHEN t.{column} {=} new.doc THEN NULL ELSE coalesce(t.{column}, '{}') END AS altered
){kept}
SELECT _condition.met, _stored.version IS NOT NULL, coalesce(_stored.version, 0), _stored.updated_at, _stored.altered
FROM _condition LEFT JOIN _stored ON true`

const removeSQL = `
WITH _condition AS MATERIALIZED (SELECT {held}{unused} AS met),
_removed AS (DELETE FROM {table} AS t USING _condition WHERE {match} AND _condition.met RETURNING 1){kept}
SELECT _condition.met, EXISTS (SELECT FROM _removed), 0::bigint, NULL::bigint, NULL::{jsonb}
FROM _condition`
