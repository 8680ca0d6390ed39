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
// Each token is looked for by itself, so that no plan reads the table; and how many there
// are is said in a way that the server does not plan by, so that it need not plan each time.
//
// The oldest tokens go, if they are old enough: {old} of them, passing over those that
// others are about to remove. That each is looked up once more keeps the server from
// reading a whole table that is small when it plans, and grows.
const (
	unusedSQL = ` AND NOT EXISTS (SELECT FROM pg_catalog.unnest((SELECT {named}::{text}[])) AS n (token)
	WHERE (SELECT true FROM {tokens} AS o WHERE o.token {=} n.token::{uuid}))`

	keptSQL = `,
kept AS (
	INSERT INTO {tokens} (token, digest, version, at)
	SELECT k.token::{uuid}, k.digest::{uuid}, {made} {-} k.behind, pg_catalog.clock_timestamp()
	FROM {source}, unnest((SELECT {named}::{text}[]), (SELECT {digests}::{text}[]), (SELECT {behind}::bigint[])) AS k (token, digest, behind)
)` + agedSQL

	agedSQL = `, aged AS (
	DELETE FROM {tokens} AS a WHERE (SELECT true FROM {tokens} AS o WHERE o.token {=} a.token) AND a.ctid {=} ANY (ARRAY(
		SELECT o.ctid FROM {tokens} AS o WHERE o.at {<=} (pg_catalog.now() {-} '{keep}'::interval) AND EXISTS (SELECT FROM {source})
		ORDER BY o.at LIMIT (SELECT {old}::bigint) FOR UPDATE SKIP LOCKED))
)`
)

// usedSQL looks tokens up.
const usedSQL = `SELECT n.place, o.digest, o.version FROM pg_catalog.unnest($1::{text}[]) WITH ORDINALITY AS n (token, place), LATERAL (
	SELECT pg_catalog.encode(pg_catalog.uuid_send(digest), 'hex') AS digest, version FROM {tokens} WHERE token {=} n.token::{uuid} OFFSET 0) AS o`

// noteSQL keeps tokens of writes that change nothing. It returns what saveSQL does.
const noteSQL = `
WITH gate AS MATERIALIZED (SELECT {held}{unused} AS open),
stored AS (SELECT coalesce((SELECT {version} FROM {table} AS t WHERE {match}), 0::bigint) AS version FROM gate WHERE gate.open){kept}
SELECT gate.open, stored.version IS NOT NULL, coalesce(stored.version, 0), NULL::bigint, NULL::{jsonb}
FROM gate LEFT JOIN stored ON true`

// mergeOnceSQL is mergeSQL with one token. No row can also mean that the token is there.
var mergeOnceSQL = strings.Replace(`
WITH stored AS (`+mergeSQL+`),
kept AS (
	INSERT INTO {tokens} (token, digest, version, at)
	SELECT ({named}::{text}[])[1]::{uuid}, ({digests}::{text}[])[1]::{uuid}, version {-} ({behind}::bigint[])[1], pg_catalog.clock_timestamp() FROM stored
){aged}
SELECT metadata, version, updated_at FROM stored`, "{unused}",
	" AND (SELECT true FROM {tokens} AS o WHERE o.token {=} ({named}::{text}[])[1]::{uuid}) IS NULL", 1)

// newStoring makes a statement of a text with {unused} and {kept}. The arguments for tokens
// come from a place on, and what their writes have made is a version in a source.
func newStoring(expand func(string) statement, text string, place int, source, version string) storing {
	at := func(i int) string { return "{" + strconv.Itoa(place+i) + "}" }
	once := strings.NewReplacer("{unused}", unusedSQL, "{kept}", keptSQL, "{aged}", agedSQL).Replace(text)
	once = strings.NewReplacer("{named}", at(0), "{digests}", at(1), "{behind}", at(2), "{old}", at(3), "{source}", source, "{made}", version).Replace(once)
	s := storing{expand(strings.NewReplacer("{unused}", "", "{kept}", "").Replace(text)), expand(once)}
	s.once.keeps = true
	return s
}
