// Package metadata keeps JSON documents in PostgreSQL that many goroutines and
// many processes change at once, by merge patches (RFC 7396), and loses none
// of their changes.
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
// The documents are in a table of the store's own, which [Postgres.Migrate]
// creates, or in a jsonb column that the host has already: see [Table].
// [Postgres.Check] tells, at start-up say, what is not as it should be there. A
// [Memory] stands in for the database in unit tests.
//
// # Writing
//
// [Postgres.Merge] sends one statement, which takes the document's lock, merges and
// commits. Merges of one document that arrive while one is on its way share the next
// commit, in the order of their arrival, so that a document under fire takes more
// merges per second and not fewer; each caller gets the version and the document after
// its own patch, and a patch that fails, fails alone. A commit that follows another
// builds on what that has left: it stores the document, in one round trip, if that is
// the same still, and else looks again. One whose connection is late is overtaken by
// those behind it: to have one merge come before another, wait for its answer. Merges
// of different documents that have to wait for a connection share a commit, too: the
// next one who has it takes them along. [Postgres.Update] reads, decides and patches;
// it shares commits, too, as do [Postgres.Replace], [Postgres.Delete], and the writes
// of the views of [Postgres.IfVersion] and [Postgres.Privileged]: each is made of the
// document as the one before has left it. [Postgres.MergeMany] is built on the same,
// and [Postgres.In] does it within the host's own transaction.
//
// # Repeating
//
// [ErrUnknownOutcome], a timeout or a process that was killed leave a client without
// knowledge of what became of its write, and to make it again could undo what others have
// written since, or count twice. With a token it can be repeated, by any process, until it
// is told: see [Postgres.Once], which takes a [Table].Tokens. The token is stored by the
// statement that stores the document; it is found there again, or else by the unique index
// of the tokens. [Memory.Once] is the same.
//
// # Watching
//
// [Postgres.Watch] tells what documents are, and then what becomes of them, whoever changes
// them. It costs a commit nothing: hints go out after it, apart from it, and only while
// somebody watches. A process that watches has one connection for that. One that writes asks
// once a second, behind a commit and in its round trip, whether anybody does, and has such a
// connection, too, while that is so. Hints can be lost; what they do not tell is found by
// comparing all that is watched, in one statement.
//
// # Security
//
// Writes that share a commit or a connection, and Gets that share a statement, are made
// with the rights that one of their callers has in the database. If that is the same for all, as with most hosts,
// nothing has to be done. If the host tells the server who the caller is, as is done
// for row-level security, then:
//
//   - A *pgxpool.Pool with PrepareConn or BeforeAcquire shares nothing: each write
//     and each Get has a connection of its own, acquired with its own context. Set
//     [Options].Principal to have those of each tenant, or user, share again.
//   - Other ways cannot be seen, and need Principal: database/sql's ResetSession (let
//     it return driver.ErrBadConn when it fails, as database/sql heeds no other
//     error), a pgxpool behind database/sql, and tracers that run SQL. Before such a
//     pool, database/sql must neither keep idle connections nor have a maximum of open
//     ones: it hands those on without the pool's hooks.
//   - Principal must tell apart all that the hook does: callers for whom it returns
//     the same read and write with each other's rights.
//
// Other reads, a Get under a hold, and [Postgres.MergeMany] use a connection of their own
// caller's, and [Postgres.In] the host's. What is watched is read once for all callers who
// would share a commit, with the context of one of them. A shared commit or read is sent with
// the values, but neither the deadline nor the cancellation, of one of the callers'
// contexts: tracers, a [CommitObserver] and a Logger see that one.
//
// # Locks
//
// Every document has a lock, [Postgres.Key], which each write takes for the
// time of its commit. Whoever takes it through a [lock.Locker] keeps writers
// out for as long as he likes: they wait by [Options].Backoff, on no
// connection, until their context ends, and fail with [lock.ErrBusy] then. His
// own writes go through when they are given the context of his tenure
// ([lock.Held.Bind], [lock.Do]). A write under a tenure that has been lost is
// refused with [lock.ErrLost], by the server, which knows who holds the lock.
//
// A write is as good as every hold that its context carries, and so are those of a leader:
// it is stored only if each of them is still held, in the database of the store, and whoever
// has one of those keys alone next begins after it. One whose end is known, or that is held
// elsewhere, has the write refused. A write that is to be made regardless of a hold is given
// a context that does not carry it.
//
// Reads with this context are proved in the same way: what Get, GetMany, Find and Update
// return was read where the lock is held.
//
// # Several servers
//
// Behind a load balancer, or after a failover, connections of the pool may lead to a
// standby, a former primary, or another database. One that shows to do so is closed, as
// it cannot write, or does not know the lock that the context carries; the operation is
// made on another, until as many have been tried as the pool can have. The error is then
// one that matches [ErrWrongServer], and says what has shown it. In the host's own
// transaction there is no other connection.
//
// A commit that the server makes without its synchronous standby, as somebody has
// cancelled the wait for that, is [ErrUnknownOutcome]. The server says so by a warning,
// which must not be switched off (client_min_messages); where the host commits, as with
// [Postgres.In], it is the host's to heed.
//
// What is read without a lock may come from a standby that lags behind. To read what one
// has written, or seen, ask for its version: [AtLeast]. A standby that does not have it
// yet fails with [ErrStale], upon which the host asks again after a while, or a store
// on a pool that leads to the primary.
//
// # Observers
//
// [Options].Observers are told of every operation and every commit, with a beginning and an
// end each, and [Postgres.Stats] counts them. [ErrorType] names what an operation failed of.
// The modules otelstore and promstore, below this package, make OpenTelemetry's traces and
// Prometheus' metrics of that, and of what package lock tells.
//
// # Limits
//
// What callers pass on can be whatever somebody sent them. [Options] bound it:
//
//   - A patch, or a document to store, has at most MaxPatchBytes, and MaxDepth levels.
//     [ErrTooLarge] and [ErrInvalidPatch] say so, with the path; [ErrMalformed], that
//     it is not JSON at all.
//   - A document has at most MaxDocumentBytes. The write that would make it larger
//     fails with a [*DocumentSizeError], which matches [ErrTooLarge] but not
//     [ErrInvalidPatch]: the patch may do for another document.
//   - What waits for one document has at most MaxWaitingBytes. Who comes next fails
//     with [lock.ErrBusy] at once.
//
// What a write takes in time and memory grows with the sizes of patch and document,
// whatever their shape. A patch is kept as text, little longer than it was; it waits
// so, and is applied as it is read once more. One that is dear to the database (more
// than 64 KiB, or 64 objects and nulls, or 4 levels of objects) is merged in Go, as with
// MergeInGo, and shares no statement with patches for other documents.
//
// # Drivers
//
// Over database/sql, pgx's driver is used as pgx is, also below a driver around it that
// shows what it wraps (by Raw, WrappedConn, Unwrap or Conn, as otelsql and Datadog's do):
// what the store sends then goes past that one, and is traced by pgx's tracers alone. The
// answer to a commit is read with pgproto3's Frontend.Trace, which ends one of the host's
// on that connection; its OnNotice is called as before. Other drivers, lib/pq and bun's pgdriver among them, are used by what database/sql defines:
//
//   - A connection is asked a question before it is used, as nothing else tells that the
//     server has ended it, and statements go one to a round trip.
//   - What is not known to be unsent is [ErrUnknownOutcome], driver.ErrBadConn included,
//     which drivers also return for what the server has carried out. Nothing is sent again.
//   - A [*RejectedError] names the constraint where the driver's error has a method Get or
//     Field for the protocol's fields; its SQLSTATE alone where it has a method SQLState.
//   - The driver must heed contexts for [Options].Timeout to bound a statement. lib/pq has
//     the server cancel it, and waits for the answer: where networks hang, for as long as
//     the connection that its Dialer makes does.
//   - standard_conforming_strings must be on, as the driver may write values into the SQL.
//   - ResetSession is called each time, by database/sql and once more by the store.
//   - There are no hints for who watches, nor by who writes, but with [Options].Connect.
//     The comparison finds the changes.
//   - The server's notices cannot be seen: where somebody cancels the wait for a synchronous
//     standby, a write that this may not have reached counts as made.
//
// What a host has set of the driver (simple protocol, binary_parameters) cannot be seen,
// and need not be.
//
// # Caveats
//
// Nothing but writes by a store respects the lock. A hand-written UPDATE is
// not lost either, since the row is locked while a patch is merged, but it
// does not wait for a lock's holder, and counts as no version.
//
// Constraints and triggers see the document once per commit. Where they must
// see it after every patch, set [Options].MaxBatch to 1.
//
// Once a write has been sent its caller waits for the outcome, also when its
// context ends: at most for [Options].Timeout per statement. This is how a
// nil error, or one that is not [ErrUnknownOutcome], can be relied on.
//
// Behind PgBouncer in transaction mode everything works, with statements
// prepared as the pooler allows: before version 1.21, set pgx's
// default_query_exec_mode to exec. With simple_protocol, which works, too, ids and
// patches are part of a statement's text, which pg_stat_activity and the server's log
// show.
//
// Documents are jsonb: the order of keys is PostgreSQL's, numbers keep every
// digit but not their exponents, and U+0000 cannot be stored. A database whose encoding
// is not UTF8, or a pool with another client_encoding, is refused with [ErrUnsupported].
package metadata
