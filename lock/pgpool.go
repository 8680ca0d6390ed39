package lock

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"example.com/lockstore/internal/pgdb"
)

// A peer is a session's client, as the server sees it. Over a unix socket it has no address.
type peer struct {
	host string
	port int
}

// isClientOf reports whether conn leads to the server itself, and not to a program that
// connects to it.
func (p peer) isClientOf(conn net.Conn) bool {
	switch here := conn.LocalAddr().(type) {
	case *net.TCPAddr:
		return p.port == here.Port && p.host == here.AddrPort().Addr().Unmap().WithZone("").String()
	case *net.UnixAddr:
		return p == peer{} && isListener(conn, "postgres")
	}
	return false
}

// refusePgpool refuses Pgpool-II, which sends a statement to the server of its choice. The
// process id that it announces is that of one of its servers, and can be that of the one which
// has answered. But Pgpool-II alone knows its version. A server would log an error for the
// question, so it is asked only if something stands in between. (Pgpool-II documentation, SHOW
// POOL_VERSION.)
func refusePgpool(ctx context.Context, conn *pgx.Conn, client peer) error {
	if client.isClientOf(conn.PgConn().Conn()) {
		return nil
	}
	_, err := conn.PgConn().Exec(ctx, "SHOW pool_version").ReadAll()
	var refused *pgconn.PgError
	switch {
	case err == nil:
		return fmt.Errorf("%w: pgpool-II stands before the server, and sends locks to the server of its choice; connect to the primary directly", ErrUnsupported)
	case errors.As(err, &refused):
		return nil
	}
	return pgdb.Clean(err)
}
