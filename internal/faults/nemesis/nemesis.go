package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/lockstore/internal/faults/history"
	"example.com/lockstore/internal/faults/workload"
	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// What must hold, beside the rules of history.
const (
	liveness = "liveness"             // who is not disturbed any more makes progress within
	soon     = 20 * time.Second       // so long
	late     = 500 * time.Millisecond // for a holder to be told that it has lost a lock
)

// A nemesis is a server, processes that use it, and the faults of both.
type nemesis struct {
	seed    uint64
	workers int
	hasty   int
	seconds int
	only    string
	keep    string // file for the history; empty: none
	rand    *rand.Rand
	server  *pgtest.Server
	db      *pgtest.DB
	clients []*client
	log     history.Log
	cleanup []func()

	started  map[string]int
	pauses   []history.Pause
	recovery time.Duration
	leaks    []string
	found    []history.Violation
}

// A client is a process that uses lockstore, over a network of its own. A
// process that is killed has a successor.
type client struct {
	n          *nemesis
	slot       int
	generation int
	proxy      *pgtest.Proxy
	cmd        *exec.Cmd
	in         io.WriteCloser
	read       chan struct{} // closed when all that the process told has been read

	mu     sync.Mutex
	worked time.Time // when the last call that succeeded began
	stderr strings.Builder
}

// process is the number of this generation's events.
func (c *client) process() int { return c.generation<<8 | c.slot }

func (n *nemesis) run(ctx context.Context, processes int) (r Report, err error) {
	n.rand = rand.New(rand.NewPCG(n.seed, 0))
	defer func() {
		for i := len(n.cleanup) - 1; i >= 0; i-- {
			n.cleanup[i]()
		}
	}()
	if n.server, err = pgtest.Start(ctx, pgtest.Dedicated(), pgtest.Setting("max_connections", "80")); err != nil {
		return r, err
	}
	n.cleanup = append(n.cleanup, func() { n.server.Close() })
	if n.db, err = n.server.New(ctx); err != nil {
		return r, err
	}
	store, err := metadata.NewPostgres(n.db.Pool(), nil)
	if err != nil {
		return r, err
	}
	defer store.Close()
	if err := store.Migrate(ctx); err != nil {
		return r, err
	}
	for slot := range processes {
		c := &client{n: n, slot: slot, proxy: pgtest.NewProxy(n, n.db)}
		n.clients = append(n.clients, c)
		if err := c.start(); err != nil {
			return r, err
		}
	}
	n.recovered("the beginning")
	n.rage(ctx)
	n.recovered("the end")
	for _, c := range n.clients {
		c.stop()
	}
	n.left(ctx)

	events := n.log.Events()
	if n.keep != "" {
		if err := history.Save(n.keep, events); err != nil {
			return r, err
		}
	}
	final, err := n.final(ctx, store)
	if err != nil {
		return r, err
	}
	v := history.Check(events, final, n.pauses, late)
	r = Report{
		Seed: n.seed, Seconds: n.seconds, Faults: n.started, FaultKinds: len(n.started),
		Recovery: ms(n.recovery), Overlap: ms(v.Overlap), Windows: v.Windows,
		Violations: append(append([]history.Violation{}, v.Violations...), n.found...), Leaks: append([]string{}, n.leaks...),
	}
	r.count(events)
	return r, nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (n *nemesis) final(ctx context.Context, store *metadata.Postgres) (map[string]history.Final, error) {
	final := map[string]history.Final{}
	for doc, err := range store.Find(ctx, json.RawMessage(`{}`), nil) {
		if err != nil {
			return nil, err
		}
		final[doc.ID] = history.Final{Version: doc.Version, Document: doc.Metadata}
	}
	return final, nil
}

func (c *client) start() error {
	c.generation++
	o, err := json.Marshal(order{c.proxy.URL(), workload.Config{
		Process: c.slot, Generation: c.generation, Workers: c.n.workers, Hasty: c.n.hasty, Hot: 4, Cold: 500,
		Patience: 5 * time.Second, Pause: 2 * time.Millisecond, Seed: c.n.seed,
	}})
	if err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	cores := []int{1, 2, 8}[c.n.rand.IntN(3)] // that it thinks it has
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
	c.read = make(chan struct{})
	process, read := c.process(), c.read
	go func() {
		defer close(read)
		_ = history.Read(out, func(e history.Event) {
			e.Process = process
			c.n.log.Add(e)
			if e.Outcome == history.OK && e.Kind != history.Get {
				c.mu.Lock()
				if e.Call.After(c.worked) {
					c.worked = e.Call
				}
				c.mu.Unlock()
			}
		})
	}()
	return nil
}

// Write takes what a client says on its standard error.
func (c *client) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stderr.Write(p)
}

// kill ends a client without notice.
func (c *client) kill() {
	at := time.Now()
	_ = c.cmd.Process.Kill()
	<-c.read
	_ = c.cmd.Wait()
	c.n.log.Ended(c.process(), at)
}

// stop has a client end, and say what it leaves behind.
func (c *client) stop() {
	_ = c.in.Close()
	stuck := time.AfterFunc(3*soon, func() { _ = c.cmd.Process.Signal(syscall.SIGQUIT) })
	<-c.read
	err := c.cmd.Wait()
	stuck.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil || c.stderr.Len() > 0 {
		c.n.leaks = append(c.n.leaks, fmt.Sprintf("process %d: %v: %s", c.process(), err, c.stderr.String()))
	}
}

// recovered waits until every client has done something again.
func (n *nemesis) recovered(what string) {
	healed := time.Now()
	for _, c := range n.clients {
		for {
			c.mu.Lock()
			works := c.worked.After(healed)
			c.mu.Unlock()
			if works {
				break
			}
			if time.Since(healed) > soon {
				n.found = append(n.found, history.Violation{Rule: liveness, Key: fmt.Sprint("process ", c.process()), Reason: fmt.Sprintf("no call succeeded within %v of %s", soon, what)})
				return
			}
			time.Sleep(time.Millisecond)
		}
	}
	n.recovery = max(n.recovery, time.Since(healed))
}

// left finds what the clients have left in the server.
func (n *nemesis) left(ctx context.Context) {
	const sql = `SELECT count(*) FILTER (WHERE l.pid IS NOT NULL), count(DISTINCT a.pid) FROM pg_stat_activity AS a
		LEFT JOIN pg_locks AS l ON l.pid = a.pid AND l.locktype = 'advisory'
		WHERE a.datname = current_database() AND a.backend_type = 'client backend' AND a.pid <> pg_backend_pid()`
	n.db.Pool().Reset()
	var locks, sessions int
	for deadline := time.Now().Add(soon); ; time.Sleep(10 * time.Millisecond) {
		err := n.db.Pool().QueryRow(ctx, sql).Scan(&locks, &sessions)
		if err == nil && locks+sessions == 0 {
			return
		}
		if time.Now().After(deadline) {
			n.leaks = append(n.leaks, fmt.Sprintf("the server has %d advisory locks and %d sessions: %v", locks, sessions, err))
			return
		}
	}
}

// ask runs a statement for the nemesis itself.
func (n *nemesis) ask(ctx context.Context, sql string, args ...any) error {
	conn, err := pgx.Connect(ctx, n.db.URL())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql, args...)
	return err
}

// The methods of pgtest.TB.

func (n *nemesis) Helper()                           {}
func (n *nemesis) Name() string                      { return "nemesis" }
func (n *nemesis) Cleanup(f func())                  { n.cleanup = append(n.cleanup, f) }
func (n *nemesis) Failed() bool                      { return false }
func (n *nemesis) Logf(format string, args ...any)   { fmt.Fprintf(os.Stderr, format+"\n", args...) }
func (n *nemesis) Errorf(format string, args ...any) { n.Logf(format, args...) }
func (n *nemesis) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
