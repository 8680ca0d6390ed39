package pgtest

import (
	"errors"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
)

// errDSN does not quote the DSN: pgx masks passwords, but may not recognize one in a
// malformed DSN.
var errDSN = errors.New("not a connection URL or keyword=value list that can be used; it is not shown, as it may hold a password. " +
	"In a URL, characters such as @ / ? # % in the password are written as %40 %2F %3F %23 %25; files it names must be readable")

// settingName matches the names that PostgreSQL accepts for settings.
var settingName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.$]*$`)

// parse parses a DSN. It rejects those in which a part of the password has probably ended
// up elsewhere, such as in the host's name, which errors show.
func parse(dsn string) (*pgxpool.Config, error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, errDSN
	}
	for name := range cfg.ConnConfig.RuntimeParams {
		if !settingName.MatchString(name) {
			return nil, errDSN
		}
	}
	if isURL(dsn) {
		return cfg, splitURL(dsn).check()
	}
	if backslashes := len(dsn) - len(strings.TrimRight(dsn, `\`)); backslashes%2 == 1 {
		return nil, errDSN // the last one would escape the space before an added keyword
	}
	return cfg, nil
}

// A DSN is a URL or a list of keyword=value. In a list, the last value of a keyword counts.

// inDatabase returns the DSN with another database.
func inDatabase(dsn, database string) string {
	if !isURL(dsn) {
		return dsn + " dbname=" + database
	}
	p := splitURL(dsn)
	p.path = "/" + database
	return p.without("dbname", "database").String()
}

// atAddress returns the DSN with another host and port.
func atAddress(dsn string, addr *net.TCPAddr) string {
	if !isURL(dsn) {
		return dsn + " host=" + addr.IP.String() + " port=" + strconv.Itoa(addr.Port)
	}
	p := splitURL(dsn)
	p.hosts = addr.String()
	return p.without("host", "port").String()
}

func isURL(dsn string) bool {
	return strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://")
}

// parts are the parts of a URL, still encoded. (net/url accepts neither several hosts nor
// a directory such as %2Ftmp as the host, and turns plus signs into spaces.)
type parts struct{ scheme, login, hosts, path, query string }

func splitURL(dsn string) (p parts) {
	p.scheme, dsn, _ = strings.Cut(dsn, "://")
	if i := strings.IndexAny(dsn, "@/?"); i >= 0 && dsn[i] == '@' {
		p.login, dsn = dsn[:i+1], dsn[i+1:]
	}
	dsn, p.query, _ = strings.Cut(dsn, "?")
	if i := strings.IndexByte(dsn, '/'); i >= 0 {
		dsn, p.path = dsn[:i], dsn[i:]
	}
	p.hosts = dsn
	return p
}

func (p parts) String() string {
	s := p.scheme + "://" + p.login + p.hosts + p.path
	if p.query != "" {
		s += "?" + p.query
	}
	return s
}

// check returns an error if other parsers may split the URL differently.
func (p parts) check() error {
	hosts := p.hosts
	p.hosts = "host"
	u, err := url.Parse(p.String())
	if err != nil || u.Host != p.hosts || u.Fragment != "" || strings.Contains(hosts+p.path, "@") ||
		p.path == "" && strings.Contains(p.query, "@") { // without a path, all before the @ would be a login
		return errDSN
	}
	return nil
}

// without returns the parts without these parameters.
func (p parts) without(names ...string) parts {
	all := slices.DeleteFunc(strings.Split(p.query, "&"), func(parameter string) bool {
		name, _, _ := strings.Cut(parameter, "=")
		name, _ = url.PathUnescape(name)
		return slices.Contains(names, name)
	})
	p.query = strings.Join(all, "&")
	return p
}

// encode encodes spaces as %20, because libpq does not decode a plus sign as a space.
func encode(q url.Values) string { return strings.ReplaceAll(q.Encode(), "+", "%20") }
