// Package lock gives many goroutines and many processes named locks, held by
// PostgreSQL, which it asks over one connection however many the locks.
//
//	locker, err := lock.NewPostgres(ctx, pool, nil)
//	...
//	held, err := locker.Lock(ctx, lock.Name("user", id))
//	if err != nil {
//		return err // nothing is held
//	}
//	defer held.Unlock()
//	return work(held.Context()) // which ends if the lock is lost
//
// [Do] puts these steps into one call. [Postgres] is for production, [Memory]
// for tests and single processes; both are a [Locker], and so can be one of
// your own, which package locktest checks.
//
// # What is promised
//
// While a [Held] is valid nobody else holds its key, in any process. Locks are
// not re-entrant: to ask again for a key that one holds is refused at once ([ErrHeld]),
// and [Ensure] is for code that may hold it already. Whatever happens, a lock is not held by nobody: either the
// server confirms that it was unlocked, or the session that held it is ended.
// A holder whose session is lost is told by [Held.Context], at once where the
// network says so and otherwise before the server gives the key to another.
//
// A waiter costs no connection, and leaves when its context ends. Within a
// process waiters are served in the order of their calls; a key is handed on
// without asking the server. Between processes they take turns: see
// PostgresOptions.HandOff and Parking.
//
// [Lead] runs a function wherever the leader is. [Semaphore] lets so many work at a time.
//
// # Seeing and freeing
//
// [Postgres.Status] and [Postgres.List] tell who holds and who waits, in all processes,
// also to write a document, and which of them wait for each other. Nothing is sent for that
// before somebody asks, but that a process where calls wait looks fifty times a second
// whether somebody does.
// [Postgres.Evict] frees a key that is stuck. [Postgres.Check] finds settings
// of the server that do not suit the load. [Postgres.Stats], [Observer]s and
// a logger tell what goes on.
//
// # Caveats
//
// A process that is stopped or cut off can not know that its lock is lost until
// it runs again. What it writes then must be refused by who receives it: see
// [Held.Fence]. Package metadata does so by itself.
//
// Advisory locks are no authorization: whoever can connect to the database can
// take every key, and see who holds it. Only who may terminate a holder's session can
// evict it. Locks belong to one database of one server; a failover loses them, and
// tells so.
//
// A connection pooler in transaction mode would strand locks; NewPostgres
// refuses it, and Pgpool-II in any mode. Where the host's pool leads through one,
// PostgresOptions.Connect gives the locks a direct address. [InTx], whose lock ends
// with the host's transaction, works through it.
//
// A key taken while another is held can deadlock with a process that does it
// the other way round. Take both by LockAll, or bound the wait by its context; the error
// of a long one tells of it.
package lock
