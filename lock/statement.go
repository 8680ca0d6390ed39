package lock

import (
	"encoding/binary"

	"github.com/jackc/pgx/v5/pgtype"
)

// An opcode says what an operation does. A batch runs its operations in the order of these
// constants. Unlocks come first, so that a key which is given back and wanted again goes to
// other processes if they want it. A session has a key twice for a moment only if an unlock
// was canceled, and is sent again behind a try of the same key that was under way by then: the
// unlock leaves it the one that it is to have.
type opcode uint8

const (
	opRest opcode = iota // says that the process has nothing to report: see lockerMark
	opDrop               // unlocks what may not be locked: a blind unlock
	opDropShared
	opUnlock
	opUnlockShared
	opFence
	opTry
	opTryShared
	opWanted   // asks whether a session has the key exclusively, or waits to
	opFlagged  // asks whether there are requests to evict or questions; key is the flag
	opRequests // reads them
	opAnswer   // answers questions by its text: see questionPrefix
	opCancel   // ends the wait of the session whose process id is key
	opWait     // waits for up to the session's lock_timeout: on a wait connection only, one at a time
	opWaitShared
	opcodes // their number
)

// operations are what a session prepares for each opcode: two statements of the same SQL,
// which works on a key and returns the outcome in one column. many takes many keys and answers
// in their order; one takes a single key, with much less work for the server. None but the
// waits blocks; queue is the statement that precedes these. None makes the server write to its
// log.
//
// The server sends a row as soon as it has computed it. So if an operation fails, those before
// it have their answers, and those behind it have not been tried.
//
// They run under a search_path of their own: see beginSQL.
//
// PostgreSQL documentation, 9.28.10 Advisory Lock Functions, 9.28.2 Server Signaling
// Functions, and 9.27.8 Transaction ID and Snapshot Information Functions.
var operations = [opcodes]struct{ many, one, sql, queue string }{
	opRest:         {"lockstore_rests", "lockstore_rest", "key IS NULL", ""},
	opDrop:         {"lockstore_drops", "lockstore_drop", "(SELECT " + dropped + ")", ""},
	opDropShared:   {"lockstore_drops_shared", "lockstore_drop_shared", "(SELECT " + droppedShared + ")", ""},
	opUnlock:       {"lockstore_unlocks", "lockstore_unlock", "pg_advisory_unlock(key)", ""},
	opUnlockShared: {"lockstore_unlocks_shared", "lockstore_unlock_shared", "pg_advisory_unlock_shared(key)", ""},
	opFence:        {"lockstore_fences", "lockstore_fence", durableXact, ""},
	opTry:          {"lockstore_tries", "lockstore_try", tryGuarded, ""},
	opTryShared:    {"lockstore_tries_shared", "lockstore_try_shared", tryGuardedShared, ""},
	opWanted:       {"lockstore_wanteds", "lockstore_wanted", wanted, ""},
	opFlagged:      {"lockstore_flags", "lockstore_flag", flagged, ""},
	opRequests:     {"lockstore_requests", "lockstore_request", evictRequestsSQL, ""},
	opCancel:       {"lockstore_cancels", "lockstore_cancel", cancelWait, ""},
	opWait:         {"lockstore_waits", "lockstore_wait", waited, "lockstore_queue"},
	opWaitShared:   {"lockstore_waits_shared", "lockstore_wait_shared", waited, "lockstore_queue_shared"},
}

const (
	ofKeys = " FROM unnest($1::bigint[]) AS key"
	ofKey  = " FROM (VALUES ($1::bigint)) AS one (key)"
)

// Unlocking what is not locked would leave a warning in the server's log.
const (
	dropped       = "pg_advisory_unlock(key) FROM pg_locks AS l WHERE l.mode = 'ExclusiveLock'" + isKeyOfOwn
	droppedShared = "pg_advisory_unlock_shared(key) FROM pg_locks AS l WHERE l.mode = 'ShareLock'" + isKeyOfOwn
	isKeyOfOwn    = " AND l.pid = pg_backend_pid() AND l.granted AND l.locktype = 'advisory' AND l.objsubid = 1" +
		" AND l.classid = (key >> 32 & 4294967295)::oid AND l.objid = (key & 4294967295)::oid"
)

// cancelWait cancels nothing but a wait for a lock.
const cancelWait = "EXISTS (SELECT FROM pg_stat_get_activity(key::int) AS a WHERE a.wait_event_type = 'Lock' AND pg_cancel_backend(a.pid))"

// wanted looks into the server's lock table (51.12 pg_locks). A session that shares the key
// cannot find out by trying.
const wanted = `key IN (SELECT l.classid::bigint << 32 | l.objid::bigint FROM pg_locks AS l
WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.mode = 'ExclusiveLock'
	AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database()))`

// durableXact is the transaction's id, made to outlive a crash: after recovery the server
// gives out again an id whose transaction has left nothing in the WAL. The message is for no
// reader (9.28.6 Replication Management Functions). The id is negative if a standby has to
// have it, too.
const durableXact = "CASE WHEN pg_logical_emit_message(true, 'lockstore', '') IS NOT NULL THEN pg_current_xact_id()::text::bigint" +
	" * CASE WHEN current_setting('lockstore.commit') <> 'local' AND current_setting('synchronous_standby_names') <> '' THEN -1 ELSE 1 END END"

// confirmSQL commits after all that a session has committed, and waits for the standbys that
// the host's commits wait for. The session is known by its process and, as far as that is
// shown, its start. On another server it finds no row.
const confirmSQL = `SELECT pg_catalog.pg_logical_emit_message(true, 'lockstore', '') IS NOT NULL,
	pg_catalog.set_config('synchronous_commit', coalesce(nullif(pg_catalog.current_setting('synchronous_commit'), 'off'), 'on'), true),
	pg_catalog.set_config('client_min_messages', 'warning', true)
FROM pg_catalog.pg_stat_get_activity($1::bigint::integer) AS a
WHERE coalesce(` + startSQL + `, $2::bigint) OPERATOR(pg_catalog.=) $2::bigint OR $2::bigint OPERATOR(pg_catalog.=) 0`

// An op is one operation and, later, its answer.
type op struct {
	code  opcode
	key   int64
	entry *entry // of a try, a wait or opWanted
	reply *reply // to an unlock or a fence; nil: nothing waits for it
	value int64
	err   error
}

// isBlind reports whether the operation unlocks what may not be locked.
func (o *op) isBlind() bool { return o.code == opDrop || o.code == opDropShared }

// isTransactional reports whether the effect of the operation is undone if its batch fails:
// the number of a fence may then come again. Locks stay.
func (o *op) isTransactional() bool { return o.code == opFence }

// appendKeys appends the binary form of the keys of ops: of a bigint[], or of a bigint if
// there is one. An array is its number of dimensions, whether there are NULLs, its elements'
// type, its length and first index; each element follows its size. (PostgreSQL source,
// array_recv.)
func appendKeys(b []byte, ops []op) []byte {
	if len(ops) == 1 {
		return binary.BigEndian.AppendUint64(b, uint64(ops[0].key))
	}
	for _, n := range [...]uint32{1, 0, pgtype.Int8OID, uint32(len(ops)), 1} {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	for _, o := range ops {
		b = binary.BigEndian.AppendUint32(b, 8)
		b = binary.BigEndian.AppendUint64(b, uint64(o.key))
	}
	return b
}

// valueOf decodes the one column of a statement's row, in binary: a bool, a bigint, or NULL,
// which counts as true.
func valueOf(column []byte) int64 {
	switch len(column) {
	case 0:
		return 1
	case 1:
		return int64(column[0])
	}
	return int64(binary.BigEndian.Uint64(column))
}
