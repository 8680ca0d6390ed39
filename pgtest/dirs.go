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
// initialised data directories, downloaded programs. It is made on first use and
// is ours alone to write; everybody may pass through it, because when we are
// root the server's own user runs the downloaded programs.
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

// writable fails where we cannot write, be it for the file system.
func writable(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// lockName is the file in the cache whose lock is that of the cache.
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

// makeOwn makes dir, or accepts it when nobody else can have put something into
// it: in a world-writable parent such as /tmp another user may have been first.
// It returns its path without links.
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

// runRoots are the parents a server's directory may be made in. The first that
// suits is taken: memory before disk, unless durability is wanted.
var runRoots = func(durable bool) []string {
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

// Files in a server's directory, beside data/, the log and the socket.
const (
	aliveFile = "alive"  // its lock tells sweeping processes that the directory is in use
	ownedFile = "owned"  // likewise, for the dedicated server of a process, also while it is stopped
	passFile  = "pgpass" // the password, for a person's psql
	logFile   = "log"
	pidFile   = "data/postmaster.pid"
)

// runDir is the directory of one server in the making: random name, mode 0700,
// ours until it is given to the server's user.
type runDir struct {
	*directory
	alive  *os.File // locked; inherited by the server
	guards []*guard // remove it should we end before there is a server that does
}

// makeRunDir makes a directory for a server.
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
		hidden = filepath.Join(root, "."+name) // no directory has a name that is swept before it is locked
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

// give hands the directory to the server's user. It has a guard of that user's
// before that, since ours leaves alone what is not ours.
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

// remove gives the directory up.
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
