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

// shares reports whether the processes of a user share a server.
const shares = true

func freeSpace(dir string) (uint64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("%s: %w", dir, err)
	}
	return uint64(st.Bavail) * uint64(st.Bsize), nil
}

// neverWait opens what may be a pipe without blocking.
const neverWait = syscall.O_NONBLOCK

// tryLock takes the advisory lock of an open file (flock). The kernel releases it when the
// last descriptor is closed, including those that children inherit: while a server's lock
// is held, one of its processes runs.
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

// lockFile waits for the lock of the file at path; closing the file releases it. Only we
// may be able to write to its directory.
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

// lock takes the lock that every process of the server inherits. It fails while one of
// them runs.
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

// gone reports whether no process of the server is left.
func (in *instance) gone() bool {
	f, err := in.lock()
	if err != nil {
		return removed(err) // the directory was removed after the last one
	}
	f.Close()
	return true
}

// guard is a shell that acts when its input ends, also if that is because this process ends.
// Most guards clean up, unless they are released before.
type guard struct {
	shell *exec.Cmd
	input io.WriteCloser
}

// guardDirs guards directories of the account, which need not exist yet. The guard clears
// twice, because an initdb that outlives this process may still write.
//
// Other users can see the names, and create something there before us or after the removal.
// So the shell first enters the directory, where it stays whatever happens to the name, and
// then checks that its own user owns the directory.
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
	if err == nil {
		err = cmd.Start()
	}
	return &guard{cmd, input}, err
}

// spawn starts the postmaster, detached from this process; it inherits the lock and writes
// to the log. The guard ends it if this process ends before there is a watchdog.
func (in *instance) spawn(lock *os.File) (*guard, error) {
	// Before the postmaster has installed its handlers, TERM ends it and QUIT is ignored,
	// as a shell sets it for background commands. Afterwards, QUIT ends it at once.
	const script = `umask 077
		cd "$0" || exit
		"$1" -D "$0/data" </dev/null >>log 2>&1 &
		exec 3>&-
		read -r ok || { kill -TERM $!; kill -QUIT $!; wait; cd /; rm -rf -- "$0"; }`
	cmd := in.dir.as.command(context.Background(), "/bin/sh", "-c", script, in.Dir, filepath.Join(in.Bin, "postgres"))
	cmd.ExtraFiles = []*os.File{lock} // descriptor 3
	return startGuard(cmd)
}

// release ends guards without cleaning up.
func release(guards ...*guard) error {
	var errs []error
	for _, g := range guards {
		_, err := io.WriteString(g.input, "ok\n")
		errs = append(errs, err, g.input.Close())
	}
	for _, g := range guards {
		late := time.AfterFunc(commandTime, func() { g.shell.Process.Kill() }) // the server's user may have stopped it
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

// signal signals processes of the server, as its user, because the ids come from that
// user's files. Processes that have ended are ignored.
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

// processes stops the postmaster (SIGSTOP), so that it starts no more children, and returns
// it and then its children, as far as /proc shows them. The postmaster must be killed first:
// it replaces children that die. A child that is left may wait forever for a lock that a
// killed one held.
func (in *instance) processes(postmaster int) ([]int, error) {
	if postmaster == 0 {
		return nil, nil
	}
	if err := in.signal(syscall.SIGSTOP, postmaster); err != nil {
		return nil, err
	}
	return append([]int{postmaster}, children(postmaster)...), nil
}

// children returns the child processes of a process, as far as /proc shows them.
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

// pausing is a paused server. Its guard resumes the processes.
type pausing struct {
	in *instance
	*guard
}

func (in *instance) startPausing(postmaster int) (*pausing, error) {
	const script = `pids=$0; while read -r pid; do pids="$pids $pid"; done; kill -CONT $pids`
	g, err := startGuard(in.dir.as.command(context.Background(), "/bin/sh", "-c", script, strconv.Itoa(postmaster)))
	if err != nil {
		return nil, fmt.Errorf("pgtest: pause: %w", err)
	}
	p := &pausing{in, g}
	if err := p.in.signal(syscall.SIGSTOP, postmaster); err != nil {
		return nil, errors.Join(err, p.end())
	}
	return p, nil
}

func (p *pausing) add(pids []int) error {
	for _, pid := range pids {
		if _, err := fmt.Fprintln(p.input, pid); err != nil { // before the signal, so that it is resumed in any case
			return fmt.Errorf("pgtest: pause: %w", err)
		}
	}
	return p.in.signal(syscall.SIGSTOP, pids...)
}

// end resumes all processes. The shell's status is ignored: it only says whether some had ended.
func (p *pausing) end() error {
	defer time.AfterFunc(commandTime, func() { p.shell.Process.Kill() }).Stop()
	if err := p.input.Close(); err != nil {
		return fmt.Errorf("pgtest: resume: %w", err)
	}
	p.shell.Wait()
	return nil
}

// endProgram is what the watchdog runs in the data directory: it ends the postmaster at
// once and then removes the server's directory. It ignores signals because the postmaster
// signals the process groups of its backends, and this shell is in one.
const endProgram = `(
	trap '' HUP INT QUIT TERM
	read -r pid <postmaster.pid
	data=$(pwd -P) && cd / && kill -QUIT "$pid"
	i=0
	while [ -e "$data/postmaster.pid" ] && [ $i -lt 200 ]; do sleep 0.05; i=$((i+1)); done
	rm -rf -- "${data%/data}"
) </dev/null >/dev/null 2>&1 &`
