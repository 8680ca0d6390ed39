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

// directory is a handle of a directory that only one account, and root, can enter. All
// files in it are opened through the handle, because the path may be replaced.
type directory struct {
	path string
	as   *account
	root *os.Root
}

// openDirectory opens a directory of the account. It fails if another user owns the
// directory or can enter it.
func openDirectory(path string, as *account) (*directory, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !private(info, as) {
		return nil, fmt.Errorf("%s: %w", path, errStranger)
	}
	root, err := os.OpenRoot(path + string(filepath.Separator) + ".") // on a pipe, the path alone would block
	if err != nil {
		return nil, err
	}
	d := &directory{path, as, root}
	if err := d.is(info); err != nil { // private was asked about the path, which may have been replaced
		root.Close()
		return nil, err
	}
	return d, nil
}

// is returns an error unless the handle is of the directory that info describes.
func (d *directory) is(info os.FileInfo) error {
	opened, err := d.root.Stat(".")
	if err == nil && !os.SameFile(info, opened) {
		err = fmt.Errorf("%s: %w", d.path, errStranger)
	}
	return err
}

// file opens a regular file of the account. If the account is not ours, it may have put
// something else there: links cannot leave the directory, a pipe does not block, and
// another user's file is refused.
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

// list returns the entries of a directory.
func (d *directory) list(name string) ([]os.DirEntry, error) {
	f, err := d.root.OpenFile(name, os.O_RDONLY|neverWait, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.ReadDir(-1)
}

// tail reads the last size bytes of a file.
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

// remove closes the handle and removes the directory.
func (d *directory) remove() error {
	d.root.Close() // some systems do not remove what is open
	return d.as.removeAll(d.path)
}

// removed reports whether an error says that a directory is gone, or its handle closed.
func removed(err error) bool { return errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrClosed) }

// dial connects to a socket in the directory, and fails if another user listens there.
func (d *directory) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var dialer net.Dialer
	if filepath.Dir(address) != d.path {
		return dialer.DialContext(ctx, network, address) // a test changed a pool's configuration
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
