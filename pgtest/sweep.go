package pgtest

import (
	"errors"
	"os"
	"path/filepath"
	"time"
)

// sweep removes the directories that killed servers left.
func sweep(as *account) {
	for _, root := range append(runRoots(false), runRoots(true)...) {
		root, err := resolve(root)
		if err != nil {
			continue
		}
		dirs, _ := filepath.Glob(filepath.Join(root, runPrefix()+"*"))
		halfMade, _ := filepath.Glob(filepath.Join(root, "."+runPrefix()+"*"))
		for _, dir := range dirs {
			sweepDir(dir, as, shares)
		}
		for _, dir := range halfMade {
			sweepDir(dir, as, false)
		}
	}
}

// sweepDir removes the directory of a server that neither runs nor has an owner. It belongs
// to the account, or still to us. If locks do not show whether it is in use, it must be a
// minute old. Errors are ignored: the next sweep tries again.
func sweepDir(path string, as *account, locked bool) {
	dir, err := openDirectory(path, as)
	if err != nil && as != nil {
		dir, err = openDirectory(path, nil)
	}
	if err != nil {
		return
	}
	defer dir.root.Close()
	info, err := dir.root.Stat(".")
	if err != nil || !locked && time.Since(info.ModTime()) < time.Minute {
		return
	}
	for _, name := range []string{ownedFile, aliveFile} {
		f, err := dir.file(name, os.O_RDWR)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return
		}
		defer f.Close()
		if free, err := tryLock(f); err != nil || !free {
			return
		}
	}
	in := &instance{Dir: path, dir: dir}
	if shares || in.gone() {
		in.clear()
		dir.remove()
	}
}
