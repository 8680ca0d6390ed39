package faults_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/internal/faults/history"
	"example.com/lockstore/metadata"
)

var (
	withCluster  = flag.Bool("cluster", false, "have TestCluster run a cluster of three servers, for about two minutes")
	asynchronous = flag.Bool("async", false, "replicate asynchronously in TestCluster: what a failover loses is only counted")
)

// enclosedEnv is set in the process that is enclosed in the cluster's namespaces.
const enclosedEnv = "LOCKSTORE_FAULTS_ENCLOSED"

// clusterGrace is how long after the server's loss of a lock its holder may learn of it.
// clusterTarget is the time within which all clients should work again.
const (
	clusterGrace  = time.Second
	clusterTarget = time.Second
)

// A primary, and what leads to it, is switched, killed, frozen and cut off, while processes
// lock and write.
func TestCluster(t *testing.T) {
	if !*withCluster {
		t.Skip("-cluster is not set")
	}
	if os.Getenv(enclosedEnv) != "" {
		require.NoError(t, enclose())
		testCluster(t)
		return
	}
	if err := clusterLacks(); err != nil {
		lacks(t, "for a cluster", err)
	}
	runtime.LockOSThread() // what a thread has started would end with the thread
	cmd := exec.Command("/proc/self/exe", append(os.Args[1:], "-test.run=^TestCluster$", "-test.testlogfile=")...)
	cmd.Env = append(os.Environ(), enclosedEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	require.NoError(t, cmd.Run())
}

// A disturbance does something to a cluster, and undoes it at once, or by undo.
type disturbance struct {
	name  string
	moves bool // another becomes the primary
	do    func(c *cluster, primary *node) (undo func())
}

var disturbances = []disturbance{
	{"switchover", true, func(c *cluster, _ *node) func() { c.switchover(); return nil }},
	{"primary's postmaster killed", true, func(c *cluster, primary *node) func() {
		require.NoError(c, syscall.Kill(primary.postmaster(), syscall.SIGKILL))
		return nil
	}},
	{"primary frozen for 3 s", false, func(_ *cluster, primary *node) func() {
		primary.freeze(all)
		time.Sleep(3 * time.Second)
		primary.resume()
		return nil
	}},
	{"primary frozen, resumed after its successor began", true, func(_ *cluster, primary *node) func() {
		primary.freeze(all)
		return primary.resume
	}},
	{"primary cut off", true, func(_ *cluster, primary *node) func() {
		primary.connected(false)
		return func() { primary.connected(true) }
	}},
	{"primary's Patroni frozen until 2 s after its successor began", false, func(c *cluster, primary *node) func() {
		primary.freeze(patroni)
		c.await(func() bool { return c.is("leader") != primary }, "other primary")
		time.Sleep(2 * time.Second) // while there are two primaries
		primary.resume()
		return nil
	}},
	{"standby frozen for 3 s", false, func(c *cluster, _ *node) func() {
		standby := c.is(map[bool]string{true: "sync_standby", false: "replica"}[c.sync])
		standby.freeze(all)
		time.Sleep(3 * time.Second)
		standby.resume()
		return nil
	}},
	{"HAProxy gone for 3 s", false, func(c *cluster, _ *node) func() {
		c.stopHAProxy()
		time.Sleep(3 * time.Second)
		c.startHAProxy()
		return nil
	}},
}

func testCluster(t *testing.T) {
	c := newCluster(t, !*asynchronous)
	c.settle()
	clients := c.clients()
	assert.NotEmpty(t, c.mutant(clients[1]), "read-modify-writes whose reads are not fenced")

	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var working sync.WaitGroup
	watch := &probe{primary: map[*node][]time.Time{}}
	for _, n := range c.nodes {
		working.Go(func() { watch.ask(ctx, n) })
	}
	var log history.Log
	for _, u := range clients {
		working.Go(func() { c.work(ctx, u, &log) })
	}
	c.recovered(clients, time.Now())
	var table, late strings.Builder
	columns := tabwriter.NewWriter(&table, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(columns, "ms\twithout primary\twith two\t")
	for _, u := range clients {
		fmt.Fprintf(columns, "%s: by hand\tmerge\tlock\t", u.name)
	}
	fmt.Fprintln(columns)
	for _, d := range disturbances {
		c.disturb(d, watch, clients, columns, &late)
	}
	stop()
	working.Wait()
	_ = columns.Flush()
	fmt.Print(table.String(), late.String())
	c.judge(log.Events(), watch, clients)
}

// settle creates what the clients use.
func (c *cluster) settle() {
	c.Helper()
	leader := c.is("leader")
	require.NoError(c, leader.ask("postgres", "CREATE ROLE app LOGIN"))
	require.NoError(c, leader.ask("postgres", "CREATE DATABASE app OWNER app"))
	store := c.final()
	defer store.Close()
	require.NoError(c, store.Migrate(context.Background()))
	require.NoError(c, leader.ask("app", `SET ROLE app; CREATE TABLE mutant (LIKE lockstore_metadata INCLUDING ALL);
		CREATE TABLE by_hand AS SELECT id, 0 AS n FROM generate_series(0, 1) AS id; RESET ROLE; CREATE TABLE probe (at timestamptz DEFAULT now())`))
	for _, n := range c.nodes {
		var there bool
		c.await(func() bool {
			return n.ask("app", "SELECT to_regclass('probe') IS NOT NULL", &there) == nil && there
		}, "table on "+n.name)
	}
}

// final returns a store at the primary, which does not depend on the network.
func (c *cluster) final() *metadata.Postgres {
	c.Helper()
	store, err := metadata.NewPostgres(c.pool(context.Background(), "host="+c.is("leader").dir+" user=app dbname=app"), nil)
	require.NoError(c, err)
	return store
}

// recovered waits until every client has merged, locked and written by hand since a time.
func (c *cluster) recovered(clients []*client, since time.Time) {
	c.Helper()
	c.await(func() bool {
		for _, u := range clients {
			for _, s := range []*successes{&u.merge, &u.lock, &u.hand} {
				if s.after(since).IsZero() {
					return false
				}
			}
		}
		return true
	}, "recovery of everybody")
}

// disturb causes a disturbance, waits until all clients work again, and records how long that
// took, and the reasons for what took too long.
func (c *cluster) disturb(d disturbance, watch *probe, clients []*client, table *tabwriter.Writer, late *strings.Builder) {
	c.Helper()
	begun, primary := time.Now(), c.is("leader")
	undo := d.do(c, primary)
	healed := time.Now()
	if d.moves {
		c.await(func() bool { return !watch.first(begun, primary).IsZero() }, "other primary")
		healed = watch.first(begun, primary)
	}
	c.recovered(clients, healed)
	recovered := time.Now()
	if undo != nil {
		undo()
	}
	c.healthy()
	c.recovered(clients, time.Now())

	fmt.Fprintf(table, "%s\t%d\t%d\t", d.name, watch.gap(begun, recovered).Milliseconds(), watch.both(primary, begun).Milliseconds())
	for _, u := range clients {
		last := healed
		for _, s := range []*successes{&u.hand, &u.merge, &u.lock} {
			first := s.after(healed)
			fmt.Fprintf(table, "%d\t", first.Sub(healed).Milliseconds())
			last = later(last, first)
		}
		if last.Sub(healed) > clusterTarget {
			fmt.Fprintf(late, "%s, %s: what took long until all was well (ms: from, to)\n%s", d.name, u.name, u.trace.between(healed, last))
		}
	}
	fmt.Fprintln(table)
	c.Logf("%s: over after %v", d.name, time.Since(begun).Round(time.Millisecond))
}

// judge checks the history and prints the results.
func (c *cluster) judge(events []history.Event, watch *probe, clients []*client) {
	c.Helper()
	store := c.final()
	defer store.Close()
	final := map[string]history.Final{}
	for doc, err := range store.Find(context.Background(), json.RawMessage(`{}`), nil) {
		require.NoError(c, err)
		final[doc.ID] = history.Final{Version: doc.Version, Document: doc.Metadata}
	}
	acknowledged := map[history.Kind]int{}
	for _, e := range events {
		if e.Outcome == history.OK {
			acknowledged[e.Kind]++
		}
	}
	broken, excused := map[string]int{}, map[string]int{}
	for _, v := range history.Check(events, final, nil, clusterGrace).Violations {
		last := v.Events[len(v.Events)-1]
		switch {
		case ofOnePrimary[v.Rule] && watch.two(last.Call, later(last.Return, last.Until)):
			excused[v.Rule]++
		default:
			broken[v.Rule]++
			if c.sync || v.Rule == history.TakenBack {
				c.Errorf("%v", v)
			}
		}
	}
	lost := history.Lost(events, final)
	if c.sync {
		assert.Zero(c, lost, "acknowledged writes that are lost")
	}
	fmt.Printf("acknowledged %v: %d writes lost, %d failed but applied, %d read-modify-writes taken back\n", acknowledged, lost, broken[history.NotApplied], broken[history.TakenBack])
	fmt.Printf("overlaps: %d; fences backward: %d; broken: %v; while there were two primaries: %v\n", broken[history.Exclusion]+broken[history.ToldLate], broken[history.FenceOrder], broken, excused)
	for _, u := range clients {
		var n int64
		require.NoError(c, c.is("leader").ask("app", fmt.Sprint("SELECT n FROM by_hand WHERE id = ", u.number), &n))
		fmt.Printf("by hand, %s: %d increments acknowledged, %d made\n", u.name, u.byHand.Load(), n)
	}
	assert.Positive(c, acknowledged[history.Guarded])
}

// ofOnePrimary are the rules that hold only with one primary: two both grant locks, and both
// answer reads without a lock.
var ofOnePrimary = map[string]bool{
	history.Exclusion: true, history.ToldLate: true, history.KeptOut: true, history.FreshRead: true, history.Freed: true, history.Linearizable: true,
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
