package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// ErrNotFound is matched by the error of [New] and [Start] when no usable
// PostgreSQL was found. Its text names every place that was looked at and says
// what to install.
var ErrNotFound = errors.New("pgtest: no PostgreSQL found")

// oldest is the first major version that is tested with; older ones are passed over.
const oldest = 15

// usualPlaces are where packagers put the server programs, which they keep off
// the PATH so that several majors can be installed side by side.
var usualPlaces = []string{
	"/usr/lib/postgresql/*/bin",                             // Debian, Ubuntu
	"/usr/pgsql-*/bin",                                      // RHEL, Fedora (PGDG)
	"/usr/libexec/postgresql*",                              // Alpine
	"/opt/homebrew/opt/postgresql@*/bin",                    // Homebrew, Apple silicon
	"/usr/local/opt/postgresql@*/bin",                       // Homebrew, Intel
	"/Applications/Postgres.app/Contents/Versions/*/bin",    // Postgres.app
	"/Library/PostgreSQL/*/bin",                             // EDB installer, macOS
	"/usr/local/pgsql/bin",                                  // built from source
	filepath.FromSlash(`C:/Program Files/PostgreSQL/*/bin`), // EDB installer, Windows
}

// search is one hunt for the server programs and what it has seen so far.
type search struct {
	major  int // 0: any supported
	looked []string
}

// find returns the directory that holds postgres and initdb of the wanted major
// version (0: any), in the order the package comment gives.
func find(ctx context.Context, major int) (bin string, err error) {
	s := &search{major: major}
	if dir := os.Getenv("PGTEST_BINDIR"); dir != "" {
		if dir, err = filepath.Abs(dir); err != nil {
			return "", err
		}
		if s.usable(ctx, "PGTEST_BINDIR", dir) {
			return filepath.EvalSymlinks(dir)
		}
		// Asked for by name: falling back would test another server than the one meant.
		return "", s.notFound()
	}
	for _, place := range []func(context.Context) (string, bool){s.path, s.pgConfig, s.installed, s.download} {
		if bin, ok := place(ctx); ok {
			return filepath.EvalSymlinks(bin)
		}
	}
	return "", s.notFound()
}

func (s *search) path(ctx context.Context) (string, bool) {
	p, err := exec.LookPath("postgres")
	if err != nil {
		return "", s.miss("PATH", "no postgres")
	}
	if p, err = filepath.EvalSymlinks(p); err != nil {
		return "", s.miss("PATH", err.Error())
	}
	return filepath.Dir(p), s.usable(ctx, "PATH", filepath.Dir(p))
}

func (s *search) pgConfig(ctx context.Context) (string, bool) {
	as, err := serverAccount()
	if err != nil {
		return "", s.miss("pg_config --bindir", err.Error())
	}
	out, err := as.command(ctx, "pg_config", "--bindir").Output()
	if err != nil {
		return "", s.miss("pg_config --bindir", err.Error())
	}
	dir := strings.TrimSpace(string(out))
	return dir, s.usable(ctx, "pg_config --bindir", dir)
}

// installed tries the usual places, highest version first.
func (s *search) installed(ctx context.Context) (string, bool) {
	var dirs []string
	for _, pattern := range usualPlaces {
		found, _ := filepath.Glob(pattern)
		if len(found) == 0 {
			s.miss(pattern, "nothing there")
		}
		dirs = append(dirs, found...)
	}
	slices.SortStableFunc(dirs, func(a, b string) int { return versionIn(b) - versionIn(a) })
	for _, dir := range dirs {
		if s.usable(ctx, "installed", dir) {
			return dir, true
		}
	}
	return "", false
}

var digits = regexp.MustCompile(`\d+`)

// versionIn reads the major version off a directory's name.
func versionIn(dir string) int {
	all := digits.FindAllString(dir, -1)
	if len(all) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(all[len(all)-1])
	return n
}

func (s *search) miss(place, why string) bool {
	s.looked = append(s.looked, place+": "+why)
	return false
}

// usable says whether dir holds a server of the wanted version, and notes why not.
func (s *search) usable(ctx context.Context, place, dir string) bool {
	at := place + " " + dir
	for _, program := range []string{"postgres", "initdb"} {
		if _, err := exec.LookPath(filepath.Join(dir, program)); err != nil {
			return s.miss(at, "no "+program)
		}
	}
	v, err := majorOf(ctx, dir)
	switch {
	case err != nil:
		return s.miss(at, err.Error())
	case s.major != 0 && v != s.major:
		return s.miss(at, fmt.Sprintf("version %d, wanted %d", v, s.major))
	case v < oldest:
		return s.miss(at, fmt.Sprintf("version %d, older than %d", v, oldest))
	}
	return true
}

// majorOf returns the major version of the server in bin: from the cached data
// directory where there is one, because asking the program costs 10 ms.
func majorOf(ctx context.Context, bin string) (int, error) {
	if dir, err := cacheDir(); err == nil {
		if text, err := os.ReadFile(filepath.Join(clusterPath(dir, bin), "data", "PG_VERSION")); err == nil {
			return strconv.Atoi(strings.TrimSpace(string(text)))
		}
	}
	as, err := serverAccount()
	if err != nil {
		return 0, err
	}
	out, err := as.command(ctx, filepath.Join(bin, "postgres"), "--version").Output() // as who it will serve as
	if err != nil {
		return 0, fmt.Errorf("postgres --version: %w", err)
	}
	n, err := strconv.Atoi(digits.FindString(string(out)))
	if err != nil {
		return 0, fmt.Errorf("postgres --version answered %q", out)
	}
	return n, nil
}

func (s *search) notFound() error {
	what := "PostgreSQL " + strconv.Itoa(oldest) + " or newer"
	if s.major != 0 {
		what = "PostgreSQL " + strconv.Itoa(s.major)
	}
	install := "from postgresql.org"
	switch runtime.GOOS {
	case "linux":
		install = "the package postgresql (Debian, Ubuntu, Alpine) or postgresql-server (RHEL, Fedora)"
	case "darwin":
		install = "with brew install postgresql@17, or Postgres.app"
	}
	return fmt.Errorf("%w: looked for %s in\n\t%s\ninstall %s, or npm, or name a directory in PGTEST_BINDIR or a server in PGTEST_DSN",
		ErrNotFound, what, strings.Join(s.looked, "\n\t"), install)
}
