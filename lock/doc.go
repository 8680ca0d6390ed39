// Package lock provides named locks across goroutines and processes, backed by PostgreSQL's
// advisory locks. One connection of a [Postgres] holds its locks, however many they are. Keys
// that other processes keep busy are waited for, and then held, on up to
// PostgresOptions.WaitConns more.
//
//	locker, err := lock.NewPostgres(ctx, pool, nil)
//	...
//	err = lock.Do(ctx, locker, lock.Name("user", id), func(ctx context.Context) error {
//		return work(ctx) // ctx is canceled if the lock is lost
//	})
//
// [Do] locks, calls the function and unlocks. Its ctx keeps the deadline of the caller's
// context. Where a function does not fit, use [Locker.Lock] and [Held.Unlock], and pass the
// context of [Held.Bind] to the work: [Held.Context] ends with the lock, too, but drops the
// deadline.
//
// [Postgres] is for production, [Memory] for tests and programs of a single process. Both
// implement [Locker]. Package locktest checks an implementation of your own.
//
// # What there is
//
//   - Mutual exclusion: [Do], [Locker.Lock].
//   - Try-lock: [Locker.TryLock]; [Try] as an option of Do.
//   - Read/write (shared) locks: [Locker.RLock], [Locker.TryRLock]; [Shared] as an option.
//   - Several keys at once, all or none, without deadlock: [AllLocker.LockAll]; [And] as an
//     option.
//   - Re-entrancy: none. Asking again with a context that carries the lock fails at once
//     with [ErrHeld], unless both are shared and the second can be had at once. [Ensure]
//     runs a function under the lock that the context carries, or takes it.
//   - Timeouts: the context bounds the wait and, with Do, the work. [WaitAtMost] bounds the
//     wait alone. PostgresOptions.Backoff can bound every wait.
//   - Leader election: [Lead].
//   - Semaphore: [Semaphore].
//   - Cron jobs that one process runs: Do with [Try]; see its example.
//   - Locks of one transaction: [InTx].
//   - Sharing a lock with SQL written by hand: [ID], [Key.Int64].
//   - Fencing tokens: [Held.Fence].
//   - Who holds a key and who waits for it: [Postgres.Status], [Postgres.List]; in errors,
//     PostgresOptions.DescribeBusy.
//   - Force unlock: [Postgres.Evict].
//   - Metrics, traces and logs: [Observer], [Postgres.Stats], PostgresOptions.Logger.
//   - Server settings that do not suit the load: [Postgres.Check].
//
// # TTL, leases
//
// There is no TTL and no lease to renew. A lock ends when its holder unlocks it, or with the
// session that holds it. So it does not run out under a slow holder, and a crash ends it: at
// once if only the process dies, and after about twice PostgresOptions.Silence if its machine
// vanishes. The price: a process that is stopped, but whose connection stands, keeps its
// locks until it runs again. [Postgres.Evict] frees them.
//
// # Guarantees
//
//   - While a [Held] is valid, no other holder has its key, in any process; a shared lock
//     excludes those that are not.
//   - A lock is never orphaned. It ends when the server confirms the unlock, or with the
//     session that holds it.
//   - Held.Context is canceled when the session is lost: at once if the network reports it,
//     and otherwise, if this process runs, before the server gives the key to another holder
//     (PostgresOptions.Silence). The Locker connects again; the lock is to be taken again.
//   - A waiter costs no connection, and leaves when its context ends.
//   - Within a process waiters are served in the order of their calls. An unlocked key goes
//     to the next of them without asking the server.
//   - Between processes keys take turns: see PostgresOptions.HandOff and
//     PostgresOptions.WaitConns.
//
// # Shutdown
//
// Stop what uses the locks first, then close, in this order: the HTTP
// or other server, the metadata store, the locker, the pool.
//
// # Caveats
//
// Fencing: a process that is stopped learns that its lock is lost only when it runs again, and
// may write before that. The system that receives its writes must refuse them then: see
// [Held.Fence]. Package metadata does so by itself.
//
// Security: advisory locks are no authorization. Every role that can connect to the database
// can take every key, and see who holds it. Evicting a holder needs the right to terminate
// its session.
//
// Failover: locks belong to one database of one server. A failover drops all of them, and
// cancels the context of every holder.
//
// PgBouncer and other poolers: a pooler in transaction mode would strand locks, so
// NewPostgres refuses it. It refuses Pgpool-II in any mode. If the host's pool leads through
// one, PostgresOptions.Connect gives the locks a direct connection. [InTx] works through a
// pooler, as its lock ends with the host's transaction.
//
// Deadlock: a goroutine that takes a key while it holds another can deadlock with one, in
// this or another process, that takes them in the other order. Take both with LockAll, or
// bound the wait with a context. The error of a long wait names the processes that wait for each
// other.
//
// Load: a process that holds keys polls the server ten times a second for what Evict, Status
// and List of other processes ask, and one in which calls wait fifty times. Nothing else is
// sent for them before they are called.
package lock
