package lock

import "math/bits"

// A key has a guard, which is another key to the server. A write under a lock that another
// session makes than the one which holds the lock takes the guard exclusively until it is
// committed, as package metadata does. A key is granted only when there is no such write: if a
// holder loses the lock in mid-commit, its write is there before the next hold begins.
//
// A session that finds the guard taken gives the key back and asks again later: it must not
// seem to hold what another keeps. It takes the guard only after the key, and releases it at
// the end of the statement. So it never delays a writer whose lock still stands.
//
// The second guard is for writes of something else than what the key stands for, as a leader
// makes. Any number of them share it, and no exclusive request for the key is granted before
// they are committed. It is tried exclusively, in the same statement. Shared requests do not
// try it, as they would be in each other's way, so such writes do not keep them from a key.
//
// Keys, guards and flags (see evictFormat) are all locks of one 64-bit number. The server's
// locks of two 32-bit numbers are a separate space, and left to the host.
const (
	guarded      = "pg_try_advisory_xact_lock_shared((key << 32 | (key >> 32 & 4294967295)) # 4577714487288373607)"
	guardedAlone = guarded + " AND pg_try_advisory_xact_lock((key << 32 | (key >> 32 & 4294967295)) # 5317955152719895680)"
	// The planner would drop the unlock from "… AND false".
	tryGuarded       = "CASE WHEN NOT pg_try_advisory_lock(key) THEN false WHEN " + guardedAlone + " THEN true ELSE NOT pg_advisory_unlock(key) END"
	tryGuardedShared = "CASE WHEN NOT pg_try_advisory_lock_shared(key) THEN false WHEN " + guarded + " THEN true ELSE NOT pg_advisory_unlock_shared(key) END"
)

// guardBits separate guards from keys. They are as good as random: the first of the SHA-256 of
// "lockstore guard", but for the sign.
const guardBits = 0x3f874f1289fba167

// sharedGuardBits do so for second guards (of "lockstore shared guard").
const sharedGuardBits = 0x49cd2c092153dc80

// guardOf returns the guard of a key, as the SQL of guarded computes it: the key with its
// halves exchanged and other bits, so that the guards of a namespace are spread over all
// namespaces. No two keys have the same guard. A guard equals some other key as rarely as any
// two names do.
func guardOf(key int64) int64 { return exchanged(key) ^ guardBits }

// sharedGuardOf returns the second guard of a key.
func sharedGuardOf(key int64) int64 { return exchanged(key) ^ sharedGuardBits }

// guardedBy returns the key of a guard, or of a second guard if shared.
func guardedBy(guard int64, shared bool) int64 {
	if shared {
		return exchanged(guard ^ sharedGuardBits)
	}
	return exchanged(guard ^ guardBits)
}

func exchanged(n int64) int64 { return int64(bits.RotateLeft64(uint64(n), 32)) }
