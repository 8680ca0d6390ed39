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
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// shares says that the processes of a user share a server.
const shares = true

func freeSpace(dir string) (uint64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("%s: %w", dir, err)
	}
	return uint64(st.Bavail) * uint64(st.Bsize), nil
}

// neverWait opens what may be a pipe without waiting for its other end.
const neverWait = syscall.O_NONBLOCK

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

// lockFile waits for the lock of the file at path, in a directory that only we can
// write; closing the file frees it.
func lockFile(ctx context.Context, path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
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
	f, err := in.dir.file(aliveFile, os.O_RDWR)
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
		return removed(err) // the directory went with the last one
	}
	f.Close()
	return true
}

// guard is a shell that clears up after us, should we end before we release it.
type guard struct {
	shell *exec.Cmd
	input io.WriteCloser
}

// guardDirs guards directories of the account, or such that are yet to be made.
// The second time is for what an initdb that outlives us still writes.
//
// Everybody knows the names, and can make something of that name before we do and
// after it is gone. So the shell first enters the directory, in which it stays
// whatever the name leads to later, and looks there whether it is the right one:
// in a directory of its user's, which another cannot put in its place.
func (a *account) guardDirs(dirs ...string) (*guard, error) {
	const script = `clear() {
			for dir; do
				(cd "$dir" && [ "$(pwd -P)" = "$dir" ] && [ -O . ] && rm -rf -- * .[!.]*)
				rmdir "$dir"
			done 2>/dev/null
		}
		read -r ok || { clear "$@"; sleep 1; clear "$@"; }`
	return startGuard(a.command(context.Background(), "/bin/sh", append([]string{"-c", script, "sh"}, dirs...)...))
}

func startGuard(cmd *exec.Cmd) (*guard, error) {
	input, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	return &guard{cmd, input}, cmd.Start()
}

// spawn runs the postmaster detached from us, its output going to the log. It
// inherits the lock. Its guard ends it, as long as it has no watchdog.
func (in *instance) spawn(lock *os.File) (*guard, error) {
	// Until the postmaster has handlers it heeds TERM and ignores QUIT, as what a
	// shell starts in the background does; after that, QUIT is what ends it at once.
	const script = `umask 077
		cd "$0" || exit
		"$1" -D "$0/data" </dev/null >>log 2>&1 &
		exec 3>&-
		read -r ok || { kill -TERM $!; kill -QUIT $!; wait; cd /; rm -rf -- "$0"; }`
	cmd := in.dir.as.command(context.Background(), "/bin/sh", "-c", script, in.Dir, filepath.Join(in.Bin, "postgres"))
	cmd.ExtraFiles = []*os.File{lock} // descriptor 3
	return startGuard(cmd)
}

// release leaves what is guarded to itself.
func release(guards ...*guard) error {
	var errs []error
	for _, g := range guards {
		_, err := io.WriteString(g.input, "ok\n")
		errs = append(errs, err, g.input.Close())
	}
	for _, g := range guards {
		late := time.AfterFunc(commandTime, func() { g.shell.Process.Kill() }) // its user may have stopped it
		errs = append(errs, g.shell.Wait())
		late.Stop()
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("pgtest: release a guard: %w", err)
	}
	return nil
}

type stopMode = syscall.Signal

const (
	stopFast = syscall.SIGINT  // what pg_ctl calls fast
	stopNow  = syscall.SIGQUIT // immediate
	stopHard = syscall.SIGKILL
)

// signal signals processes of the server as its user: it is that user's word that
// they are. Those that have ended are passed over.
func (in *instance) signal(how stopMode, pids ...int) error {
	const script = `for pid; do kill -"$0" "$pid" 2>/dev/null || echo "$pid"; done`
	args := []string{"-c", script, strconv.Itoa(int(how))}
	for _, pid := range pids {
		if pid < 2 {
			return fmt.Errorf("pgtest: signal %d: no server process has such an id", pid)
		}
		args = append(args, strconv.Itoa(pid))
	}
	ctx, cancel := context.WithTimeout(context.Background(), commandTime)
	defer cancel()
	out, err := in.dir.as.command(ctx, "/bin/sh", args...).Output()
	if err != nil {
		return fmt.Errorf("pgtest: signal %v: %w", pids, err)
	}
	for _, text := range strings.Fields(string(out)) {
		pid, err := strconv.Atoi(text)
		if err != nil || !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return fmt.Errorf("pgtest: signal %s: it is no process of the server's user", text)
		}
	}
	return nil
}

// family are the processes of a server: first the postmaster, which restarts what
// the death of its children ends, and then these, as far as /proc tells. The
// postmaster stands still, so that there will be no more of them. A child that is
// left behind may wait for ever for a lock that a dead one had.
func (in *instance) family(postmaster int) ([]int, error) {
	if postmaster == 0 {
		return nil, nil
	}
	if err := in.signal(syscall.SIGSTOP, postmaster); err != nil {
		return nil, err
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
	in    *instance
	shell *exec.Cmd
	input io.WriteCloser
}

func (in *instance) startPausing(postmaster int) (*pausing, error) {
	const script = `pids=$0; while read -r pid; do pids="$pids $pid"; done; kill -CONT $pids`
	cmd := in.dir.as.command(context.Background(), "/bin/sh", "-c", script, strconv.Itoa(postmaster))
	input, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("pgtest: pause: %w", err)
	}
	p := &pausing{in, cmd, input}
	if err := p.in.signal(syscall.SIGSTOP, postmaster); err != nil {
		return nil, errors.Join(err, p.end())
	}
	return p, nil
}

func (p *pausing) add(pids []int) error {
	for _, pid := range pids {
		if _, err := fmt.Fprintln(p.input, pid); err != nil { // before it stops, so that it goes on in any case
			return fmt.Errorf("pgtest: pause: %w", err)
		}
	}
	return p.in.signal(syscall.SIGSTOP, pids...)
}

// end lets all go on. The shell's status tells only whether some had gone.
func (p *pausing) end() error {
	defer time.AfterFunc(commandTime, func() { p.shell.Process.Kill() }).Stop()
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
