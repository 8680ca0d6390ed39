package pgtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"
)

// copyTree copies the data directory in src to dst, which it makes, for an
// account. A thousand small files: the work is in the system calls, so both cores
// do it.
func copyTree(ctx context.Context, dst string, as *account, src *directory) error {
	var files []string
	err := fs.WalkDir(src.root.FS(), "data", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel("data", path)
		if err != nil {
			return err
		}
		if !d.IsDir() {
			files = append(files, rel)
			return nil
		}
		if err := os.Mkdir(filepath.Join(dst, rel), 0o700); err != nil {
			return err
		}
		return giveDir(filepath.Join(dst, rel), as)
	})
	if err != nil {
		return err
	}
	const workers = 4
	var wg sync.WaitGroup
	failed := make([]error, workers)
	for w := range workers {
		wg.Go(func() {
			buf := make([]byte, 1<<18)
			for i := w; i < len(files) && failed[w] == nil; i += workers {
				failed[w] = copyFile(ctx, filepath.Join(dst, files[i]), as, src, path.Join("data", files[i]), buf)
			}
		})
	}
	wg.Wait()
	return errors.Join(failed...)
}

// copyFile copies one file, leaving holes for zeros: a fresh WAL segment is
// 16 MiB of little else.
func copyFile(ctx context.Context, dst string, as *account, src *directory, name string, buf []byte) (err error) {
	in, err := src.file(name, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if err := as.give(out); err != nil {
		return err
	}
	var size int64
	for ctx.Err() == nil { // what it is may have no end
		n, err := io.ReadFull(in, buf)
		if n > 0 && !allZero(buf[:n]) {
			if _, err := out.WriteAt(buf[:n], size); err != nil {
				return err
			}
		}
		size += int64(n)
		switch err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF:
			return out.Truncate(size)
		default:
			return err
		}
	}
	return context.Cause(ctx)
}

var zeros [4096]byte

func allZero(b []byte) bool {
	for len(b) > len(zeros) {
		if !bytes.Equal(b[:len(zeros)], zeros[:]) {
			return false
		}
		b = b[len(zeros):]
	}
	return bytes.Equal(b, zeros[:len(b)])
}

func writeOwned(path, text string, as *account) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := io.WriteString(f, text); err != nil {
		return err
	}
	return as.give(f)
}

func giveDir(path string, as *account) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return as.give(f)
}
