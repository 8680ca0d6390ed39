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
// # Caveats
//
// What is promised is promised by the primary server: a failover loses locks,
// and tells so, and keeps the merges that its replication has kept.
//
// An advisory lock is no authorization. Whoever can connect to the database can
// take every key; and whoever can write the table need not ask this module.
package lockstore
