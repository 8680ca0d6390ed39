package metadata

import (
	"slices"
	"strconv"
	"strings"
)

// The SQL for tokens: which are used already, and which a commit leaves. A statement that
// stores with tokens stores only if none of them is there ({unused}), and inserts them
// ({kept}). It sees the tokens that were committed before it began. The document's row, or
// its lock where there is no row, was locked before that, so none of the document's is
// committed later. A statement that itself takes the lock can miss some; it then fails on the
// tokens' unique index.
//
// Each token is looked up by itself, so that no plan reads the whole table. Their number is
// hidden from the planner, so that the server need not plan each time.
//
// A statement also deletes the oldest tokens that are old enough: up to {old}, without those
// that other transactions are deleting. Each is looked up once more, so that the server does
// not read a whole table that was small when it planned, and has grown; and its age, as the
// rows of two partitions may have the same ctid.
const (
	unusedSQL = ` AND NOT EXISTS (SELECT FROM pg_catalog.unnest((SELECT {named}::{text}[])) AS n (token)
	WHERE (SELECT true FROM {tokens} AS o WHERE o.token {=} n.token::{uuid}))`

	keptSQL = `,
_kept AS (
	INSERT INTO {tokens} (token, digest, version, at)
	SELECT k.token::{uuid}, k.digest::{uuid}, {made} {-} k.behind, pg_catalog.clock_timestamp()
	FROM {source}, unnest((SELECT {named}::{text}[]), (SELECT {digests}::{text}[]), (SELECT {behind}::bigint[])) AS k (token, digest, behind)
)` + agedSQL

	agedSQL = `, _aged AS (
	DELETE FROM {tokens} AS a WHERE (SELECT true FROM {tokens} AS o WHERE o.token {=} a.token) AND a.at {<=} (pg_catalog.now() {-} '{keep}'::interval) AND a.ctid {=} ANY (ARRAY(
		SELECT o.ctid FROM {tokens} AS o WHERE o.at {<=} (pg_catalog.now() {-} '{keep}'::interval) AND EXISTS (SELECT FROM {source})
		ORDER BY o.at LIMIT (SELECT {old}::bigint) FOR UPDATE SKIP LOCKED))
)`
)

// usedSQL looks tokens up.
const usedSQL = `SELECT n.place, o.digest, o.version FROM pg_catalog.unnest($1::{text}[]) WITH ORDINALITY AS n (token, place), LATERAL (
	SELECT pg_catalog.encode(pg_catalog.uuid_send(digest), 'hex') AS digest, version FROM {tokens} WHERE token {=} n.token::{uuid} OFFSET 0) AS o`

// noteSQL keeps tokens of writes that change nothing. It returns what saveSQL does.
const noteSQL = `
WITH _condition AS MATERIALIZED (SELECT {held}{unused} AS met),
_stored AS (SELECT coalesce((SELECT {version} FROM {table} AS t WHERE {match}), 0::bigint) AS version FROM _condition WHERE _condition.met){kept}
SELECT _condition.met, _stored.version IS NOT NULL, coalesce(_stored.version, 0), NULL::bigint, NULL::{jsonb}
FROM _condition LEFT JOIN _stored ON true`

// mergeOnceSQL is mergeSQL with one token. No row can also mean that the token is there.
var mergeOnceSQL = strings.Replace(`
WITH _stored AS (`+mergeSQL+`),
_kept AS (
	INSERT INTO {tokens} (token, digest, version, at)
	SELECT ({named}::{text}[])[1]::{uuid}, ({digests}::{text}[])[1]::{uuid}, version {-} ({behind}::bigint[])[1], pg_catalog.clock_timestamp() FROM _stored
){aged}
SELECT metadata, version, updated_at FROM _stored`, "{unused}",
	" AND (SELECT true FROM {tokens} AS o WHERE o.token {=} ({named}::{text}[])[1]::{uuid}) IS NULL", 1)

// A storing is a statement that stores, by itself and with tokens.
type storing struct{ plain, once statement }

func (s *storing) query(id string, k kept, args ...any) query {
	if k == nil {
		return query{s.plain, s.plain.args(id, args...)}
	}
	return query{s.once, s.once.args(id, slices.Concat(args, k)...)}
}

// newStoring makes a statement of a text with {unused} and {kept}. The arguments for tokens
// begin at place. source has the version that their writes have made.
func newStoring(expand func(string) statement, text string, place int, source, version string) storing {
	at := func(i int) string { return "{" + strconv.Itoa(place+i) + "}" }
	once := strings.NewReplacer("{unused}", unusedSQL, "{kept}", keptSQL, "{aged}", agedSQL).Replace(text)
	once = strings.NewReplacer("{named}", at(0), "{digests}", at(1), "{behind}", at(2), "{old}", at(3), "{source}", source, "{made}", version).Replace(once)
	s := storing{expand(strings.NewReplacer("{unused}", "", "{kept}", "").Replace(text)), expand(once)}
	s.once.keeps = true
	return s
}
