package faults_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/pgtest"
)

// cutOff selects the child of Test24NamespaceBlackhole.
const cutOff = "cut off"

// A real network fails between the locker and a real server without an error on either side: the
// holder learns of its loss before the server grants the lock to another session.
func Test24NamespaceBlackhole(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+cutOff)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		lacks(t, "the right to make a network namespace", err)
	}
	text := strings.TrimSpace(string(out))
	t.Log(text)
	var told, freed time.Duration
	_, err = fmt.Sscanf(text, "told after %d ns, freed after %d ns", &told, &freed)
	require.NoError(t, err, text)
	require.Positive(t, told, "the key is free, and its holder was not told")
	assert.Less(t, told, freed)
}

// holdAndCutOff runs in its own network namespace: when the loopback device is down, its
// server still answers over a unix socket.
func holdAndCutOff(ctx context.Context) string {
	if err := loopback(true); err != nil {
		return err.Error()
	}
	server, err := pgtest.Start(ctx, pgtest.Dedicated(), pgtest.Setting("listen_addresses", "127.0.0.1"))
	if err != nil {
		return err.Error()
	}
	defer server.Close()
	db, err := server.New(ctx)
	if err != nil {
		return err.Error()
	}
	defer db.Close()
	u, err := url.Parse(db.URL())
	if err != nil {
		return err.Error()
	}
	u.Host, u.RawQuery = "127.0.0.1:"+u.Query().Get("port"), "sslmode=disable"
	pool, err := pgxpool.New(ctx, u.String())
	if err != nil {
		return err.Error()
	}
	defer pool.Close()
	locker, err := lock.NewPostgres(ctx, pool, &lock.PostgresOptions{Silence: time.Second})
	if err != nil {
		return err.Error()
	}
	held, err := locker.Lock(ctx, key)
	if err != nil {
		return err.Error()
	}
	if err := loopback(false); err != nil {
		return err.Error()
	}
	begun := time.Now()
	var told time.Duration
	for {
		if told == 0 && held.Context().Err() != nil {
			told = time.Since(begun)
		}
		var held bool
		err := db.Pool().QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))").Scan(&held)
		switch {
		case err != nil:
			return err.Error()
		case !held:
			return fmt.Sprintf("told after %d ns, freed after %d ns", told, time.Since(begun))
		case time.Since(begun) > patience:
			return fmt.Sprintf("told after %v, and not freed within %v", told, patience)
		}
		time.Sleep(time.Millisecond)
	}
}

// loopback sets the loopback device up or down (netdevice(7)).
func loopback(up bool) error {
	s, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(s)
	request := struct {
		name  [syscall.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}{name: [syscall.IFNAMSIZ]byte{'l', 'o'}}
	if up {
		request.flags = syscall.IFF_UP
	}
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(s), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request)))
	if errno != 0 {
		return fmt.Errorf("loopback device: %w", errno)
	}
	return nil
}
