// Package lockstore is for applications in which many workers change the same JSON metadata
// in PostgreSQL at once, and none of their changes may be lost. It has no code: import the
// packages below, and wire them into what you have. They assume no transport, and keep no
// state outside the database.
//
//   - [example.com/lockstore/metadata] merges JSON patches (RFC 7396) into a jsonb column.
//     Many merges of one document share a commit, so that a busy document gets more merges
//     per second, not fewer.
//   - [example.com/lockstore/lock] provides named locks across goroutines and processes,
//     backed by PostgreSQL advisory locks on one connection. A holder learns when its lock is
//     lost, and an operator can list and free locks.
//   - [example.com/lockstore/backoff] says how long to wait before the next attempt, by
//     policies without state.
//   - [example.com/lockstore/pgtest] gives each test a real database of its own.
//
// The usual case takes three calls:
//
//	store, err := metadata.NewPostgres(pool, nil) // a *pgxpool.Pool, *sql.DB or *sqlx.DB
//	...
//	err = store.Migrate(ctx) // creates the table, unless it is there
//	...
//	doc, err := store.Merge(ctx, userID, json.RawMessage(`{"plan": "pro", "trial": null}`))
//
// # Find it by its usual name
//
//   - Leader election: [example.com/lockstore/lock.Lead].
//   - Semaphore: [example.com/lockstore/lock.NewSemaphore].
//   - Mutex for the time of a function: [example.com/lockstore/lock.Do]; where the caller may
//     hold it already, [example.com/lockstore/lock.Ensure].
//   - Fencing token: [example.com/lockstore/lock.Held.Fence].
//   - Lease, TTL: there is none. A lock lasts until its holder unlocks it or its connection
//     ends; [example.com/lockstore/lock.Postgres.Evict] frees the lock of a holder that hangs.
//   - Counter, increment: [example.com/lockstore/metadata.Postgres.Update], which returns the
//     document after the caller's own change.
//   - Compare-and-swap, optimistic locking: [example.com/lockstore/metadata.Postgres.IfVersion].
//   - Idempotency key: [example.com/lockstore/metadata.Postgres.Once].
//   - Subscribe: [example.com/lockstore/metadata.Postgres.Watch].
//   - The host's transaction: [example.com/lockstore/metadata.Postgres.In] for documents,
//     [example.com/lockstore/lock.InTx] for locks.
//   - All documents, search: [example.com/lockstore/metadata.Postgres.Find].
//   - Migrations: [example.com/lockstore/metadata.Postgres.Migrate], or
//     [example.com/lockstore/metadata.Table.DDL] for a migration tool of the host's.
//   - Shutdown: close the store, then the locker, then the pool.
//   - Unit tests without a database: [example.com/lockstore/metadata.Memory] and
//     [example.com/lockstore/lock.Memory].
//
// README.md has more of them, and docs/questions.md says where common questions are answered.
//
// # Why
//
// The obvious solution takes an advisory lock through a connection pool, reads the metadata,
// merges in Go, writes it back, and unlocks through the pool. It loses updates: the unlock may
// run on another session than the lock, a session that holds a lock gets it again when it
// asks, and a canceled request never unlocks. The program examples/hotuser shows this, beside
// what this module does instead.
//
// # Security
//
// An advisory lock is no authorization. Whoever can connect to the database can take every
// key, and whoever may write a table can do so without this module. What keeps others out is
// the database's own privileges. SECURITY.md says what is promised against tenants, other
// roles and other users of a machine that runs tests.
//
// A role needs few privileges (TestLeastPrivilegesSuffice in package metadata):
//
//	GRANT USAGE ON SCHEMA s TO r;                                      -- of the tables and the function
//	GRANT SELECT, INSERT, UPDATE, DELETE ON s.lockstore_metadata TO r; -- DELETE for Delete only
//	GRANT SELECT, INSERT, UPDATE, DELETE ON s.lockstore_once TO r;     -- for Once only: Table.Tokens
//	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA s TO r;                   -- PUBLIC has it by default
//
// Locks need the right to connect, and no more. Migrate needs CREATE on the schema. To see
// details of other roles' sessions in a Status takes pg_read_all_stats. Evict takes
// pg_signal_backend or the holder's own role.
//
// No error, log line or observer gets a value of a document or a patch, or text of the server
// that could quote one. They do get names of tables and constraints, and ids and names of
// keys, quoted where they are not printable. Every string that reaches SQL is a parameter,
// except names of schemas, tables and columns, which are quoted in one place.
//
// # Caveats
//
// The promises are those of the primary server. A failover drops all locks, and ends the
// context of every holder. Of the acknowledged merges it keeps those that were replicated:
// with asynchronous replication the last ones can be lost, with synchronous_commit = on and
// synchronous_standby_names set they are not. With synchronous_commit = off a crash can lose
// the last ones, with fsync = off anything. Fences grow across a crash, and across a failover
// as far as their transactions were replicated.
//
// A process that is stopped cannot know that its lock is lost. What it merges then is refused;
// what it does elsewhere needs a fence. A process that is stopped while its connection stands
// keeps its locks until Evict frees them, or it goes on and unlocks them.
package lockstore
