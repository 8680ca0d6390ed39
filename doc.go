// Package lockstore is for applications in which many workers change the same
// JSON metadata in PostgreSQL at once, and none of their changes may be lost.
// It holds no code of its own: a host imports the packages below, and wires
// them into what it has. No transport is assumed, and no state is kept outside
// the database.
//
//   - [example.com/lockstore/metadata] merges JSON patches (RFC 7396) into a
//     jsonb column. Many merges of one document share a commit, so that a
//     document under heavy fire gets more of them per second, not fewer.
//   - [example.com/lockstore/lock] gives goroutines and processes named locks,
//     backed by PostgreSQL's advisory locks on one connection. Who holds a lock
//     is told when it is lost, and everybody can see and free it.
//   - [example.com/lockstore/backoff] says how long to wait before the next
//     attempt, by policies without state.
//   - [example.com/lockstore/pgtest] gives each test a real database of its own.
//
// The usual case needs two calls:
//
//	store, err := metadata.NewPostgres(pool, nil) // a *pgxpool.Pool, *sql.DB or *sqlx.DB
//	...
//	doc, err := store.Merge(ctx, userID, json.RawMessage(`{"plan": "pro", "trial": null}`))
//
// # Why
//
// The obvious solution takes an advisory lock through a connection pool, reads
// the metadata, merges in Go, writes it back, and unlocks through the pool. It
// loses updates: the unlock may run on another session than the lock, a session
// that has a lock gets it again when asked, and a cancelled request never
// unlocks. The program in examples/hotuser shows it, beside what this module
// does instead.
//
// # Security
//
// An advisory lock is no authorization. Whoever can connect to the database can
// take every key; and whoever may write a table need not ask this module first.
// What keeps others out is the database's own privileges. SECURITY.md says what is
// promised against tenants, other roles and other users of a test machine.
//
// A role needs little (TestLeastPrivilegesSuffice in package metadata):
//
//	GRANT USAGE ON SCHEMA s TO r;                                 -- of the table and the function
//	GRANT SELECT, INSERT, UPDATE, DELETE ON s.lockstore_metadata TO r; -- DELETE for Delete only
//	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA s TO r;              -- PUBLIC has it by default
//
// Locks need the right to connect, and no more. Migrate needs CREATE on the
// schema. Details of other roles' sessions in a Status need pg_read_all_stats,
// and Evict needs pg_signal_backend or the holder's own role.
//
// No error, log line or observer carries a value of a document or a patch, nor
// what the server says that could quote one. Names of tables and constraints do
// appear, and so do ids and names of keys, quoted where they do not print. Every
// string that reaches SQL is a parameter, except names of schemas, tables and
// columns, which are quoted in one place.
//
// # Caveats
//
// What is promised is promised by the primary server. A failover loses locks,
// and tells so. Of the merges that were acknowledged it keeps what its
// replication has kept: with asynchronous replication the last ones can be gone,
// with synchronous_commit = on and synchronous_standby_names set they are not.
// With synchronous_commit = off a crash may lose the last ones, with fsync = off
// anything. Fences grow across a crash, and across a failover as far as their
// transactions were replicated.
//
// A process that is stopped or cut off can not know that its lock is lost. What
// it merges then is refused; what it does elsewhere needs a fence.
package lockstore
