//go:build darwin || dragonfly || freebsd || linux

package pgtest

// ReadOf reads a file of a user's in a directory of that user's.
func ReadOf(uid uint32, dir, name string) ([]byte, error) {
	d, err := openDirectory(dir, &account{uid, uid})
	if err != nil {
		return nil, err
	}
	defer d.root.Close()
	return d.tail(name, 1<<10)
}

// Die has the guard of directories find that we have ended.
func Die(dirs ...string) error {
	g, err := (*account)(nil).guardDirs(dirs...)
	if err != nil {
		return err
	}
	g.input.Close()
	g.shell.Wait() // its status is that of the last removal
	return nil
}
