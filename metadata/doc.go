// Package metadata stores JSON documents in PostgreSQL. Many goroutines and many processes
// can change one document at once, by merge patches (RFC 7396), and no change is lost.
//
//	store, err := metadata.NewPostgres(pool, nil) // a *pgxpool.Pool, *sqlx.DB or *sql.DB
//	if err != nil {
//		return err
//	}
//	defer store.Close()
//	if err := store.Migrate(ctx); err != nil {
//		return err
//	}
//	doc, err := store.Merge(ctx, userID, json.RawMessage(`{"plan":"pro","trial":null}`))
//
// The documents are in a table of the store's own, which [Postgres.Migrate] creates, or in a
// jsonb column that the host, the application around the store, has already: see [Table].
// [Postgres.Check] reports, at start-up for instance, what is wrong with the table. A
// [Memory] takes the place of the database in unit tests.
//
// # What to use
//
//   - Partial update, PATCH: [Postgres.Merge]; [MergeValue] merges a Go value, and [MergePatch]
//     needs no store. There is no JSON Patch (RFC 6902).
//   - Upsert: Merge and [Postgres.Replace] create a missing document in the default table, and
//     in one with [Table].Create. Elsewhere they fail with [ErrNotFound].
//   - Read-modify-write, counter, increment, append: [Postgres.Update]. A merge patch replaces
//     numbers and arrays whole, and there is no operator that adds to them.
//   - Compare-and-swap, optimistic locking, ETag and If-Match: [Postgres.IfVersion], which
//     fails with [ErrConflict]. The ETag is [Document].Version.
//   - Pessimistic locking: [lock.Do] with [Postgres.Key]. See Locks.
//   - Retries, idempotency keys, exactly once: [Postgres.Once] in [backoff.Retry]. See Retries.
//   - Several documents, or documents and other rows, in one transaction: [Postgres.In].
//   - Bulk: [Postgres.MergeMany] and [Postgres.GetMany]. Each merge succeeds or fails by itself.
//   - List, query, pagination: [Postgres.Find] with nil yields all documents in the order of
//     their ids, page by page. With a JSON value it yields those that contain it. For any other
//     condition, query the table in SQL.
//   - Subscribe, change feed: [Postgres.Watch]. It yields states, not events: a slow reader
//     misses states in between.
//   - Expiry, TTL: there is none, as the store has no background job that would delete. Keep
//     the time in the document, compare it on reading, and let a job of the host's delete what
//     is old: store.IfVersion(version).Delete(ctx, id) spares a document that was changed
//     meanwhile. Only the tokens of Once expire.
//   - History, audit: the table has the last state only, and its version number. Write a row
//     of a table of your own beside each write with [Postgres.In], or have a trigger do it
//     ([Table] has an example). A trigger sees a document once per commit; with
//     [Options].MaxBatch of 1, after each write.
//   - Tenants: a store for each, with [Table].Scope; or row-level security: see Security.
//   - Read replicas: [AtLeast]. See Several servers.
//   - Metrics, traces, logs: [Options].Observers, [Postgres.Stats], [Options].Logger.
//   - Protected keys that users may not change: [Options].Protect and [Postgres.Privileged].
//
// # Writing
//
// [Postgres.Merge] sends one statement, which takes the document's lock, merges and commits.
// Merges of one document that arrive while another is on its way share the next commit (group
// commit), in the order of their arrival. So a busy document takes more merges per second, not
// fewer. Each caller gets the version and the document after its own patch. A patch that
// fails, fails alone.
//
// A commit that follows another builds on the document that the other has left. It stores the
// result, in one round trip, if that document is still the same, and otherwise reads it again.
// Merges whose connection is late are overtaken by those behind them: to have one merge come
// before another, wait for its answer.
//
// Merges of different documents that have to wait for a connection share a commit, too: the
// next of them that gets a connection commits for all.
//
// [Postgres.Update] reads, decides and patches. Updates share commits in the same way, as do
// [Postgres.Replace], [Postgres.Delete], and the writes of the views of [Postgres.IfVersion]
// and [Postgres.Privileged]: each is applied to the document as the write before has left it.
// [Postgres.MergeMany] is built on the same, and [Postgres.In] writes in the host's own
// transaction. Transactions that write several documents should do it in the same order, by id
// for instance, as they can wait for each other otherwise.
//
// # Timeouts and cancellation
//
// The context of a call bounds its waiting: for the document's lock, for other writes and for
// a connection. Without a deadline, only cancellation, [Postgres.Close] or
// [Options].Backoff ends the wait for the lock; the default policy never does. If the context
// ends before the write is sent, nothing is written, and the error matches that of
// the context; also [lock.ErrBusy], where the document's lock was found taken.
//
// Once a write has been sent, the end of the context does not interrupt it: the call returns
// with the outcome, at most [Options].Timeout per statement later. So nil means that the write was
// made, and [ErrUnknownOutcome] that it may have been made. Any other error, also the context's,
// means that it was not.
//
// # Retries
//
// After [ErrUnknownOutcome], a timeout or a crash a client does not know whether its write was
// made. To make it again could undo what others have written since, or count twice. With a
// token, the same from the first try on, it can be repeated, by any process, until the answer
// arrives: see [Postgres.Once], which needs a [Table].Tokens. The statement that stores the
// document stores the token, too. A repetition finds the token, and does not write again. If two
// run at once, the unique index of the tokens lets one of them write, and the other repeats it.
// [Memory.Once] does the same.
//
// [ErrUnavailable], [ErrWrongServer], [ErrStale], [lock.ErrBusy] and the error of a context say
// that nothing was written, unless they match [ErrUnknownOutcome], too. What was not written can
// be retried without a token. Of MergeMany that holds for each Result.Err,
// not for the error of the call.
//
// # Watching
//
// [Postgres.Watch] yields documents as they are, and then as they become, whoever changes
// them. It does not slow down commits: hints (NOTIFY) are sent after a commit, apart from it,
// and only while some process watches. A process that watches has one connection for hints. A
// process that writes asks once a second, behind a commit and in its round trip, whether any
// other watches, and has such a connection, too, while that is so. Hints can be lost; one
// statement that compares all watched documents finds what they have missed.
//
// # Errors and HTTP statuses
//
// A service can answer with these, asked for in this order, as some errors match several:
//
//	504   ErrUnknownOutcome             made or not: repeat it with its token; also 500
//	503   ErrUnavailable, ErrWrongServer, ErrStale, ErrClosed
//	                                    nothing was done; try later
//	503   lock.ErrLost                  the hold of the write's context ended before it
//	400   ErrMalformed, ErrInvalidID, ErrInvalidToken
//	413   ErrTooLarge                   the patch, or the document that it would make
//	422   ErrInvalidPatch, ErrInvalidFilter
//	422   ErrRejected                   by SQLState: 409 for 23505 (unique index),
//	                                    403 for 42501 (privilege, row-level security)
//	422   ErrTokenReused
//	403   ErrProtected
//	404   ErrNotFound
//	412   ErrConflict                   409 where the client has sent no If-Match
//	423   lock.ErrBusy                  the document is locked, or too much waits for it;
//	                                    also 409, or 429
//	504   context.DeadlineExceeded      nothing was written; context.Canceled: the client is gone
//	500   ErrSchema, ErrUnsupported, ErrSharedHold and all others
//
// examples/userapi/problem.go has it as code. [ErrorType] gives a short name to each, for
// metrics and logs.
//
// # Security
//
// Writes that share a commit or a connection, and Gets that share a statement, run with the
// rights that one of their callers has in the database. If all callers have the same rights
// there, as with most hosts, nothing has to be done. If the host tells the server who the
// caller is, as row-level security by tenant or user needs it, then:
//
//   - A *pgxpool.Pool with PrepareConn or BeforeAcquire shares nothing: each write and each
//     Get has a connection of its own, acquired with its own context. Set [Options].Principal
//     to let those of each tenant, or user, share again.
//   - The store cannot see other ways, and they need Principal: database/sql's ResetSession
//     (let it return driver.ErrBadConn when it fails, as database/sql heeds no other error), a
//     pgxpool behind database/sql, and tracers that run SQL. In front of such a pool,
//     database/sql must neither keep idle connections nor have a maximum of open ones: it
//     hands those on without the pool's hooks.
//   - Principal must distinguish all that the hook does: callers for which it returns the same
//     value read and write with each other's rights.
//
// Other reads, a Get under a hold, and [Postgres.MergeMany] use a connection of their own
// caller, and [Postgres.In] that of the host's transaction. Watched documents are read once for
// all callers who would share a commit, with the context of one of them. A shared commit or
// read is sent with the values of one caller's context, but with neither its deadline nor its
// cancellation: tracers, a [CommitObserver] and a Logger see that context.
//
// # Locks
//
// Every document has a lock, [Postgres.Key], which each write takes for the time of its
// commit. While a caller holds it through a [lock.Locker], other writers wait, on no
// connection and as often as [Options].Backoff says, until their context ends, and then fail
// with [lock.ErrBusy]:
//
//	err = lock.Do(ctx, locker, store.Key(userID), func(ctx context.Context) error {
//		... // nobody else writes the document
//		_, err := store.Merge(ctx, userID, patch) // with this ctx, which carries the hold
//		return err
//	})
//
// The holder's own writes go through if they have the context of the hold ([lock.Do],
// [lock.Held.Bind]). A write under a hold that has been lost is refused with [lock.ErrLost], by
// the server, which knows who holds the lock.
//
// A write is stored only if every hold that its context carries, also that of a leader
// ([lock.Lead]), is still held in the database of the store. The next exclusive holder of each
// of those keys begins after the write. If one of the holds is known to have ended, or is held
// elsewhere, the write is refused. To write regardless of a hold, use a context that does not
// carry it.
//
// Reads with such a context are proved in the same way: what Get, GetMany, Find and Update
// return was read where the lock is held.
//
// # Several servers
//
// Behind a load balancer, or after a failover, connections of the pool may lead to a standby, a
// former primary, or another database. A connection that turns out to do so is closed, as it
// cannot write, or does not know the lock that the context carries. The operation is tried on
// another connection, for as many as the pool has, and four at least. Then the error matches
// [ErrWrongServer], and says what was found. The host's own transaction has no other
// connection.
//
// If a synchronous standby's confirmation is not awaited, because the wait was canceled, the
// commit is [ErrUnknownOutcome]. The server reports it by a warning, which must not be
// switched off (client_min_messages). Where the host commits, as with [Postgres.In], the host
// has to heed it.
//
// A read without a lock may be answered by a standby that lags behind. To read what one has
// written, or seen, ask for its version: [AtLeast]. A standby that does not have it yet fails
// with [ErrStale]; then ask again later, or use a store on a pool that leads to the primary.
//
// # Observers
//
// [Options].Observers are called at the beginning and the end of every operation and every
// commit, and [Postgres.Stats] counts them. [ErrorType] names the kind of a failure. The
// modules otelstore and promstore, below this package, make OpenTelemetry traces and
// Prometheus metrics of that, and of what package lock reports.
//
// # Limits
//
// Patches and ids can come from anywhere. [Options] limit them:
//
//   - A patch, or a document to store, has at most MaxPatchBytes, and MaxDepth levels. The
//     errors, with the path, are [ErrTooLarge] and [ErrInvalidPatch]; [ErrMalformed] says
//     that it is not JSON at all.
//   - A document has at most MaxDocumentBytes. The write that would make it larger fails with
//     a [*DocumentSizeError], which matches [ErrTooLarge] but not [ErrInvalidPatch]: the patch
//     may suit another document.
//   - The writes that wait for one document have at most MaxWaitingBytes. The next one fails
//     with [lock.ErrBusy] at once.
//
// The time and memory that a write takes grow with the sizes of patch and document, whatever
// their shape. A patch is kept as text, little longer than it was, while it waits, and is
// applied as it is read once more. A patch that is expensive for the database (more than
// 64 KiB, or 64 objects and nulls, or 4 levels of objects) is merged in Go, as with MergeInGo,
// and shares no statement with patches for other documents.
//
// # Migrations
//
// [Postgres.Migrate] creates what is missing, and changes nothing that exists. A host with a
// migration tool runs the SQL of [Table.DDL] there. Tools that split files at semicolons have
// to be told not to, as it contains DO blocks: for goose, put it between
// -- +goose StatementBegin and -- +goose StatementEnd.
//
// The table's schema has one function of the store's, lockstore_merge_patch. Hosts that may
// not create functions set [Options].MergeInGo. A release that needs another function gives it
// another name, so that both releases can run at once: run Migrate, or the new DDL's up, before
// the new release. The down of such a migration stays empty, as that of DDL drops the default
// table with all its documents. Nothing removes the old function; drop it when no process of
// the old release is left. [Postgres.Check] reports if the function of this release's name is
// not this release's.
//
// # Shutdown
//
// Close in this order: the server, so that no requests are left; the store ([Postgres.Close]),
// which waits for the writes under way; the locker; the pool, which the store does not close.
//
// # Drivers
//
// Over database/sql, pgx's driver is used as pgx itself is. That holds also below a driver
// that wraps it and shows it (by Raw, WrappedConn, Unwrap or Conn, as otelsql and Datadog's
// do): the store's statements then bypass the wrapper, and only pgx's own tracers see them. The
// store reads the answer to a commit with pgproto3's Frontend.Trace, which ends a trace of the
// host's on that connection; the connection's OnNotice is called as before.
//
// Other drivers, lib/pq and bun's pgdriver among them, are used through what database/sql
// defines:
//
//   - The store sends a query on a connection before it uses it, as nothing else shows that
//     the server has ended the connection. Each statement takes a round trip.
//   - A write that gets no answer from the server fails with [ErrUnknownOutcome], unless it
//     is known that nothing was sent. So does one with driver.ErrBadConn, which drivers also
//     return for what the server has carried out. Nothing is sent again.
//   - A [*RejectedError] names the constraint if the driver's error has a method Get or Field
//     for the protocol's fields, and only its SQLSTATE if it has a method SQLState.
//   - The driver must heed contexts for [Options].Timeout to bound a statement. lib/pq has the
//     server cancel it, and waits for the answer: if the network hangs, for as long as the
//     connection that its Dialer makes does.
//   - standard_conforming_strings must be on, as the driver may write values into the SQL.
//   - ResetSession is called each time, by database/sql and once more by the store.
//   - There are no hints to watchers nor by writers, unless [Options].Connect is set.
//     Comparisons find the changes.
//   - The server's notices cannot be seen. If a wait for a synchronous standby is canceled, a
//     write that the standby may not have counts as made.
//
// The store cannot see how the host has set up the driver (simple protocol,
// binary_parameters), and need not.
//
// # Caveats
//
// Only writes by a store respect the lock. A hand-written UPDATE is not lost either, as the
// row is locked while a patch is merged. But it does not wait for the holder of a lock, and
// does not increment the version.
//
// Constraints and triggers see the document once per commit. If they must see it after every
// patch, set [Options].MaxBatch to 1.
//
// Behind PgBouncer in transaction mode everything works, with statements prepared as the
// pooler allows: before version 1.21, set pgx's default_query_exec_mode to exec. With
// simple_protocol, which works, too, ids and patches are part of a statement's text, which
// pg_stat_activity and the server's log show. Hints need [Options].Connect, past the
// pooler; without it, comparisons find the changes. A [lock.Postgres] needs its own Connect.
//
// Documents are jsonb: the order of keys is PostgreSQL's, numbers keep every digit but not
// their exponents, and U+0000 cannot be stored. A database whose encoding is not UTF8, or a
// pool with another client_encoding, is refused with [ErrUnsupported].
package metadata
