package pgtest

import (
	"errors"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// errDSN tells nothing of what is in the DSN: pgx masks a password where it
// recognises one, and where a DSN is malformed it may not.
var errDSN = errors.New("not a connection URL or keyword=value list that can be used; it is not shown, as it may hold a password. " +
	"In a URL, characters such as @ / ? # % in the password are written as %40 %2F %3F %23 %25; files it names must be readable")

// settingName is what PostgreSQL takes for the name of a setting.
var settingName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.$]*$`)

// parse reads a DSN. It refuses those in which a part of the password has likely
// ended up in another place, such as the host's name, which errors show.
func parse(dsn string) (*pgx.ConnConfig, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, errDSN
	}
	for name := range cfg.RuntimeParams {
		if !settingName.MatchString(name) {
			return nil, errDSN
		}
	}
	if address, isURL := cutScheme(dsn); isURL {
		if _, ok := asURL(dsn); !ok {
			return nil, errDSN
		}
		address, _, _ = strings.Cut(address, "?")
		host, path, _ := strings.Cut(address, "/")
		if strings.Count(host, "@") > 1 || strings.Contains(path, "@") {
			return nil, errDSN
		}
	}
	return cfg, nil
}

func cutScheme(dsn string) (address string, ok bool) {
	address, ok = strings.CutPrefix(dsn, "postgres://")
	if !ok {
		address, ok = strings.CutPrefix(dsn, "postgresql://")
	}
	return address, ok
}

// A DSN has two forms, the URL and a list of keywords, and in a list the last of
// a keyword counts.

// inDatabase is the DSN with another database.
func inDatabase(dsn, database string) string {
	u, ok := asURL(dsn)
	if !ok {
		return dsn + " dbname=" + database
	}
	q := parameters(u)
	q.Del("dbname")
	u.Path, u.RawQuery = "/"+database, encode(q)
	return u.String()
}

// atAddress is the DSN with another host and port.
func atAddress(dsn string, addr *net.TCPAddr) string {
	u, ok := asURL(dsn)
	if !ok {
		return dsn + " host=" + addr.IP.String() + " port=" + strconv.Itoa(addr.Port)
	}
	q := parameters(u)
	q.Del("host")
	q.Del("port")
	u.Host, u.RawQuery = addr.String(), encode(q)
	return u.String()
}

// parameters are those of the URL, in which a plus sign is itself and no space.
func parameters(u *url.URL) url.Values {
	q, _ := url.ParseQuery(strings.ReplaceAll(u.RawQuery, "+", "%2B"))
	return q
}

func encode(q url.Values) string { return strings.ReplaceAll(q.Encode(), "+", "%20") }

func asURL(dsn string) (*url.URL, bool) {
	if _, ok := cutScheme(dsn); !ok {
		return nil, false
	}
	u, err := url.Parse(dsn)
	return u, err == nil
}
