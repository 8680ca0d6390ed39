package pgtest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// errStranger is the error of a directory or file that another user owns or can replace.
var errStranger = errors.New("pgtest: another user's, or open to others")

// resolve returns the path of a directory without symbolic links. It fails if another user
// can replace what lies in it: a check would no longer hold when the path is used.
func resolve(dir string) (string, error) {
	path, err := filepath.Abs(dir)
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		return "", err
	}
	for at := path; ; at = filepath.Dir(at) {
		info, err := os.Lstat(at)
		if err != nil {
			return "", err
		}
		if !safe(info) {
			return "", fmt.Errorf("%s: others can replace what lies in %s: %w", dir, at, errStranger)
		}
		if at == filepath.Dir(at) {
			return path, nil
		}
	}
}

// makeAll creates a directory and its missing parents, and returns its path without links.
func makeAll(dir string) (string, error) {
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		parent, err := makeAll(filepath.Dir(dir))
		if err != nil {
			return "", err
		}
		dir = filepath.Join(parent, filepath.Base(dir))
		if err = os.Mkdir(dir, 0o755); err == nil {
			err = os.Chmod(dir, 0o755) // whatever the umask is
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return "", err
		}
	}
	return resolve(dir)
}
