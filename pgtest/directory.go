package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
)

// directory is a handle of a directory that one account alone, and root, can
// enter. What is read and written in it goes through the handle: the path may
// come to mean another directory, the handle does not.
type directory struct {
	path string
	as   *account
	root *os.Root
}

// openDirectory fails unless the path leads to a directory of the account's that
// is closed to everybody else.
func openDirectory(path string, as *account) (*directory, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !private(info, as) {
		return nil, fmt.Errorf("%s: %w", path, errStranger)
	}
	root, err := os.OpenRoot(path + string(filepath.Separator) + ".") // fails on a pipe, where the path alone would wait
	if err != nil {
		return nil, err
	}
	d := &directory{path, as, root}
	if err := d.is(info); err != nil { // that it was private counts for what was opened only if it is the same
		root.Close()
		return nil, err
	}
	return d, nil
}

// is says whether the handle leads to what the information is of.
func (d *directory) is(info os.FileInfo) error {
	opened, err := d.root.Stat(".")
	if err == nil && !os.SameFile(info, opened) {
		err = fmt.Errorf("%s: %w", d.path, errStranger)
	}
	return err
}

// file opens a file of the account's. Where that is not ours, it may have put
// something else there: links lead to nothing outside, a pipe is not waited for,
// and a file of somebody else's is refused.
func (d *directory) file(name string, flags int) (*os.File, error) {
	f, err := d.root.OpenFile(name, flags|neverWait, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && (!info.Mode().IsRegular() || d.as != nil && !d.as.owns(info)) {
		err = fmt.Errorf("%s: %w", f.Name(), errStranger)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// list returns what is in a directory of the account's.
func (d *directory) list(name string) ([]os.DirEntry, error) {
	f, err := d.root.OpenFile(name, os.O_RDONLY|neverWait, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.ReadDir(-1)
}

// tail reads the last bytes of a file.
func (d *directory) tail(name string, size int64) ([]byte, error) {
	f, err := d.file(name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.NewSectionReader(f, max(0, info.Size()-size), size))
}

// remove gives the handle up and removes the directory.
func (d *directory) remove() error {
	d.root.Close() // some systems keep what is open
	return d.as.removeAll(d.path)
}

// removed says that an error is that of a directory which is gone, or given up.
func removed(err error) bool { return errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrClosed) }

// dial connects to a socket in the directory if the account listens there.
func (d *directory) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var dialer net.Dialer
	if filepath.Dir(address) != d.path {
		return dialer.DialContext(ctx, network, address) // a test has changed a pool's configuration
	}
	if named, err := os.Lstat(d.path); err != nil || d.is(named) != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", address, errStranger), err)
	}
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if err := checkPeer(conn, d.as); err != nil {
		conn.Close()
		return nil, fmt.Errorf("%s: %w", address, err)
	}
	return conn, nil
}
