package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// cacheDir returns the directory for what outlives a run: lock and state files,
// initialized data directories, downloaded programs. It is created on first use. Only we
// can write to it; all users can enter it, because for root the server's user runs the
// downloaded programs.
func cacheDir() (string, error) {
	var tried []error
	for _, dir := range cachePlaces() {
		dir, err := makeOwn(dir)
		if err == nil {
			err = writable(dir)
		}
		if err == nil {
			return dir, nil
		}
		tried = append(tried, err)
	}
	return "", fmt.Errorf("pgtest: no cache directory: %w", errors.Join(tried...))
}

// writable returns an error if we cannot write in dir, as on a read-only file system.
func writable(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// lockName is the file whose lock is the cache's lock.
const lockName = "lock"

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
	name := "pgtest-cache-" + strconv.Itoa(os.Geteuid())
	return append(places, filepath.Join(os.TempDir(), name), filepath.Join("/tmp", name))
}

// makeOwn creates dir and returns its path without symbolic links. It accepts an existing
// directory only if no other user can write to it: in a world-writable parent such as
// /tmp, another user may have created it.
func makeOwn(dir string) (string, error) {
	parent, err := makeAll(filepath.Dir(dir))
	if err != nil {
		return "", err
	}
	dir = filepath.Join(parent, filepath.Base(dir))
	switch err := os.Mkdir(dir, 0o755); {
	case err == nil:
		return dir, os.Chmod(dir, 0o755) // whatever the umask is
	case !errors.Is(err, os.ErrExist):
		return "", err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return "", err
	}
	if !info.IsDir() || !(*account)(nil).owns(info) || info.Mode().Perm()&0o022 != 0 {
		return "", fmt.Errorf("%s is not a directory that only we can write", dir)
	}
	return dir, nil
}

// runRoots are the possible parents of a server's directory; the first suitable one is
// used. Memory comes first, unless the server must be durable.
var runRoots = func(durable bool) []string {
	if durable {
		return []string{"/var/tmp", os.TempDir(), "/tmp"} // /tmp may be in memory
	}
	return []string{"/dev/shm", os.TempDir(), "/tmp"}
}

const (
	// roomy is the free space that a file system must have. A small /dev/shm (64 MiB in
	// containers) is no place for a database.
	roomy = 1 << 30
	// socketMax limits the path of a Unix socket: 104 bytes on macOS, 108 on Linux, NUL included.
	socketMax = 100
)

// Files in a server's directory, beside data/, the log and the socket.
const (
	aliveFile = "alive"  // its lock is held while a process of the server runs
	ownedFile = "owned"  // its lock is held by the owner of a dedicated server, also while that is stopped
	passFile  = "pgpass" // the password, for the psql command in a failed test's log
	logFile   = "log"
	pidFile   = "data/postmaster.pid"
)

// runDir is the directory of a server that is being created: random name, mode 0700,
// owned by us until it is given to the server's user.
type runDir struct {
	*directory
	alive  *os.File // locked; inherited by the server
	guards []*guard // remove it if we end before a server does that itself
}

func makeRunDir(durable bool) (*runDir, error) {
	var tried []error
	for _, root := range runRoots(durable) {
		dir, err := makeRunDirIn(root)
		if err == nil {
			return dir, nil
		}
		tried = append(tried, err)
	}
	return nil, fmt.Errorf("pgtest: no place for a server's directory: %w", errors.Join(tried...))
}

func makeRunDirIn(root string) (*runDir, error) {
	root, err := resolve(root)
	if err != nil {
		return nil, err
	}
	if err := suits(root); err != nil {
		return nil, err
	}
	name := runPrefix() + strings.ToLower(rand.Text()[:10])
	path := filepath.Join(root, name)
	hidden := path
	if shares {
		hidden = filepath.Join(root, "."+name) // it must not be swept before it is locked
	}
	var us *account
	dir := new(runDir)
	if err := dir.guardAs(us, hidden, path); err != nil {
		return nil, err
	}
	if err = os.Mkdir(hidden, 0o700); err != nil {
		return nil, errors.Join(err, release(dir.guards...))
	}
	made := hidden
	if dir.alive, err = lockFile(context.Background(), filepath.Join(hidden, aliveFile)); err == nil && hidden != path {
		err = os.Rename(hidden, path)
	}
	if err == nil {
		made = path
		dir.directory, err = openDirectory(path, us)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(made), release(dir.guards...))
	}
	return dir, nil
}

func (d *runDir) guardAs(as *account, dirs ...string) error {
	g, err := as.guardDirs(dirs...)
	if err == nil {
		d.guards = append(d.guards, g)
	}
	return err
}

// give gives the directory to the server's user. First it starts a guard as that user,
// because ours removes only directories of our own.
func (d *runDir) give(as *account) error {
	if as == nil {
		return nil
	}
	err := d.guardAs(as, d.path)
	if err == nil {
		err = as.give(d.alive)
	}
	if err == nil {
		err = giveDir(d.path, as)
	}
	if err == nil {
		d.as = as
	}
	return err
}

// remove removes the directory and releases its guards.
func (d *runDir) remove() error {
	return errors.Join(d.alive.Close(), d.directory.remove(), release(d.guards...))
}

func runPrefix() string { return "pgtest-" + strconv.Itoa(os.Geteuid()) + "-" }

func suits(root string) error {
	if strings.ContainsAny(root, ",\n\r") {
		return fmt.Errorf("%q: no connection's address can name it, or postmaster.pid", root)
	}
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
	if info, err := os.Stat(root); err != nil || info.Mode().Perm()&0o002 == 0 {
		return fmt.Errorf("%s: the server's user may not remove its directory from there", root)
	}
	for dir := root; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm()&0o001 == 0 {
			return fmt.Errorf("%s: the server's user may not enter %s", root, dir)
		}
	}
	return nil
}
