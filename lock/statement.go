package lock

import "encoding/binary"

// An opcode says what an operation does. A batch carries them out in the
// order of these constants: unlocks first, so that a session never has a key
// twice that was given back and is wanted again.
type opcode uint8

const (
	opUnlock opcode = iota
	opUnlockShared
	opFence
	opTry
	opTryShared
	opEvicted // key is a token
	opCancel  // key is the process id of a session that waits
	opWait    // for up to the session's lock_timeout: on a spare session only
	opWaitShared
	opcodes // their number
)

// statements are what a session prepares, one for each opcode. Each takes
// many keys and answers them in their order. None but the waits blocks. The
// server sends a row as soon as it has computed it. So if one operation
// fails, those before it have their answers, and those behind it have not
// been tried.
//
// PostgreSQL documentation, 9.28.10 Advisory Lock Functions, 9.28.2 Server
// Signaling Functions, and 9.27.8 Transaction ID and Snapshot Information
// Functions.
var statements = [opcodes]struct{ name, sql string }{
	opUnlock:       {"lockstore_unlock", "SELECT pg_advisory_unlock(key) FROM unnest($1::bigint[]) AS key"},
	opUnlockShared: {"lockstore_unlock_shared", "SELECT pg_advisory_unlock_shared(key) FROM unnest($1::bigint[]) AS key"},
	opFence:        {"lockstore_fence", "SELECT " + durableXact + " FROM unnest($1::bigint[])"},
	opTry:          {"lockstore_try", "SELECT " + tryGuarded + " FROM unnest($1::bigint[]) AS key"},
	opTryShared:    {"lockstore_try_shared", "SELECT " + tryGuardedShared + " FROM unnest($1::bigint[]) AS key"},
	opEvicted:      {"lockstore_evicted", "SELECT pg_notify('" + evictedChannel + "', token::text) FROM unnest($1::bigint[]) AS token"},
	opCancel:       {"lockstore_cancel", "SELECT pg_cancel_backend(pid::int) FROM unnest($1::bigint[]) AS pid"},
	opWait:         {"lockstore_wait", "SELECT " + waitGuarded + " FROM unnest($1::bigint[]) AS key"},
	opWaitShared:   {"lockstore_wait_shared", "SELECT " + waitGuardedShared + " FROM unnest($1::bigint[]) AS key"},
}

// A key has a guard, which is the same 64 bits as two integers, another key to
// the server. Who writes under a tenure, but on another session than the one
// that holds the lock, has the guard alone until the write is committed, as
// package metadata does. A key is granted only when nobody writes so: what a
// holder wrote who lost the lock in mid-commit is there before the next one
// begins. Who finds the guard taken gives the key back, and asks again later: he
// must not seem to hold what somebody else keeps. He lets go of the guard itself
// with the statement, and had the key before it: so he is in the way of none
// whose tenure still stands.
const (
	guard = "pg_try_advisory_xact_lock_shared((key >> 32)::int, (key << 32 >> 32)::int)"
	// The planner would drop the unlock from "… AND false".
	unlessGuarded       = " WHEN " + guard + " THEN true ELSE NOT pg_advisory_unlock(key) END"
	unlessGuardedShared = " WHEN " + guard + " THEN true ELSE NOT pg_advisory_unlock_shared(key) END"

	tryGuarded        = "CASE WHEN NOT pg_try_advisory_lock(key) THEN false" + unlessGuarded
	tryGuardedShared  = "CASE WHEN NOT pg_try_advisory_lock_shared(key) THEN false" + unlessGuardedShared
	waitGuarded       = "CASE WHEN pg_advisory_lock(key) IS NULL THEN false" + unlessGuarded
	waitGuardedShared = "CASE WHEN pg_advisory_lock_shared(key) IS NULL THEN false" + unlessGuardedShared
)

// durableXact is the transaction's id, and makes it outlive a crash: an id whose
// transaction has left nothing in the WAL is given out again after recovery.
// The message is for nobody (9.28.6 Replication Management Functions).
const durableXact = "CASE WHEN pg_logical_emit_message(true, 'lockstore', '') IS NOT NULL" +
	" THEN pg_current_xact_id()::text::bigint END"

// An op is one operation and, later, its answer.
type op struct {
	code  opcode
	blind bool // an unlock of what may not be locked
	key   int64
	entry *entry // that tries or waits
	reply *reply // to an unlock or a fence; nil: nobody waits for it
	value int64
	err   error
}

// valueOf decodes the one column of a statement's row, in binary: a bool, a
// bigint, or void, which counts as true.
func valueOf(column []byte) int64 {
	switch len(column) {
	case 0:
		return 1
	case 1:
		return int64(column[0])
	}
	return int64(binary.BigEndian.Uint64(column))
}
