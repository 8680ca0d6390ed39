//go:build darwin || dragonfly || freebsd || linux

package pgtest_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/pgtest"
)

// Attempts of another user of the machine to get the password. Without root, tests cannot
// run as another user: they use a directory of their own that looks like another user's.

// strangersID is a user id that no machine has.
const strangersID = 54321

var isRoot = os.Geteuid() == 0

// stranger is a child process that creates a directory in the place of a server's, listens
// there, asks for the password, and prints what it receives.
func stranger() error {
	dir, asks := os.Getenv("PGTEST_TEST_DIR"), os.Getenv("PGTEST_TEST_ASKS")
	mode, err := strconv.ParseUint(os.Getenv("PGTEST_TEST_MODE"), 8, 32)
	if err != nil {
		return err
	}
	if os.Getenv("PGTEST_TEST_LINK") != "" {
		elsewhere, err := os.MkdirTemp("/tmp", "pgtest-test-")
		if err != nil {
			return err
		}
		if err := os.Symlink(elsewhere, dir); err != nil {
			return err
		}
	} else if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	l, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432"))
	if err != nil {
		return err
	}
	if err := os.Chmod(dir, os.FileMode(mode)); err != nil {
		return err
	}
	fmt.Println("listening")
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		startup := make([]byte, 4)
		io.ReadFull(conn, startup)
		io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(startup))-4)
		conn.Write(map[string][]byte{
			"cleartext": {'R', 0, 0, 0, 8, 0, 0, 0, 3},
			"md5":       {'R', 0, 0, 0, 12, 0, 0, 0, 5, 1, 2, 3, 4},
			"nothing":   {'R', 0, 0, 0, 8, 0, 0, 0, 0, 'Z', 0, 0, 0, 5, 'I'},
		}[asks])
		conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		told := make([]byte, 100)
		n, _ := conn.Read(told)
		if n > 0 {
			fmt.Printf("told %q\n", told[:n])
		}
		conn.Close()
	}
}

func credential(uid int) *syscall.Credential {
	if uid == os.Geteuid() {
		return nil // whose group may have another number
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}
}

// serversID returns the id of the user that servers run as.
func serversID(t *testing.T) int {
	t.Helper()
	s, err := pgtest.Start(t.Context())
	require.NoError(t, err)
	defer s.Close()
	info, err := os.Lstat(s.Dir())
	require.NoError(t, err)
	return int(info.Sys().(*syscall.Stat_t).Uid)
}

func TestNoStrangerIsToldThePassword(t *testing.T) {
	type stranger struct {
		uid              int
		mode, asks, link string
	}
	uid := serversID(t)
	cases := map[string]stranger{
		"who is the server's user and wants it in clear": {uid, "700", "cleartext", ""},
		"who is the server's user and wants a digest":    {uid, "700", "md5", ""},
		"who is the server's user and wants nothing":     {uid, "700", "nothing", ""},
		"in a directory open to others":                  {uid, "755", "cleartext", ""},
		"behind a link":                                  {uid, "700", "cleartext", "1"},
	}
	if isRoot {
		for _, mode := range []string{"700", "755", "777"} {
			cases["who is another user, mode "+mode] = stranger{strangersID, mode, "cleartext", ""}
		}
	}
	cache := cacheFor(t, nil)
	t.Setenv("PGTEST_CACHE", cache)
	t.Setenv("PGTEST_LINGER", "1ms")
	for who, c := range cases {
		t.Run(who, func(t *testing.T) {
			s, err := pgtest.Start(t.Context())
			require.NoError(t, err)
			dir := s.Dir()
			require.NoError(t, s.Close())
			require.Eventually(t, func() bool { _, err := os.Lstat(dir); return os.IsNotExist(err) }, soon, 5*time.Millisecond)
			states, err := filepath.Glob(filepath.Join(cache, "server-*.json"))
			require.NoError(t, err)
			require.Len(t, states, 1, "it is stale, and not yet known to be")

			t.Setenv("PGTEST_TEST_DIR", dir)
			t.Setenv("PGTEST_TEST_MODE", c.mode)
			t.Setenv("PGTEST_TEST_ASKS", c.asks)
			t.Setenv("PGTEST_TEST_LINK", c.link)
			t.Cleanup(func() {
				if elsewhere, err := os.Readlink(dir); err == nil {
					os.RemoveAll(elsewhere)
				}
				os.RemoveAll(dir)
			})
			stranger := startChild(t, "stranger", cache, credential(c.uid))
			line, err := stranger.out.ReadString('\n')
			require.NoError(t, err)
			require.Equal(t, "listening\n", line)

			s, err = pgtest.Start(t.Context())
			require.NoError(t, err)
			assert.NotEqual(t, dir, s.Dir())
			require.NoError(t, s.Close())
			stranger.kill(t)
			told, err := io.ReadAll(stranger.out)
			require.NoError(t, err)
			assert.Empty(t, string(told))
		})
	}
}

func password(t *testing.T, s *pgtest.Server) string {
	t.Helper()
	cfg, err := pgx.ParseConfig(s.URL())
	require.NoError(t, err)
	return cfg.Password
}

func TestEveryServerHasItsOwnPassword(t *testing.T) {
	cache := cacheFor(t, nil)
	t.Setenv("PGTEST_CACHE", cache)
	one := pgtest.New(t, pgtest.Dedicated()).Server()
	other := pgtest.New(t, pgtest.Setting("synchronous_commit", "off")).Server()
	shared := pgtest.New(t).Server()
	require.NoError(t, other.Kill(t.Context()))
	require.NoError(t, other.Restart(t.Context()), "it is not forgotten by a crash")

	servers := []*pgtest.Server{one, other, shared}
	passwords := map[string]*pgtest.Server{}
	for _, s := range servers {
		passwords[password(t, s)] = s
	}
	require.Len(t, passwords, len(servers))
	cached, err := filepath.Glob(filepath.Join(cache, "cluster-*", "password"))
	require.NoError(t, err)
	require.Len(t, cached, 1)
	text, err := os.ReadFile(cached[0])
	require.NoError(t, err)
	passwords[string(text)] = nil // what all are copied from
	for _, s := range servers {
		cfg, err := pgx.ParseConfig(s.URL())
		require.NoError(t, err)
		for password, of := range passwords {
			cfg.Password = password
			conn, err := pgx.ConnectConfig(t.Context(), cfg)
			if of == s {
				require.NoError(t, err)
				require.NoError(t, conn.Close(t.Context()))
			} else {
				assert.ErrorContains(t, err, "28P01")
			}
		}
	}
}

func TestStateIsForgottenWithItsDirectory(t *testing.T) {
	cache, dir := cacheFor(t, nil), t.TempDir()
	t.Setenv("PGTEST_CACHE", cache)
	live, err := pgtest.Start(t.Context())
	require.NoError(t, err)
	defer live.Close()
	running, err := filepath.Glob(filepath.Join(cache, "server-*.json"))
	require.NoError(t, err)
	require.Len(t, running, 1)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "open"), 0o755))
	require.NoError(t, os.Symlink(live.Dir(), filepath.Join(dir, "link")))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	for _, name := range []string{"gone", "open", "link", "file", "nonsense"} {
		text, err := json.Marshal(map[string]string{"Dir": filepath.Join(dir, name), "Password": "sesame"})
		require.NoError(t, err)
		if name == "nonsense" {
			text = text[:9]
		}
		require.NoError(t, os.WriteFile(filepath.Join(cache, "server-"+name+".json"), text, 0o600))
	}
	s, err := pgtest.Start(t.Context(), pgtest.Dedicated())
	require.NoError(t, err)
	require.NoError(t, s.Close())
	left, err := filepath.Glob(filepath.Join(cache, "server-*.json"))
	require.NoError(t, err)
	assert.Equal(t, running, left)
}
