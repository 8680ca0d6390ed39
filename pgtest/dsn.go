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

// errDSN tells nothing of what is in the DSN: pgx masks a password where it
// recognises one, and where a DSN is malformed it may not.
var errDSN = errors.New("not a connection URL or keyword=value list that can be used; it is not shown, as it may hold a password. " +
	"In a URL, characters such as @ / ? # % in the password are written as %40 %2F %3F %23 %25; files it names must be readable")

// settingName is what PostgreSQL takes for the name of a setting.
var settingName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.$]*$`)

// parse reads a DSN. It refuses those in which a part of the password has likely
// ended up in another place, such as the host's name, which errors show.
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
		return nil, errDSN // the last would escape the space before what is added
	}
	return cfg, nil
}

// A DSN has two forms, the URL and a list of keywords, and in a list the last of
// a keyword counts.

// inDatabase is the DSN with another database.
func inDatabase(dsn, database string) string {
	if !isURL(dsn) {
		return dsn + " dbname=" + database
	}
	p := splitURL(dsn)
	p.path = "/" + database
	return p.without("dbname", "database").String()
}

// atAddress is the DSN with another host and port.
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

// parts are those of a URL, as they are written: net/url takes neither several
// hosts nor a directory (%2Ftmp) for a host, and makes spaces of plus signs.
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

// check says whether everybody reads the parts as we do.
func (p parts) check() error {
	hosts := p.hosts
	p.hosts = "host"
	u, err := url.Parse(p.String())
	if err != nil || u.Host != p.hosts || u.Fragment != "" || strings.Contains(hosts+p.path, "@") ||
		p.path == "" && strings.Contains(p.query, "@") { // without a path, all before it would be a login
		return errDSN
	}
	return nil
}

// without leaves out parameters.
func (p parts) without(names ...string) parts {
	all := slices.DeleteFunc(strings.Split(p.query, "&"), func(parameter string) bool {
		name, _, _ := strings.Cut(parameter, "=")
		name, _ = url.PathUnescape(name)
		return slices.Contains(names, name)
	})
	p.query = strings.Join(all, "&")
	return p
}

// encode is for values in which a plus sign is itself: libpq makes no space of it.
func encode(q url.Values) string { return strings.ReplaceAll(q.Encode(), "+", "%20") }
