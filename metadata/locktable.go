package metadata

import (
	"strconv"
	"strings"

	"example.com/lockstore/lock"
)

// A statement for many documents takes as many locks, in a lock table that all clients of the
// server share: when it is full, any client's next lock fails. It has room for
// max_locks_per_transaction locks of each possible session (PostgreSQL documentation, section
// 20.12 Lock Management). Of these
//
//   - a quarter of max_locks_per_transaction is for each statement to take;
//   - a quarter of the whole is divided into slots of 64 locks. Each slot is an advisory lock
//     of its own; a statement takes as many slots as it needs and finds free.
//
// So however many processes write to this database, half of the table is left to others. A
// statement that gets fewer locks than it has patches does only that many of them, from the
// first on, and returns the number. It never waits for a slot.

// slotsKey is the first slot's number.
var slotsKey = strconv.FormatInt(lock.Namespace("lockstore").Name("metadata", "slots").Int64(), 10)

// shareSQL computes how many locks a statement may take, and takes the slots for them.
var shareSQL = strings.ReplaceAll(`_share AS MATERIALIZED (
	SELECT own {+} (64 {*} (SELECT pg_catalog.count(*) FROM (
		SELECT FROM pg_catalog.generate_series(1, slots) AS slot
		WHERE pg_catalog.pg_try_advisory_xact_lock({slots}::bigint {+} slot)
		LIMIT greatest((pg_catalog.cardinality($1::{text}[]) {-} own {+} 63) {/} 64, 0)
	) AS taken)) AS locks
	FROM (SELECT most {/} 4 AS own, most::bigint {*} (
			pg_catalog.current_setting('max_connections')::int {+} pg_catalog.current_setting('max_prepared_transactions')::int
		) {/} 4 {/} 64 AS slots
		FROM (SELECT pg_catalog.current_setting('max_locks_per_transaction')::int AS most) AS setting) AS part
)`, "{slots}", slotsKey)

// patchesSQL are the patches that a statement may do, each parsed once. (An unnest of
// several arrays is always PostgreSQL's own, and cannot be qualified.)
const patchesSQL = `(
	SELECT id, patch::{jsonb} AS patch, key, flat, sets, room
	FROM unnest($1::{text}[]::{idtype}[], {1}::{text}[], {2}::bigint[], {3}::boolean[], {4}::boolean[], {5}::bigint[]) AS p (id, patch, key, flat, sets, room)
	LIMIT (SELECT locks FROM _share)
) AS p`

// reportSQL returns how many patches a statement may have done, and with it the id and
// {row} of each document: without an id where there are none.
const reportSQL = `SELECT locks, coalesce(done.id, ''), metadata, coalesce(version, 0), updated_at FROM _share LEFT JOIN `
