//go:build darwin || dragonfly || freebsd || linux

package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
	"time"
)

// account is the user that the server runs as; nil is our own. For root, the account is
// not trusted: we act in its directories only as that user, or through handles that it
// cannot redirect (see directory).
type account struct{ uid, gid uint32 }

// serverAccount returns the user for the server: our own, unless that is root, as which
// PostgreSQL refuses to run.
func serverAccount() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	var tried []error
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			tried = append(tried, err)
			continue
		}
		uid, errU := strconv.ParseInt(u.Uid, 10, 64)
		gid, errG := strconv.ParseInt(u.Gid, 10, 64)
		if err := errors.Join(errU, errG); err != nil {
			return nil, fmt.Errorf("pgtest: user %s: %w", name, err)
		}
		return &account{uint32(uid), uint32(gid)}, nil // from signed numbers: on macOS, nobody is -2
	}
	return nil, fmt.Errorf("pgtest: running as root, and no user to run PostgreSQL as: %w", errors.Join(tried...))
}

func (a *account) id() uint32 {
	if a == nil {
		return uint32(os.Geteuid())
	}
	return a.uid
}

func (a *account) owns(info os.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Uid == a.id()
}

// give makes the account the owner of an open file or directory.
func (a *account) give(f *os.File) error {
	if a == nil {
		return nil
	}
	return f.Chown(int(a.uid), int(a.gid))
}

// command returns a command that runs as the account, in its own session, so that Ctrl-C
// in the tests' terminal does not reach the server. Its environment is [serverEnv] and, for
// our own account, what wrappers and loaders need.
func (a *account) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.WaitDelay = outputWait
	cmd.Dir, cmd.SysProcAttr = "/", &syscall.SysProcAttr{Setsid: true}
	if a == nil {
		cmd.Env = serverEnv("HOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
	} else {
		cmd.Env = serverEnv()
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
	return cmd
}

// passedOn are the environment variables that the server's programs get.
var passedOn = []string{"PATH"}

// commandTime limits the small commands.
const commandTime = time.Minute

// removeAll removes a directory of the account with its contents, as that account.
func (a *account) removeAll(dir string) error {
	if a == nil {
		return os.RemoveAll(dir)
	}
	ctx, cancel := context.WithTimeout(context.Background(), commandTime)
	defer cancel()
	if out, err := a.command(ctx, "rm", "-rf", "--", dir).CombinedOutput(); err != nil {
		return fmt.Errorf("pgtest: remove %s: %w: %s", dir, err, bytes.TrimSpace(out))
	}
	return nil
}

// private reports whether a directory is one that only the account, and root, can enter.
func private(info os.FileInfo, a *account) bool {
	return info.IsDir() && a.owns(info) && info.Mode().Perm()&0o077 == 0
}

// safe reports whether an entry of this directory can be replaced only by the entry's
// owner, us and root. The group may have write permission if it is root's, or our own
// private group, which by convention has the user's number.
func safe(info os.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	uid := uint32(os.Geteuid())
	if !ok || !info.IsDir() || st.Uid != 0 && st.Uid != uid {
		return false
	}
	others := os.FileMode(0o022)
	if st.Gid == 0 || st.Gid == uint32(os.Getegid()) && st.Gid == uid {
		others = 0o002
	}
	return info.Mode()&os.ModeSticky != 0 || info.Mode().Perm()&others == 0
}
