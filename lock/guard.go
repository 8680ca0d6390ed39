package lock

import "math/bits"

// A key has a guard, another key to the server. A write under a hold that is made on
// another session than the one that holds the lock has the guard alone until it is
// committed, as package metadata does. A key is granted only when there is no such
// write: what a holder wrote who lost the lock in mid-commit is there before the next
// one begins. A session that finds the guard taken gives the key back, and asks again
// later: it must not seem to hold what another keeps. It lets go of the guard itself
// with the statement, and had the key before it: so it is in the way of none whose hold
// still stands.
//
// The second guard is for writes of something else than what the key is of, as those of a
// leader are: any number of them share it, and a key is granted to nobody alone before they
// are committed. It is asked for alone, in the same statement, so that sharers, who would
// be in each other's way, are not kept from a key by such writes.
//
// Keys, guards and flags (see requestFormat) are all of them locks of one 64-bit number.
// The server's locks of two 32-bit numbers are another space, and left to the host.
const (
	guarded      = "pg_try_advisory_xact_lock_shared((key << 32 | (key >> 32 & 4294967295)) # 4577714487288373607)"
	guardedAlone = guarded + " AND pg_try_advisory_xact_lock((key << 32 | (key >> 32 & 4294967295)) # 5317955152719895680)"
	// The planner would drop the unlock from "… AND false".
	tryGuarded       = "CASE WHEN NOT pg_try_advisory_lock(key) THEN false WHEN " + guardedAlone + " THEN true ELSE NOT pg_advisory_unlock(key) END"
	tryGuardedShared = "CASE WHEN NOT pg_try_advisory_lock_shared(key) THEN false WHEN " + guarded + " THEN true ELSE NOT pg_advisory_unlock_shared(key) END"
)

// guardBits tell guards from keys: they are as good as drawn (the first of the SHA-256 of
// "lockstore guard", but for the sign).
const guardBits = 0x3f874f1289fba167

// sharedGuardBits are for second guards (of "lockstore shared guard").
const sharedGuardBits = 0x49cd2c092153dc80

// guardOf is the guard of a key, as guarded has it: the key with its halves exchanged,
// so that the guards of a namespace are spread over all of them, and other bits. No two
// keys share a guard, and to be some other key's number is as unlikely for it as for
// any name.
func guardOf(key int64) int64 { return exchanged(key) ^ guardBits }

// sharedGuardOf is the second guard of a key.
func sharedGuardOf(key int64) int64 { return exchanged(key) ^ sharedGuardBits }

// guardedBy is the key of a guard, or of a second one, which is shared.
func guardedBy(guard int64, shared bool) int64 {
	if shared {
		return exchanged(guard ^ sharedGuardBits)
	}
	return exchanged(guard ^ guardBits)
}

func exchanged(n int64) int64 { return int64(bits.RotateLeft64(uint64(n), 32)) }
