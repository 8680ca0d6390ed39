package pgtest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// errStranger is the error of a directory that is not what we made, or may not be
// by the time we use it.
var errStranger = errors.New("pgtest: another user's, or open to others")

// resolve returns the path of a directory without symbolic links. It fails where
// somebody else can put another thing in the place of what lies in it: then no
// check of ours holds until it is used.
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

// makeAll makes a directory and those above it that are missing, and resolves it.
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
