//go:build darwin || dragonfly || freebsd || linux

package pgtest

import (
	"os"
	"path/filepath"
)

// ReadOf reads a file in a directory of a user.
func ReadOf(uid uint32, dir, name string) ([]byte, error) {
	d, err := openDirectory(dir, &account{uid, uid})
	if err != nil {
		return nil, err
	}
	defer d.root.Close()
	return d.tail(name, 1<<10)
}

// Die starts a guard of directories and ends it as if this process had ended.
func Die(dirs ...string) error {
	g, err := (*account)(nil).guardDirs(dirs...)
	if err != nil {
		return err
	}
	g.input.Close()
	g.shell.Wait() // its status is that of the last removal
	return nil
}

// InUse reports whether a process uses a server's directory.
func InUse(dir string) bool {
	f, err := os.OpenFile(filepath.Join(dir, aliveFile), os.O_RDWR, 0)
	if err != nil {
		return false // it has been removed
	}
	defer f.Close()
	free, err := tryLock(f)
	return err != nil || !free
}
