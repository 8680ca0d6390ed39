//go:build darwin || dragonfly || freebsd || linux

package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// shares says that the processes of a user share a server.
const shares = true

// account is the user the server runs as; nil means: as we do.
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

func (a *account) owns(info os.FileInfo) bool {
	return ownedBy(info, os.Geteuid()) || a != nil && ownedBy(info, int(a.uid))
}

// give hands an open file or directory to the account.
func (a *account) give(f *os.File) error {
	if a == nil {
		return nil
	}
	return f.Chown(int(a.uid), int(a.gid))
}

// run prepares cmd to run as the account, in a session of its own so that a
// terminal's Ctrl-C for the tests is not one for the server.
func (a *account) run(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if a != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
}

func ownedBy(info os.FileInfo, uid int) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == uid
}

func freeSpace(dir string) (uint64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("%s: %w", dir, err)
	}
	return uint64(st.Bavail) * uint64(st.Bsize), nil
}

// openOwn opens a lock file, never through a link and never blocking on
// something that is no file.
func openOwn(path string, flags int) (*os.File, error) {
	return os.OpenFile(path, flags|os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
}

// tryLock takes the advisory lock of an open file (flock). The kernel frees it
// when the last descriptor is gone, those inherited by children included: a
// server that inherits it is alive for as long as it is held.
func tryLock(f *os.File) (bool, error) {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, syscall.EWOULDBLOCK):
			return false, nil
		case !errors.Is(err, syscall.EINTR):
			return false, fmt.Errorf("pgtest: lock %s: %w", f.Name(), err)
		}
	}
}

// lockFile waits for the lock of the file at path; closing the file frees it.
func lockFile(ctx context.Context, path string) (*os.File, error) {
	f, err := openOwn(path, os.O_CREATE)
	if err != nil {
		return nil, err
	}
	for {
		ok, err := tryLock(f)
		if ok {
			return f, nil
		}
		if err == nil {
			err = pause(ctx, 5*time.Millisecond)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("pgtest: waiting for %s: %w", path, err), f.Close())
		}
	}
}

// lock takes the lock that every process of the server inherits and so holds.
// It fails while one of them lives.
func (in *instance) lock() (*os.File, error) {
	f, err := openOwn(filepath.Join(in.Dir, "alive"), 0)
	if err != nil {
		return nil, err
	}
	ok, err := tryLock(f)
	if err == nil && !ok {
		err = in.running()
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// gone says that no process of the server is left.
func (in *instance) gone() bool {
	f, err := in.lock()
	if err != nil {
		return errors.Is(err, os.ErrNotExist) // the directory went with the last one
	}
	f.Close()
	return true
}

// guard is a shell that clears up after us, should we end before we release it.
type guard struct {
	shell *exec.Cmd
	input io.WriteCloser
}

// guardDirs guards directories that are yet to be made. The second time is for
// what an initdb that outlives us still writes.
func guardDirs(hidden, dir string) (*guard, error) {
	cmd := exec.Command("/bin/sh", "-c", `read -r ok || { rm -rf -- "$0" "$1"; sleep 1; rm -rf -- "$0" "$1"; }`, hidden, dir)
	(*account)(nil).run(cmd)
	return startGuard(cmd)
}

func startGuard(cmd *exec.Cmd) (*guard, error) {
	input, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	return &guard{cmd, input}, cmd.Start()
}

// spawn runs a server program detached from us, its output going to the log.
// It inherits the lock. Its guard ends it, as long as it has no watchdog.
func (in *instance) spawn(lock *os.File, program string, args ...string) (*guard, error) {
	as, err := serverAccount()
	if err != nil {
		return nil, err
	}
	// Until the postmaster has handlers it heeds TERM and ignores QUIT, as what a
	// shell starts in the background does; after that, QUIT is what ends it at once.
	const script = `umask 077
		"$@" </dev/null >>"$0" 2>&1 &
		exec 3>&-
		read -r ok || { kill -TERM $!; kill -QUIT $!; wait; rm -rf -- "${0%/log}"; }`
	cmd := exec.Command("/bin/sh", append([]string{"-c", script, in.log(), program}, args...)...)
	cmd.Dir, cmd.Env = in.Dir, serverEnv()
	cmd.ExtraFiles = []*os.File{lock} // descriptor 3
	as.run(cmd)
	return startGuard(cmd)
}

// release leaves what is guarded to itself.
func (g *guard) release() error {
	_, err := io.WriteString(g.input, "ok\n")
	if err := errors.Join(err, g.input.Close(), g.shell.Wait()); err != nil {
		return fmt.Errorf("pgtest: release a guard: %w", err)
	}
	return nil
}

const (
	stopFast = syscall.SIGINT  // what pg_ctl calls fast
	stopNow  = syscall.SIGQUIT // immediate
	stopHard = syscall.SIGKILL
)

type stopMode = syscall.Signal

func (in *instance) signal(pid int, how stopMode) error {
	if err := syscall.Kill(pid, how); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("pgtest: signal %d: %w", pid, err)
	}
	return nil
}

// family are the processes of a server: first the postmaster, which restarts what
// the death of its children ends, and then these, as far as /proc tells. The
// postmaster stands still, so that there will be no more of them. A child that is
// left behind may wait for ever for a lock that a dead one had.
func family(postmaster int) ([]int, error) {
	if postmaster == 0 {
		return nil, nil
	}
	if err := syscall.Kill(postmaster, syscall.SIGSTOP); err != nil && !errors.Is(err, syscall.ESRCH) {
		return nil, fmt.Errorf("pgtest: signal %d: %w", postmaster, err)
	}
	return append([]int{postmaster}, children(postmaster)...), nil
}

// children are the processes that a process has started, as far as /proc tells.
func children(parent int) (pids []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		stat, _ := os.ReadFile(path) // it may have ended
		behindName := stat[bytes.LastIndexByte(stat, ')')+1:]
		if fields := bytes.Fields(behindName); len(fields) > 1 && string(fields[1]) == strconv.Itoa(parent) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// pausing is a server whose processes stand still. A shell waits beside it and
// lets them go on when its input ends, be it because we end.
type pausing struct {
	shell *exec.Cmd
	input io.WriteCloser
}

func startPausing(postmaster int) (*pausing, error) {
	// It must outlive us, so it must not share our terminal's signals.
	cmd := exec.Command("/bin/sh", "-c", `pids=$0; while read -r pid; do pids="$pids $pid"; done; kill -CONT $pids`, strconv.Itoa(postmaster))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	input, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("pgtest: pause: %w", err)
	}
	p := &pausing{cmd, input}
	if err := syscall.Kill(postmaster, syscall.SIGSTOP); err != nil {
		return nil, errors.Join(fmt.Errorf("pgtest: pause: %w", err), p.end())
	}
	return p, nil
}

func (p *pausing) add(pids []int) error {
	for _, pid := range pids {
		if _, err := fmt.Fprintln(p.input, pid); err != nil { // before it stops, so that it goes on in any case
			return fmt.Errorf("pgtest: pause: %w", err)
		}
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("pgtest: pause: %w", err)
		}
	}
	return nil
}

// end lets all go on. The shell's status tells only whether some had gone.
func (p *pausing) end() error {
	if err := p.input.Close(); err != nil {
		return fmt.Errorf("pgtest: resume: %w", err)
	}
	p.shell.Wait()
	return nil
}

// endProgram is what the watchdog runs, in the data directory: it ends the
// postmaster at once and, when that is gone, removes all that the server had.
// The traps are there because the postmaster passes its end on to the process
// groups of its backends, and this shell is in one.
const endProgram = `(
	trap '' HUP INT QUIT TERM
	read -r pid <postmaster.pid
	data=$(pwd -P) && cd / && kill -QUIT "$pid"
	i=0
	while [ -e "$data/postmaster.pid" ] && [ $i -lt 200 ]; do sleep 0.05; i=$((i+1)); done
	rm -rf -- "${data%/data}"
) </dev/null >/dev/null 2>&1 &`
