// Package neighbour is a hostile neighbour: two roles in the same database, which attack other
// sessions in every way that PostgreSQL permits.
package neighbour

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/lockstore/internal/squatter"
)

// A Neighbour has two roles: the stranger, which can only connect, and one that may also create
// objects in the schema squatter.
type Neighbour struct {
	admin  *pgxpool.Pool
	suffix string // of the roles' names, because roles are shared by all databases
}

const password = "neighbour"

// MoveIn creates the neighbour's roles, and a schema with the names of PostgreSQL's and the
// store's objects; for search paths, see [squatter.Paths]. It needs a superuser's pool.
func MoveIn(ctx context.Context, admin *pgxpool.Pool) (*Neighbour, error) {
	n := &Neighbour{admin: admin}
	if err := admin.QueryRow(ctx, "SELECT '_' || oid FROM pg_database WHERE datname = current_database()").Scan(&n.suffix); err != nil {
		return nil, err
	}
	if err := squatter.Settle(ctx, admin); err != nil {
		return nil, err
	}
	for _, role := range []string{stranger, owner} {
		if _, err := admin.Exec(ctx, fmt.Sprintf("CREATE ROLE %s%s LOGIN PASSWORD '%s'", role, n.suffix, password)); err != nil {
			return nil, err
		}
	}
	_, err := admin.Exec(ctx, fmt.Sprintf(`GRANT CREATE ON SCHEMA squatter TO %s%s;
		GRANT USAGE ON SCHEMA squatter TO PUBLIC;
		GRANT ALL ON ALL TABLES IN SCHEMA squatter TO PUBLIC;
		GRANT ALL ON ALL SEQUENCES IN SCHEMA squatter TO PUBLIC`, owner, n.suffix))
	if err != nil {
		return nil, err
	}
	conn, err := n.connect(ctx, owner)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, storeSQL)
	return n, err
}

// MoveOut drops the roles and what they own.
func (n *Neighbour) MoveOut(ctx context.Context) error {
	for _, role := range []string{stranger, owner} {
		if _, err := n.admin.Exec(ctx, fmt.Sprintf("DROP OWNED BY %[1]s%[2]s; DROP ROLE %[1]s%[2]s", role, n.suffix)); err != nil {
			return err
		}
	}
	return nil
}

// Attack repeats one attack until ctx ends, and returns how often.
func (n *Neighbour) Attack(ctx context.Context, a Attack) (times int, err error) {
	conn, err := n.connect(ctx, a.as)
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for ctx.Err() == nil {
		_, err := conn.Exec(ctx, a.sql)
		var refused *pgconn.PgError
		if err != nil && ctx.Err() == nil && !(errors.As(err, &refused) && refused.Code == lockNotAvailable) {
			return times, err
		}
		times++
		select {
		case <-ctx.Done():
		case <-time.After(a.rest):
		}
	}
	return times, nil
}

// lockNotAvailable is the SQLSTATE of a wait that lock_timeout ended.
const lockNotAvailable = "55P03"

// connect connects as one of the roles.
func (n *Neighbour) connect(ctx context.Context, role string) (*pgx.Conn, error) {
	config := n.admin.Config().ConnConfig
	config.User, config.Password = role+n.suffix, password
	return pgx.ConnectConfig(ctx, config)
}
