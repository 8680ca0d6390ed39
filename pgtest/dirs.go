package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// cacheDir returns the directory for what outlives a run: lock and state files,
// initialised data directories, downloaded programs. It is made on first use and
// is ours alone to write; everybody may pass through it, because when we are
// root the server's own user runs the downloaded programs.
func cacheDir() (string, error) {
	var tried []error
	for _, dir := range cachePlaces() {
		err := makeOwn(dir)
		if err == nil {
			return dir, nil
		}
		tried = append(tried, err)
	}
	return "", fmt.Errorf("pgtest: no cache directory: %w", errors.Join(tried...))
}

func cachePlaces() []string {
	if dir := os.Getenv("PGTEST_CACHE"); dir != "" {
		return []string{dir}
	}
	var places []string
	if os.Geteuid() == 0 {
		places = append(places, "/var/cache/pgtest") // not below /root, which the server's user may not enter
	} else if dir, err := os.UserCacheDir(); err == nil {
		places = append(places, filepath.Join(dir, "pgtest"))
	}
	return append(places, filepath.Join(os.TempDir(), "pgtest-cache-"+strconv.Itoa(os.Geteuid())))
}

// makeOwn makes dir, or accepts it when nobody else can have put something into
// it: in a world-writable parent such as /tmp another user may have been first.
func makeOwn(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	switch err := os.Mkdir(dir, 0o755); {
	case err == nil:
		return os.Chmod(dir, 0o755) // whatever the umask is
	case !errors.Is(err, os.ErrExist):
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() || !ownedBy(info, os.Geteuid()) || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s is not a directory that only we can write", dir)
	}
	return nil
}

// runRoots are the parents a server's directory may be made in. The first that
// suits is taken: memory before disk, unless durability is wanted.
func runRoots(durable bool) []string {
	if durable {
		return []string{"/var/tmp", os.TempDir(), "/tmp"} // /tmp may be in memory
	}
	return []string{"/dev/shm", os.TempDir(), "/tmp"}
}

const (
	// roomy is the free space below which a file system is passed over: a small
	// /dev/shm (64 MiB in containers) is no place for a database.
	roomy = 1 << 30
	// socketMax bounds the path of a Unix socket: 104 bytes on macOS, 108 on Linux, NUL included.
	socketMax = 100
)

// makeRunDir makes the directory of one server: random name, mode 0700, ours
// until it is given to the server's user. The lock it returns tells sweeping
// processes that the directory is in use.
func makeRunDir(durable bool) (dir string, alive *os.File, err error) {
	var tried []error
	for _, root := range runRoots(durable) {
		dir, alive, err := makeRunDirIn(root)
		if err == nil {
			return dir, alive, nil
		}
		tried = append(tried, err)
	}
	return "", nil, fmt.Errorf("pgtest: no place for a server's directory: %w", errors.Join(tried...))
}

func makeRunDirIn(root string) (dir string, alive *os.File, err error) {
	if err := suits(root); err != nil {
		return "", nil, err
	}
	// No directory that is not locked has a name that is swept.
	hidden, err := os.MkdirTemp(root, "."+runPrefix())
	if err != nil {
		return "", nil, err
	}
	dir = filepath.Join(root, strings.TrimPrefix(filepath.Base(hidden), "."))
	alive, err = lockFile(context.Background(), filepath.Join(hidden, "alive"))
	if err == nil {
		err = os.Rename(hidden, dir)
	}
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(hidden))
	}
	return dir, alive, nil
}

func runPrefix() string { return "pgtest-" + strconv.Itoa(os.Geteuid()) + "-" }

func suits(root string) error {
	longest := filepath.Join(root, runPrefix()+"1234567890", ".s.PGSQL.12345")
	if len(longest) > socketMax {
		return fmt.Errorf("%s: too long for a socket's path", root)
	}
	free, err := freeSpace(root)
	if err != nil {
		return err
	}
	if free < roomy {
		return fmt.Errorf("%s: only %d MiB free", root, free>>20)
	}
	if os.Geteuid() != 0 {
		return nil
	}
	for dir := root; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm()&0o001 == 0 {
			return fmt.Errorf("%s: the server's user may not enter %s", root, dir)
		}
	}
	return nil
}
