package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"example.com/lockstore/internal/faults/history"
	"example.com/lockstore/internal/faults/workload"
	"example.com/lockstore/internal/squatter"
	"example.com/lockstore/pgtest"
)

// A client is a process that uses lockstore over its own network. A killed process gets a
// successor.
type client struct {
	n          *nemesis
	slot       int
	generation int
	proxy      *pgtest.Proxy
	cmd        *exec.Cmd
	in         io.WriteCloser
	read       chan struct{} // closed when all output of the process has been read

	mu     sync.Mutex
	killed bool      // otherwise, it ends when its input does
	worked time.Time // when the last call that succeeded began
	stderr strings.Builder
}

// process returns the process number in this generation's events.
func (c *client) process() int { return c.generation<<8 | c.slot }

func (c *client) start() error {
	c.generation++
	paths := squatter.Paths(app)
	work := order{
		URL: c.proxy.URL(), SearchPath: paths[c.slot%len(paths)], Listen: c.slot == 0, LibPQ: c.slot == 1, Tenancy: !c.n.peaceful, Elsewhere: c.n.elsewhere.Name(), Timeout: 3 * time.Second, Silence: silence,
		Config: workload.Config{
			Process: c.slot, Generation: c.generation, Workers: c.n.workers, Hasty: c.n.hasty, Watchers: c.n.watchers, Repeaters: c.n.repeaters, Hot: 4, Cold: 500,
			Patience: 5 * time.Second, Pause: 2 * time.Millisecond, Grace: time.Second, Seed: c.n.seed,
		},
	}
	if c.n.peaceful { // a busy machine must not look like harm
		work.Timeout, work.Silence, work.Config.Grace, work.Elsewhere = 0, 0, time.Hour, ""
	}
	o, err := json.Marshal(work)
	if err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	cores := []int{1, 2, 8}[c.n.rand.IntN(3)] // its GOMAXPROCS
	c.n.Logf("process %d: GOMAXPROCS %d", c.process(), cores)
	c.cmd = exec.Command(program)
	c.cmd.Env = append(os.Environ(), childEnv+"="+string(o), fmt.Sprint("GOMAXPROCS=", cores))
	c.cmd.Stderr = c
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.cmd.Start(); err != nil {
		return err
	}
	c.read, c.killed = make(chan struct{}), false
	process, read := c.process(), c.read
	go func() {
		defer close(read)
		_ = history.Read(out, func(e history.Event) {
			e.Process = process
			if e.Kind == history.Stall {
				if e.Outcome == history.OK {
					c.n.pause(history.Pause{Process: process, From: e.Call, To: e.Return})
				}
				return
			}
			c.n.log.Add(e)
			if e.Outcome == history.OK && e.Kind != history.Get && e.Kind != history.Eviction {
				c.mu.Lock()
				if e.Call.After(c.worked) {
					c.worked = e.Call
				}
				c.mu.Unlock()
			}
		})
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.killed {
			c.n.log.Ended(process, time.Now())
		}
	}()
	return nil
}

// Write receives a client's standard error.
func (c *client) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stderr.Write(p)
}

// order makes a client do something in addition for a while.
func (c *client) order(what string, d time.Duration) error {
	_, err := fmt.Fprintln(c.in, what, d)
	return err
}

// kill ends a client without notice.
func (c *client) kill() {
	at := time.Now()
	c.mu.Lock()
	c.killed = true
	c.mu.Unlock()
	_ = c.cmd.Process.Kill()
	<-c.read
	_ = c.cmd.Wait()
	c.n.log.Ended(c.process(), at)
	c.left(nil)
}

// stop ends a client and records what it left behind.
func (c *client) stop() {
	_ = c.in.Close()
	stuck := time.AfterFunc(3*soon, func() { _ = c.cmd.Process.Signal(syscall.SIGQUIT) })
	<-c.read
	err := c.cmd.Wait()
	stuck.Stop()
	c.left(err)
}

// left records what an ended process reported to have left behind, if anything.
func (c *client) left(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil || c.stderr.Len() > 0 {
		c.n.leaks = append(c.n.leaks, fmt.Sprintf("process %d: %v: %s", c.process(), err, c.stderr.String()))
		c.stderr.Reset()
	}
}

func (c *client) workedAfter(t time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.worked.After(t)
}

// ended reports whether the process has ended.
func (c *client) ended() bool {
	select {
	case <-c.read:
		return true
	default:
		return false
	}
}
