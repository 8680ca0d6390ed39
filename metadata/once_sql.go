package metadata

import (
	"strconv"
	"strings"
)

// A statement that stores with tokens does so only if none of these is there ({unused}),
// and adds them ({kept}) to what it has stored. It finds those that have been committed
// before it began. As the document's row, or its lock where there is none, was locked
// before, nothing of the document is committed after that; a statement that locks only by
// itself can miss what was, and then fails of the tokens' unique index.
//
// Each token is looked for by itself, as a document can have many; and how many there are
// is said in a way that the server does not plan by, so that it need not plan each time.
//
// The oldest tokens go, if they are old enough: for each that comes two, passing over those
// that others are about to remove. That each is looked up once more keeps the server from
// reading a whole table that is small when it plans, and grows.
const (
	unusedSQL = ` AND NOT EXISTS (SELECT FROM pg_catalog.unnest((SELECT {named}::{text}[])) AS n (token)
	WHERE (SELECT true FROM {tokens} AS o WHERE o.document {=} {document}::{text} AND o.token {=} n.token))`

	keptSQL = `,
kept AS (
	INSERT INTO {tokens} (document, token, digest, version, at)
	SELECT {document}::{text}, k.token, pg_catalog.decode(k.digest, 'hex'), {made} {-} k.behind, pg_catalog.clock_timestamp()
	FROM {source}, unnest((SELECT {named}::{text}[]), (SELECT {digests}::{text}[]), (SELECT {behind}::bigint[])) AS k (token, digest, behind)
), aged AS (
	DELETE FROM {tokens} AS a WHERE (SELECT true FROM {tokens} AS o WHERE o.document {=} a.document AND o.token {=} a.token) AND a.ctid {=} ANY (ARRAY(
		SELECT o.ctid FROM {tokens} AS o WHERE o.at {<=} (pg_catalog.now() {-} '{keep}'::interval) AND EXISTS (SELECT FROM {source})
		ORDER BY o.at LIMIT (SELECT 2 {*} pg_catalog.cardinality({named}::{text}[])) FOR UPDATE SKIP LOCKED))
)`
)

// usedSQL looks tokens up.
const usedSQL = `SELECT n.token, o.digest, o.version FROM pg_catalog.unnest($2::{text}[]) AS n (token), LATERAL (
	SELECT pg_catalog.encode(digest, 'hex') AS digest, version FROM {tokens} WHERE document {=} $1::{text} AND token {=} n.token OFFSET 0) AS o`

// noteSQL keeps tokens of writes that change nothing. It returns what saveSQL does.
const noteSQL = `
WITH gate AS MATERIALIZED (SELECT {held}{unused} AS open),
stored AS (SELECT coalesce((SELECT {version} FROM {table} AS t WHERE {match}), 0::bigint) AS version FROM gate WHERE gate.open){kept}
SELECT gate.open, stored.version IS NOT NULL, coalesce(stored.version, 0), NULL::bigint, NULL::{jsonb}
FROM gate LEFT JOIN stored ON true`

// mergeOnceSQL is mergeSQL with a token. No row can also mean that the token is there.
var mergeOnceSQL = `
WITH stored AS (` + mergeSQL + `){kept}
SELECT metadata, version, updated_at FROM stored`

// newStoring makes a statement of a text with {unused} and {kept}. The arguments for tokens
// come from a place on, and what their writes have made is a version in a source.
func newStoring(expand func(string) statement, text string, place int, source, version string) storing {
	at := func(i int) string { return "{" + strconv.Itoa(place+i) + "}" }
	once := strings.NewReplacer("{unused}", unusedSQL, "{kept}", keptSQL).Replace(text)
	once = strings.NewReplacer("{document}", at(0), "{named}", at(1), "{digests}", at(2), "{behind}", at(3), "{source}", source, "{made}", version).Replace(once)
	s := storing{expand(strings.NewReplacer("{unused}", "", "{kept}", "").Replace(text)), expand(once)}
	s.once.keeps = true
	return s
}
