package pgtest

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// initdbArgs create the same data directory on every machine.
var initdbArgs = []string{"--username=postgres", "--encoding=UTF8", "--no-locale", "--auth=scram-sha-256", "--no-sync"}

// fingerprint returns a hash of these parts, and of the server program's path, size and
// time, so that an upgrade in place counts as another program.
func fingerprint(bin string, parts ...string) string {
	h := sha256.New()
	fmt.Fprintln(h, bin)
	if info, err := os.Stat(filepath.Join(bin, "postgres")); err == nil {
		fmt.Fprintln(h, info.Size(), info.ModTime().UnixNano())
	}
	for _, part := range parts {
		fmt.Fprintln(h, part)
	}
	return hex.EncodeToString(h.Sum(nil)[:6])
}

// cluster returns the path of these programs' cluster in the cache.
func (p programs) cluster(cache string) string {
	return filepath.Join(cache, "cluster-"+fingerprint(p.bin, initdbArgs...))
}

// cluster is an initialized data directory in the cache; copying it costs a tenth of
// initdb. Its directory has three entries: data/; password, which a server that starts
// from a copy replaces with its own; and sum, which reveals damage.
type cluster struct{ path, password, sum string }

// errDamaged is the error of a damaged cluster, as a crash of the machine, a full disk or a
// cleanup of the cache leaves it.
var errDamaged = errors.New("the cached data directory is not as it was made")

// errInitdb is matched by the error of an initdb that fails.
var errInitdb = errors.New("initdb fails")

// cachedCluster returns the cluster of these programs; the first use creates it. The
// caller holds the cache's lock.
func cachedCluster(ctx context.Context, cache string, p programs, as *account) (cluster, error) {
	path := p.cluster(cache)
	if _, err := os.Stat(filepath.Join(path, "sum")); err != nil || cachedMajor(path) != p.major {
		if err := makeCluster(ctx, path, p.bin, as); err != nil {
			return cluster{}, fmt.Errorf("pgtest: initialised data directory: %w", err)
		}
	}
	password, errP := os.ReadFile(filepath.Join(path, "password"))
	sum, errS := os.ReadFile(filepath.Join(path, "sum"))
	if err := errors.Join(errP, errS); err != nil {
		return cluster{}, fmt.Errorf("pgtest: %w: %w", errDamaged, err)
	}
	now := time.Now()
	os.Chtimes(path, now, now) // tidy removes those that are not used
	return cluster{path, string(password), string(sum)}, nil
}

// cachedMajor returns the major version of the cluster at path, 0 if there is none.
func cachedMajor(path string) int {
	text, err := os.ReadFile(filepath.Join(path, "data", "PG_VERSION"))
	if err != nil {
		return 0
	}
	major, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return major
}

// sumOf returns the checksum of a cluster, from the sum of its copied files and its password.
func sumOf(copied uint32, password string) string {
	return fmt.Sprintf("%08x %08x", copied, crc32.ChecksumIEEE([]byte(password)))
}

// tidy removes from the cache the clusters that have not been used for a month, such as
// those that an upgrade leaves, and the state files of servers that have ended. The caller
// holds the cache's lock.
func tidy(cache string, as *account) {
	clusters, _ := filepath.Glob(filepath.Join(cache, "cluster-*"))
	for _, path := range clusters {
		if info, err := os.Lstat(path); err == nil && time.Since(info.ModTime()) > 30*24*time.Hour {
			os.RemoveAll(path)
		}
	}
	states, _ := filepath.Glob(filepath.Join(cache, "server-*.json"))
	for _, path := range states {
		in, err := readState(path, as)
		if err != nil {
			os.Remove(path) // its directory is gone: another user may create one of that name
			continue
		}
		in.dir.root.Close()
	}
}

func makeCluster(ctx context.Context, path, bin string, as *account) (err error) {
	dir, err := makeRunDir(false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.remove()) }()
	run := dir.path
	pw := rand.Text()
	if err := writeOwned(filepath.Join(run, "pw"), scramVerifier(pw), as); err != nil {
		return err
	}
	if err := dir.give(as); err != nil {
		return err
	}
	args := append([]string{"--pgdata=" + filepath.Join(run, "data"), "--pwfile=" + filepath.Join(run, "pw")}, initdbArgs...)
	cmd := as.command(ctx, filepath.Join(bin, "initdb"), args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s: %w\n%s", errInitdb, cmd, err, bytes.TrimSpace(out))
	}
	fresh := path + ".new" // a killed process may have left one
	if err := errors.Join(os.RemoveAll(fresh), os.RemoveAll(path)); err != nil {
		return err
	}
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return err
	}
	sum, err := copyData(ctx, fresh, nil, dir.directory)
	if err != nil {
		return fmt.Errorf("%w to make what can be copied: %w", errInitdb, err)
	}
	return errors.Join(
		os.WriteFile(filepath.Join(fresh, "password"), []byte(pw), 0o600),
		os.WriteFile(filepath.Join(fresh, "sum"), []byte(sumOf(sum, pw)), 0o600),
		os.Rename(fresh, path))
}

// iterations is the minimum of RFC 7677, which some clients insist on. A password of 128
// random bits needs none, and they cost each connection 0.7 ms.
const iterations = 4096

// scramVerifier returns the stored form of a password (RFC 5803), which PostgreSQL accepts
// in place of the password itself.
func scramVerifier(password string) string {
	salt := make([]byte, 16)
	rand.Read(salt) // never fails
	salted, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	if err != nil {
		panic(err) // only for parameters out of range
	}
	mac := func(key []byte, text string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	stored := sha256.Sum256(mac(salted, "Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, b64(salt), b64(stored[:]), b64(mac(salted, "Server Key")))
}

// outputWait limits the wait for a program's output when it has ended: its children may keep
// it open.
const outputWait = 5 * time.Second

// serverEnv returns the environment of the server's programs: only what they need to be
// found and to run.
func serverEnv(also ...string) []string {
	env := []string{"LC_ALL=C", "TZ=UTC"}
	for _, name := range append(also, passedOn...) {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}
