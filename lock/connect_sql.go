package lock

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/lockstore/internal/pgdb"
)

// A sqlOpener takes connections out of a database/sql pool, which alone knows how the host
// connects. The pool is told that they are gone, and can replace them.
type sqlOpener struct {
	db     *sql.DB
	config atomic.Pointer[pgx.ConnConfig] // of the last connection taken
}

// open connects with the configuration of an earlier connection if the pool has none to spare.
// If that fails it waits for a connection of the pool after all.
func (o *sqlOpener) open(ctx context.Context, p *Postgres, isWaitConn bool) (*session, error) {
	brief, cancel := ctx, context.CancelFunc(func() {})
	if o.config.Load() != nil {
		brief, cancel = context.WithTimeout(ctx, time.Second)
	}
	defer cancel()
	s, err := o.take(brief, p, isWaitConn)
	config := o.config.Load()
	if err == nil || config == nil || brief.Err() == nil && !errors.Is(err, errInUse) {
		return s, err
	}
	conn, err := pgdb.Connect(ctx, config.Copy())
	if s, err = openOn(ctx, conn, err, p, isWaitConn); err == nil {
		return s, nil
	}
	return o.take(ctx, p, isWaitConn)
}

// take skips connections of the pool that turn out to be closed. Only idle ones can be, so it
// skips no more than there are of these.
func (o *sqlOpener) take(ctx context.Context, p *Postgres, isWaitConn bool) (*session, error) {
	for idle := o.db.Stats().Idle; ; idle-- {
		conn, err := o.db.Conn(ctx)
		if err != nil {
			return nil, err
		}
		s, err := o.takeOver(ctx, conn, p, isWaitConn)
		if err == nil || idle <= 0 || !pgdb.Unavailable(err) {
			return s, err
		}
	}
}

// takeOver makes a session of a connection, unless it has locks of the host's or is none of
// pgx's.
func (o *sqlOpener) takeOver(ctx context.Context, conn *sql.Conn, p *Postgres, isWaitConn bool) (s *session, err error) {
	defer conn.Close()
	raw := conn.Raw(func(c any) error {
		conn := pgdb.Unwrap(c)
		if conn == nil {
			err = fmt.Errorf("%w: the connections (%s) of database/sql driver %s show none of pgx's, which locks need; set PostgresOptions.Connect, to lock.ConnectTo(url) for instance", ErrUnsupported, pgdb.TypeName(c), pgdb.TypeName(o.db.Driver()))
			return nil
		}
		o.config.Store(conn.Config())
		locks := false
		if err = conn.QueryRow(ctx, hasLocksSQL, pgx.QueryExecModeExec).Scan(&locks); err == nil && locks {
			err = errInUse
			return nil
		}
		if err == nil {
			s, err = hijack(ctx, conn, p, isWaitConn)
		}
		return driver.ErrBadConn // so that the pool drops it
	})
	if s == nil {
		err = cmp.Or(err, raw)
	}
	return s, err
}

// errInUse means that a connection of the pool is left to the host.
var errInUse = errors.New("an idle connection has advisory locks")

// hasLocksSQL reports whether a session has advisory locks: see statusSQL.
const hasLocksSQL = "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks AS l" +
	" WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid())"
