package pgdb

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql/driver"
	"errors"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
)

// Unavailable reports whether err says that the server could not be reached or has ended
// the connection: a failure that may be temporary and does not depend on the statement. A
// server that answers and refuses (a password, a database that does not exist) is not
// unavailable. Neither is one that did not answer before the caller's context ended.
func Unavailable(err error) bool {
	if code := Code(Clean(err)); code != "" {
		return unavailableCodes[code] || classOf(code) == "08"
	}
	var refused *pgconn.ConnectError
	var network net.Error
	switch {
	case isUntrusted(err), errors.Is(err, context.Canceled):
		return false
	case errors.As(err, &refused), errors.As(err, new(unconnected)):
		return true
	case errors.Is(err, context.DeadlineExceeded): // a net.Error, too
		return false
	}
	return errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, driver.ErrBadConn) || errors.Is(err, pgconn.ErrConnClosed)
}

// unconnected is the error of a driver that could not connect, for an unknown reason.
type unconnected struct{ error }

func (u unconnected) Unwrap() error { return u.error }

// isUntrusted reports whether the server's certificate was rejected.
func isUntrusted(err error) bool {
	return errors.As(err, new(*tls.CertificateVerificationError)) || errors.As(err, new(x509.UnknownAuthorityError)) ||
		errors.As(err, new(x509.HostnameError)) || errors.As(err, new(x509.CertificateInvalidError))
}

// unavailableCodes are the SQLSTATEs, besides class 08, of servers that accept no connection
// at the moment or have ended one (PostgreSQL documentation, Appendix A).
var unavailableCodes = map[string]bool{
	"53300": true, // too_many_connections
	"57P01": true, // admin_shutdown
	"57P02": true, // crash_shutdown
	"57P03": true, // cannot_connect_now
	"57P05": true, // idle_session_timeout
}
