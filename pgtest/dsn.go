package pgtest

import (
	"net"
	"net/url"
	"strconv"
)

// A DSN has two forms, the URL and a list of keywords, and in a list the last of
// a keyword counts.

// inDatabase is the DSN with another database.
func inDatabase(dsn, database string) string {
	u, ok := asURL(dsn)
	if !ok {
		return dsn + " dbname=" + database
	}
	q := u.Query()
	q.Del("dbname")
	u.Path, u.RawQuery = "/"+database, q.Encode()
	return u.String()
}

// atAddress is the DSN with another host and port.
func atAddress(dsn string, addr *net.TCPAddr) string {
	u, ok := asURL(dsn)
	if !ok {
		return dsn + " host=" + addr.IP.String() + " port=" + strconv.Itoa(addr.Port)
	}
	q := u.Query()
	q.Del("host")
	q.Del("port")
	u.Host, u.RawQuery = addr.String(), q.Encode()
	return u.String()
}

func asURL(dsn string) (*url.URL, bool) {
	u, err := url.Parse(dsn)
	return u, err == nil && (u.Scheme == "postgres" || u.Scheme == "postgresql")
}
