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

// account is the user the server runs as; nil means: as we do. Where we are root
// it is not to be trusted: what is done in its directories is done as it, or
// through handles that it cannot redirect (see directory).
type account struct{ uid, gid uint32 }

// serverAccount is the user for the server: ourselves, except that PostgreSQL
// refuses to run as root.
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
		return &account{uint32(uid), uint32(gid)}, nil // nobody is -2 on macOS
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

// give hands an open file or directory to the account.
func (a *account) give(f *os.File) error {
	if a == nil {
		return nil
	}
	return f.Chown(int(a.uid), int(a.gid))
}

// command is a program that runs as the account, in a session of its own so that
// a terminal's Ctrl-C for the tests is not one for the server. Of our environment
// it has what [serverEnv] says, and where it is ours what wrappers and loaders need.
func (a *account) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.SysProcAttr = "/", &syscall.SysProcAttr{Setsid: true}
	if a == nil {
		cmd.Env = serverEnv("HOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
	} else {
		cmd.Env = serverEnv()
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
	return cmd
}

// passedOn are the variables that the server's programs get of our environment.
var passedOn = []string{"PATH"}

// commandTime bounds what a small command may take.
const commandTime = time.Minute

// removeAll removes a directory of the account with all that is in it.
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

// private says that a directory is one which only this user, and root, can enter.
func private(info os.FileInfo, a *account) bool {
	return info.IsDir() && a.owns(info) && info.Mode().Perm()&0o077 == 0
}

// safe says that of what lies in a directory only its owner, we and root can
// replace it. A group may write where it is root's, or the user's own, which by
// convention has the user's number.
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
