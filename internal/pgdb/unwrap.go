package pgdb

import (
	"database/sql/driver"

	"github.com/jackc/pgx/v5"
)

// Unwrap returns pgx's connection in the driver connection of [database/sql.Conn.Raw], which
// may be wrapped by other drivers, for example for tracing. It returns nil if there is none,
// or if a wrapper does not expose it.
func Unwrap(conn any) *pgx.Conn {
	for range mostWrappers {
		switch c := conn.(type) {
		case interface{ Conn() *pgx.Conn }: // pgx's stdlib
			return c.Conn()
		case interface{ Raw() driver.Conn }: // XSAM/otelsql
			conn = c.Raw()
		case interface{ WrappedConn() driver.Conn }: // Datadog
			conn = c.WrappedConn()
		case interface{ Unwrap() driver.Conn }:
			conn = c.Unwrap()
		case interface{ Conn() driver.Conn }:
			conn = c.Conn()
		default:
			return nil
		}
	}
	return nil
}

// mostWrappers limits the depth: a wrapper may return itself.
const mostWrappers = 16
