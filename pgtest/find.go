package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// ErrNotFound is matched by the error of [New] and [Start] if there is no usable
// PostgreSQL. The error's text names every place that was tried and says what to install.
var ErrNotFound = errors.New("pgtest: no PostgreSQL found")

// oldest is the lowest supported major version; older servers are rejected.
const oldest = 15

// usualPlaces are where packages put the server programs. They keep them off the PATH so
// that several majors can be installed side by side.
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

// search looks for the server programs and records what it has tried.
type search struct {
	major  int // 0: any supported
	looked []string
	tried  map[string]bool
	found  programs
	failed error // not the fault of any program: ends the search
}

// programs are those of one server.
type programs struct {
	bin   string // the directory of postgres and initdb
	major int
}

// find returns usable server programs of the given major version (0: any), from the first
// of the places in the package comment that has them.
func find(ctx context.Context, major int) (programs, error) {
	s := &search{major: major, tried: map[string]bool{}}
	places := []func(context.Context) bool{s.path, s.pgConfig, s.installed, s.download}
	if dir := os.Getenv("PGTEST_BINDIR"); dir != "" {
		// No fallback: it would test another server than the one that was asked for.
		places = []func(context.Context) bool{func(ctx context.Context) bool { return s.usable(ctx, "PGTEST_BINDIR", dir) }}
	}
	for _, place := range places {
		switch {
		case place(ctx):
			return s.found, nil
		case ctx.Err() != nil:
			return programs{}, fmt.Errorf("pgtest: look for PostgreSQL: %w", context.Cause(ctx))
		case s.failed != nil:
			return programs{}, s.failed
		}
	}
	return programs{}, s.notFound()
}

// path tries the directories on the PATH. If postgres is a symbolic link there, its target's
// directory comes first; a wrapper script works only where it lies.
func (s *search) path(ctx context.Context) bool {
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if !filepath.IsAbs(dir) {
			s.miss(fmt.Sprintf("PATH %q", dir), "not absolute")
			continue
		}
		postgres, err := exec.LookPath(filepath.Join(dir, "postgres"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			postgres, err = filepath.EvalSymlinks(postgres)
		}
		if err == nil && s.usable(ctx, "PATH", filepath.Dir(postgres)) || s.usable(ctx, "PATH", dir) {
			return true
		}
	}
	return s.miss("PATH", "no postgres that can be used")
}

func (s *search) pgConfig(ctx context.Context) bool {
	dir, err := answer(ctx, "pg_config", "--bindir")
	if err != nil {
		return s.miss("pg_config --bindir", err.Error())
	}
	return s.usable(ctx, "pg_config --bindir", dir)
}

// installed tries the usual places, highest version first.
func (s *search) installed(ctx context.Context) bool {
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
			return true
		}
	}
	return false
}

var digits = regexp.MustCompile(`\d+`)

// versionIn returns the last number in a directory's name, 0 if there is none.
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

// usable reports whether dir has a server of the wanted version that works here, and
// records the reason if not. Its initdb is tested by creating the data directory that the
// cache keeps.
func (s *search) usable(ctx context.Context, place, dir string) bool {
	at := place + " " + dir
	dir, err := filepath.Abs(dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return s.miss(at, err.Error())
	}
	if s.failed != nil || ctx.Err() != nil {
		return false
	}
	if s.tried[dir] {
		return s.miss(at, "as said above")
	}
	s.tried[dir] = true
	for _, program := range []string{"postgres", "initdb"} {
		if _, err := exec.LookPath(filepath.Join(dir, program)); errors.Is(err, fs.ErrNotExist) {
			return s.miss(at, "no "+program)
		} else if err != nil {
			return s.miss(at, err.Error())
		}
	}
	major, err := majorOf(ctx, dir)
	switch {
	case err != nil:
		return s.miss(at, err.Error())
	case s.major != 0 && major != s.major:
		return s.miss(at, fmt.Sprintf("version %d, wanted %d", major, s.major))
	case major < oldest:
		return s.miss(at, fmt.Sprintf("version %d, older than %d", major, oldest))
	}
	s.found = programs{dir, major}
	switch err := s.found.initialise(ctx); {
	case errors.Is(err, errInitdb):
		return s.miss(at, strings.ReplaceAll(err.Error(), "\n", "\n\t\t"))
	case err != nil:
		s.failed = err
		return false
	}
	return true
}

// initialise creates the cached data directory of these programs if there is none.
func (p programs) initialise(ctx context.Context) error {
	cache, err := cacheDir()
	if err != nil || cachedMajor(p.cluster(cache)) == p.major {
		return err
	}
	as, err := serverAccount()
	if err != nil {
		return err
	}
	lock, err := lockFile(ctx, filepath.Join(cache, lockName))
	if err != nil {
		return err
	}
	defer lock.Close()
	_, err = cachedCluster(ctx, cache, p, as)
	return err
}

// broken reports whether the programs no longer work, as after the upgrade of a library.
// If so it removes their cached data directory, on which [find] relies.
func (p programs) broken(ctx context.Context, cache string) bool {
	_, err := answer(ctx, filepath.Join(p.bin, "postgres"), "--version")
	return err != nil && ctx.Err() == nil && os.RemoveAll(p.cluster(cache)) == nil
}

// majorOf returns the major version of the server in bin. It reads it from the cached data
// directory if there is one, because running the program costs 10 ms. A wrapper is always
// run, because it may lead to another server by now.
func majorOf(ctx context.Context, bin string) (int, error) {
	program := filepath.Join(bin, "postgres")
	if cache, err := cacheDir(); err == nil && !wraps(program) {
		if major := cachedMajor(programs{bin: bin}.cluster(cache)); major != 0 {
			return major, nil
		}
	}
	out, err := answer(ctx, program, "--version")
	if err != nil {
		return 0, err
	}
	version := versionNumber.FindStringSubmatch(out)
	if version == nil {
		return 0, fmt.Errorf("%s --version answered %q", program, out)
	}
	return strconv.Atoi(version[1])
}

var versionNumber = regexp.MustCompile(`postgres \([^)]*\) (\d+)`)

// wraps reports whether a program is a script, or a link to a file of another name.
func wraps(program string) bool {
	real, err := filepath.EvalSymlinks(program)
	if err != nil || filepath.Base(real) != filepath.Base(program) {
		return true
	}
	f, err := os.Open(real)
	if err != nil {
		return true
	}
	defer f.Close()
	start := make([]byte, 2)
	io.ReadFull(f, start)
	return string(start) == "#!"
}

// answer runs a program as the server's user, within lookTimeout, and returns its output.
func answer(ctx context.Context, program string, args ...string) (string, error) {
	as, err := serverAccount()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	cmd := as.command(ctx, program, args...)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(exit.Stderr))
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", cmd, err)
	}
	return strings.TrimSpace(string(out)), nil
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
