package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// copyData copies the data directory in src to the directory dst, owned by an account, and
// returns a checksum of what it read. It copies in parallel: a thousand small files are
// mostly system calls.
func copyData(ctx context.Context, dst string, as *account, src *directory) (sum uint32, err error) {
	var files []string
	var makeDir func(name string) error
	makeDir = func(name string) error {
		to := filepath.Join(dst, name)
		if err := errors.Join(context.Cause(ctx), os.Mkdir(to, 0o700), giveDir(to, as)); err != nil {
			return err
		}
		sum += crc32.Checksum([]byte(name), castagnoli)
		entries, err := src.list(name)
		for _, entry := range entries {
			child := filepath.Join(name, entry.Name())
			switch {
			case entry.Type().IsRegular():
				files = append(files, child)
			case entry.IsDir():
				err = errors.Join(err, makeDir(child))
			default:
				err = fmt.Errorf("%s is neither a file nor a directory: %w", filepath.Join(src.path, child), errStranger)
			}
			if err != nil {
				break
			}
		}
		return err
	}
	if err := makeDir("data"); err != nil {
		return 0, err
	}
	const workers = 4
	var wg sync.WaitGroup
	failed := make([]error, workers)
	sums := make([]uint32, workers)
	for w := range workers {
		wg.Go(func() {
			buf := make([]byte, 1<<18)
			for i := w; i < len(files) && failed[w] == nil; i += workers {
				sum := crc32.New(castagnoli)
				io.WriteString(sum, files[i])
				failed[w] = copyFile(ctx, filepath.Join(dst, files[i]), as, src, files[i], sum, buf)
				sums[w] += sum.Sum32()
			}
		})
	}
	wg.Wait()
	for _, s := range sums {
		sum += s // does not depend on the order
	}
	return sum, errors.Join(failed...)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// copyFile copies one file and leaves holes for zeros: a fresh WAL segment is 16 MiB of
// mostly zeros.
func copyFile(ctx context.Context, dst string, as *account, src *directory, name string, sum io.Writer, buf []byte) (err error) {
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
	for ctx.Err() == nil { // the file may be endless
		n, err := io.ReadFull(in, buf)
		sum.Write(buf[:n])
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
