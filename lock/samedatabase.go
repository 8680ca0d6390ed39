package lock

import (
	"context"
	"fmt"
)

// poolSeesSQL reports whether a session is in the database, by its process id ($1) and its
// start ($2; 0: not known), as far as the server shows that: see statusSQL.
const poolSeesSQL = `SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_get_activity($1::bigint::int) AS a
	WHERE a.datid OPERATOR(pg_catalog.=) (` + databaseSQL + `)
	AND ($2::bigint OPERATOR(pg_catalog.=) 0::bigint OR (` + startSQL + ` OPERATOR(pg_catalog.=) $2::bigint) IS NOT FALSE))`

// poolSees reports whether the host's connections see the session that holds the locks, or
// whether there is none.
func (p *Postgres) poolSees(ctx context.Context) (seen bool, err error) {
	s := p.current()
	if s == nil {
		return true, nil
	}
	err = p.db.QueryRow(ctx, []any{&seen}, poolSeesSQL, int64(s.backend.PID), s.backend.started())
	return seen || p.current() != s, err // unless it was lost meanwhile
}

func (p *Postgres) current() *session {
	p.table.mu.Lock()
	defer p.table.mu.Unlock()
	return p.session
}

// sameDatabase fails if Connect leads to another database than the host's pool.
func (p *Postgres) sameDatabase(ctx context.Context) error {
	if p.opts.Connect == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, p.opts.ConnectTimeout)
	defer cancel()
	seen, err := p.poolSees(ctx)
	if err != nil {
		return fmt.Errorf("lock: ask the pool for the connection of PostgresOptions.Connect: %w", ofServer(err))
	}
	if !seen {
		return fmt.Errorf("%w: PostgresOptions.Connect leads to another database, or another server, than the pool", ErrUnsupported)
	}
	return nil
}
