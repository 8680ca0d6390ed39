//go:build !(darwin || dragonfly || freebsd || linux)

package pgtest

import (
	"context"
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// This file is for Windows and others, where it builds and was never run. A server cannot
// inherit a lock there, so servers are not shared: each process has its own.
const shares = false

type account struct{}

func serverAccount() (*account, error) { return nil, nil }

func (*account) owns(os.FileInfo) bool      { return true }
func (*account) give(*os.File) error        { return nil }
func (*account) removeAll(dir string) error { return os.RemoveAll(dir) }

func (*account) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.WaitDelay = outputWait
	cmd.Env = serverEnv()
	return cmd
}

// passedOn are the environment variables that the server's programs get.
var passedOn = []string{"PATH", "SystemRoot", "SystemDrive", "ComSpec", "PATHEXT", "TEMP", "TMP"}

func private(info os.FileInfo, _ *account) bool { return info.IsDir() }
func safe(info os.FileInfo) bool                { return info.IsDir() }
func freeSpace(string) (uint64, error)          { return math.MaxUint64, nil }

const neverWait = 0

func tryLock(*os.File) (bool, error) { return true, nil }

func lockFile(_ context.Context, path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
}

// lock fails while the postmaster runs.
func (in *instance) lock() (*os.File, error) {
	if !in.gone() {
		return nil, in.running()
	}
	return in.dir.file(aliveFile, os.O_RDWR)
}

// gone reports whether no postmaster runs; backends end with it.
func (in *instance) gone() bool {
	pid, err := strconv.Atoi(in.pidLine(1))
	if err != nil {
		return true
	}
	process, err := os.FindProcess(pid)
	if err != nil {
		return true
	}
	process.Release()
	return false
}

type guard struct{}

func release(...*guard) error { return nil }

func (*account) guardDirs(...string) (*guard, error) { return &guard{}, nil }

func (in *instance) spawn(*os.File) (*guard, error) {
	log, err := os.OpenFile(filepath.Join(in.Dir, logFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := in.dir.as.command(context.Background(), filepath.Join(in.Bin, "postgres"), "-D", filepath.Join(in.Dir, "data"))
	// The watchdog finds pg_ctl on the PATH.
	cmd.Dir, cmd.Env = in.Dir, append(cmd.Env, "PATH="+in.Bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &guard{}, cmd.Process.Release()
}

type stopMode string

const (
	stopFast stopMode = "INT"
	stopNow  stopMode = "QUIT"
	stopHard stopMode = "KILL"
)

func (in *instance) signal(how stopMode, pids ...int) error {
	for _, pid := range pids {
		if err := exec.Command(filepath.Join(in.Bin, "pg_ctl"), "kill", string(how), strconv.Itoa(pid)).Run(); err != nil {
			return err
		}
	}
	return nil
}

// processes returns the postmaster alone: the server itself must list its backends.
func (in *instance) processes(postmaster int) ([]int, error) {
	if postmaster == 0 {
		return nil, nil
	}
	return []int{postmaster}, nil
}

type pausing struct{}

func (in *instance) startPausing(int) (*pausing, error) {
	return nil, errors.New("pgtest: pause: not on this system")
}
func (*pausing) add([]int) error { return nil }
func (*pausing) end() error      { return nil }

// endProgram ends the server. The next server's sweep removes its directory.
const endProgram = `pg_ctl stop --pgdata=. --mode=immediate --no-wait`
