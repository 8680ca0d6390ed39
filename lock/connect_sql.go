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

// A sqlOpener takes connections out of a database/sql pool, which alone knows how the
// host connects. The pool is told that they are gone, and has their places for others.
type sqlOpener struct {
	db     *sql.DB
	config atomic.Pointer[pgx.ConnConfig] // of the connection that was taken last
}

// open gets by with the configuration of an earlier connection where the pool has none to
// spare. Should that be no good any more, it waits for one of the pool after all.
func (o *sqlOpener) open(ctx context.Context, p *Postgres, spare bool) (*session, error) {
	brief, cancel := ctx, context.CancelFunc(func() {})
	if o.config.Load() != nil {
		brief, cancel = context.WithTimeout(ctx, time.Second)
	}
	defer cancel()
	s, err := o.take(brief, p, spare)
	config := o.config.Load()
	if err == nil || config == nil || brief.Err() == nil && !errors.Is(err, errInUse) {
		return s, err
	}
	conn, err := pgdb.Connect(ctx, config.Copy())
	if s, err = openOn(ctx, conn, err, p, spare); err == nil {
		return s, nil
	}
	return o.take(ctx, p, spare)
}

// take passes over connections of the pool that turn out to be dead, of which there are
// no more than idle ones.
func (o *sqlOpener) take(ctx context.Context, p *Postgres, spare bool) (*session, error) {
	for idle := o.db.Stats().Idle; ; idle-- {
		conn, err := o.db.Conn(ctx)
		if err != nil {
			return nil, err
		}
		s, err := o.takeOver(ctx, conn, p, spare)
		if err == nil || idle <= 0 || !pgdb.Unavailable(err) {
			return s, err
		}
	}
}

// takeOver makes a session of a connection, unless that has locks of the host's or is none
// of pgx's.
func (o *sqlOpener) takeOver(ctx context.Context, conn *sql.Conn, p *Postgres, spare bool) (s *session, err error) {
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
			s, err = hijack(ctx, conn, p, spare)
		}
		return driver.ErrBadConn // it is the pool's no longer
	})
	if s == nil {
		err = cmp.Or(err, raw)
	}
	return s, err
}

// errInUse says that a connection of the pool is left to the host.
var errInUse = errors.New("an idle connection has advisory locks")

// hasLocksSQL asks whether a session has advisory locks: see statusSQL.
const hasLocksSQL = "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks AS l" +
	" WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid())"
