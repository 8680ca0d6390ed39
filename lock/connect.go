package lock

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jmoiron/sqlx"

	"example.com/lockstore/internal/pgdb"
)

// DB is the type of a host's database, for [NewPostgres].
type DB interface {
	*pgxpool.Pool | *sql.DB | *sqlx.DB
}

// ConnectTo returns a function for PostgresOptions.Connect that connects to url, or to
// anything else that [pgxpool.ParseConfig] takes. Files that url names, such as those of
// passwords, are read for each connection.
func ConnectTo(url string) func(context.Context) (*pgx.Conn, error) {
	return func(ctx context.Context) (*pgx.Conn, error) {
		config, err := pgxpool.ParseConfig(url)
		if err != nil {
			return nil, err
		}
		return pgdb.Connect(ctx, config.ConnConfig)
	}
}

// An opener opens a session for p: the one for its locks, or one to wait on. The connection
// does not count towards the host's pool, so a pool that is exhausted, even by callers that
// wait for a lock, cannot keep the locks from being served.
type opener func(ctx context.Context, p *Postgres, isWaitConn bool) (*session, error)

// openerOf returns an opener for a db that pgdb.Open has accepted. If connect is nil,
// connections are made as the host's are: to the same server, with the same configuration and
// hooks.
func openerOf(db any, connect func(context.Context) (*pgx.Conn, error)) opener {
	if connect == nil {
		switch db := db.(type) {
		case *sqlx.DB:
			return (&sqlOpener{db: db.DB}).open
		case *sql.DB:
			return (&sqlOpener{db: db}).open
		case *pgxpool.Pool:
			connect = func(ctx context.Context) (*pgx.Conn, error) { return pgdb.ConnectLike(ctx, db) }
		}
	}
	return func(ctx context.Context, p *Postgres, isWaitConn bool) (*session, error) {
		conn, err := connect(ctx)
		return openOn(ctx, conn, err, p, isWaitConn)
	}
}

// openOn makes a session of a connection, if err is nil.
func openOn(ctx context.Context, conn *pgx.Conn, err error, p *Postgres, isWaitConn bool) (*session, error) {
	if err != nil || conn == nil {
		return nil, cmp.Or(err, errNoConnection)
	}
	s, err := hijack(ctx, conn, p, isWaitConn)
	if err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	return s, nil
}

var errNoConnection = errors.New("PostgresOptions.Connect returned neither a connection nor an error")

// hijack makes a session of a connection. If it succeeds, conn can no longer be used.
func hijack(ctx context.Context, conn *pgx.Conn, p *Postgres, isWaitConn bool) (*session, error) {
	backend, at, err := prepare(ctx, conn, &p.opts)
	if err == nil {
		err = prepareOperations(ctx, conn, isWaitConn)
	}
	if err == nil && isWaitConn {
		err = prepareWaits(ctx, conn)
	}
	if err = cmp.Or(err, conn.PgConn().SyncConn(ctx)); err != nil {
		return nil, err
	}
	hijacked, err := conn.PgConn().Hijack()
	if err != nil {
		return nil, err
	}
	close(conn.PgConn().CleanupDone()) // a pool waits for that
	s := newSession(hijacked.Conn, backend, p.opts.Silence, isWaitConn, p)
	s.at = at
	return s, nil
}

// probeSQL reads what decides whether a session can hold locks, and what identifies it. It
// runs first, under the host's search_path (see statusSQL), and changes nothing, since a
// pooler may share the session with others.
const probeSQL = `SELECT a.pid, coalesce(` + startSQL + `, 0), pg_catalog.pg_is_in_recovery(),
	pg_catalog.current_setting('transaction_read_only')::boolean, pg_catalog.version(),
	coalesce(pg_catalog.host(pg_catalog.inet_client_addr()), ''), coalesce(pg_catalog.inet_client_port(), 0),
	a.datid::bigint, (extract(epoch FROM pg_catalog.pg_postmaster_start_time()) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint
FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()) AS a`

// beginSQL makes all that follows use PostgreSQL's own functions and operators, whatever there
// is in schemas of the host's search_path. It also undoes a LISTEN of the host's hooks: a
// session that listens has to read every notification of others before it does anything else.
const beginSQL = "SET search_path = pg_catalog, pg_temp; UNLISTEN *"

// setupSQL protects a session from defaults of the host that do not suit one that is idle most
// of the time. It makes fences outlive a crash of the server. Standbys are waited for
// elsewhere (see confirmSQL), as here all locks would wait for them.
//
// The server must keep a connection that has gone silent for longer than the client does ($1,
// in seconds), so that the holder knows first. Over a unix socket the tcp settings have no
// effect. (PostgreSQL documentation, 20.3.2 TCP Settings, 20.5.1 Write Ahead Log Settings,
// 20.11.1 Statement Behavior.)
const setupSQL = `SELECT set_config('idle_session_timeout', '0', false),
	set_config('statement_timeout', '0', false),
	set_config('exit_on_error', 'off', false),
	set_config('lock_timeout', $2, false),
	set_config('plan_cache_mode', 'force_generic_plan', false),
	set_config('lockstore.commit', current_setting('synchronous_commit'), false),
	set_config('synchronous_commit', 'local', false),
	set_config('tcp_keepalives_idle', greatest(1, $1::integer / 2)::text, false),
	set_config('tcp_keepalives_interval', ($1::integer - $1::integer / 2)::text, false),
	set_config('tcp_keepalives_count', '1', false),
	set_config('tcp_user_timeout', ($1::integer * 1000 - 100)::text, false),
	(SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'transaction_timeout')` // from 17 on

// prepare makes a new connection ready to be a session, or refuses it if its locks would
// exclude no other session.
func prepare(ctx context.Context, conn *pgx.Conn, o *PostgresOptions) (backend Backend, at database, err error) {
	var (
		started              int64
		recovering, readOnly bool
		version              string
		client               peer
	)
	err = conn.QueryRow(ctx, probeSQL, pgx.QueryExecModeExec).
		Scan(&backend.PID, &started, &recovering, &readOnly, &version, &client.host, &client.port, &at.oid, &at.since)
	if err != nil {
		return backend, at, pgdb.Clean(err)
	}
	backend.Start = startOf(started)
	switch {
	case strings.Contains(version, "CockroachDB"):
		return backend, at, fmt.Errorf("%w: CockroachDB's advisory locks do nothing", ErrUnsupported)
	case recovering:
		return backend, at, fmt.Errorf("%w: the server is a standby, whose locks exclude nobody; connect to the primary (target_session_attrs=read-write)", ErrUnsupported)
	case readOnly:
		return backend, at, fmt.Errorf("%w: the session is read-only; connect to the primary, or set default_transaction_read_only = off", ErrUnsupported)
	case backend.PID != conn.PgConn().PID() && !o.SessionPooler:
		return backend, at, fmt.Errorf("%w: a connection pooler stands before the server (it announced process %d, which is %d) and would strand locks; connect directly (PostgresOptions.Connect), or set SessionPooler if it is in session mode", ErrUnsupported, conn.PgConn().PID(), backend.PID)
	}
	if err := refusePgpool(ctx, conn, client); err != nil {
		return backend, at, err
	}
	if err := conn.PgConn().Exec(ctx, beginSQL).Close(); err != nil {
		return backend, at, pgdb.Clean(err)
	}
	// Twice as long as the client waits, rounded up. An idle connection is probed after half
	// of that. It is kept for a moment less than it takes to wait for the answer
	// (tcp_user_timeout), so as not to just miss its end.
	patience := strconv.Itoa(int(2*o.Silence/time.Second) + 1)
	if _, err := conn.Exec(ctx, setupSQL, pgx.QueryExecModeExec, patience, strconv.FormatInt(waitSlice(o).Milliseconds(), 10)); err != nil {
		return backend, at, pgdb.Clean(err)
	}
	return backend, at, nil
}

// prepareOperations prepares the operations of a session. The statements of the session for
// locks begin with a mark by which others find it: see [questionPrefix].
func prepareOperations(ctx context.Context, conn *pgx.Conn, isWaitConn bool) error {
	var statements [][2]string
	mark := lockerMark
	if isWaitConn {
		mark = ""
	}
	for code, o := range slices.Backward(operations[:]) { // opRest is prepared last
		if code == int(opAnswer) {
			continue
		}
		statements = append(statements, [2]string{o.many, mark + "SELECT " + o.sql + ofKeys}, [2]string{o.one, mark + "SELECT " + o.sql + ofKey})
	}
	return prepareStatements(ctx, conn, statements)
}

// prepareStatements prepares statements, each given by a name and a text.
func prepareStatements(ctx context.Context, conn *pgx.Conn, statements [][2]string) error {
	prepares := conn.PgConn().StartPipeline(ctx)
	for _, s := range statements {
		prepares.SendPrepare(s[0], s[1], nil)
	}
	return pgdb.Clean(cmp.Or(prepares.Sync(), prepares.Close()))
}
