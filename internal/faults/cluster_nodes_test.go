package faults_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// The cluster's times. Patroni promotes a standby after clusterTTL without a primary; a primary
// without etcd demotes itself before that.
const (
	clusterTTL      = 10 * time.Second
	clusterLoopWait = time.Second
)

const (
	lanAddress      = "10.77.0.1"      // of etcd, HAProxy and the clients
	clusterPatience = 60 * time.Second // for the cluster's own actions
)

// clusterPackages are Debian packages, and clusterPrograms the programs from them.
var (
	clusterPackages = []string{"patroni", "python3-etcd", "etcd-server", "haproxy", "iproute2"}
	clusterPrograms = []string{"patroni", "etcd", "haproxy", "ip", "setpriv"}
)

// A cluster is three nodes of PostgreSQL under Patroni, with etcd and HAProxy. Each node has
// its own network, file system and processes, in namespaces below those of this process: they
// end with it, however it ends.
type cluster struct {
	testing.TB
	dir     string
	bin     string // PostgreSQL's programs
	nodes   []*node
	haproxy *exec.Cmd
	sync    bool // replication
}

// A node is one of the three.
type node struct {
	c       *cluster
	name    string
	address string
	dir     string
	cmd     *exec.Cmd // Patroni, the first process of the node's namespace
	link    string    // the bridge's end of its cable
	log     bytes.Buffer
}

// clusterLacks returns the missing programs, after an attempt to install them.
func clusterLacks() error {
	missing := func() (what []string) {
		for _, program := range clusterPrograms {
			if _, err := exec.LookPath(program); err != nil {
				what = append(what, program)
			}
		}
		return what
	}
	if os.Geteuid() != 0 {
		return errors.New("root, for namespaces")
	}
	if missing() != nil {
		cmd := exec.Command("apt-get", append([]string{"install", "-y", "--no-install-recommends"}, clusterPackages...)...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1") // starts no services
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%v: apt-get install %v: %w: %s", missing(), clusterPackages, err, out)
		}
	}
	if what := missing(); what != nil {
		return fmt.Errorf("%v", what)
	}
	if _, err := clusterServer(); err != nil {
		return err
	}
	_, err := user.Lookup("postgres")
	return err
}

// clusterServer returns the directory of Debian's PostgreSQL, of the newest version that
// Debian's Patroni supports.
func clusterServer() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/1[345]/bin")
	if err != nil || len(found) == 0 {
		return "", errors.New("/usr/lib/postgresql/15 (Debian: apt-get install postgresql-15)")
	}
	return slices.Max(found), nil
}

// enclose gives this process its own namespaces: private file systems in memory, and a network
// with a bridge.
func enclose() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return err
	}
	if err := syscall.Mount("tmpfs", "/tmp", "tmpfs", 0, "mode=1777"); err != nil {
		return err
	}
	for _, args := range []string{
		"link set lo up", "link add lan type bridge", "addr add " + lanAddress + "/24 dev lan", "link set lan up",
	} {
		if err := ip(args); err != nil {
			return err
		}
	}
	return nil
}

func ip(args string) error {
	if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", args, err, out)
	}
	return nil
}

// newCluster starts a cluster and returns when three nodes replicate.
func newCluster(t testing.TB, synchronous bool) *cluster {
	t.Helper()
	bin, err := clusterServer()
	require.NoError(t, err)
	c := &cluster{TB: t, dir: "/tmp", bin: bin, sync: synchronous}
	c.start("etcd", "--enable-v2", "--data-dir=/tmp/etcd", "--listen-client-urls=http://"+lanAddress+":2379", "--advertise-client-urls=http://"+lanAddress+":2379", "--listen-peer-urls=http://127.0.0.1:2380")
	c.await(func() bool { return c.get("http://"+lanAddress+":2379/health", nil) }, "etcd")
	for i := range 3 {
		c.nodes = append(c.nodes, c.node(i+1))
	}
	c.startHAProxy()
	c.healthy()
	return c
}

func (c *cluster) start(program string, args ...string) *exec.Cmd {
	c.Helper()
	cmd := exec.Command(program, args...)
	log := &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(c, cmd.Start())
	return cmd
}

// node starts a node.
func (c *cluster) node(i int) *node {
	c.Helper()
	n := &node{c: c, name: fmt.Sprint("n", i), address: fmt.Sprint("10.77.0.1", i), dir: fmt.Sprint("/tmp/n", i), link: fmt.Sprint("lan", i)}
	postgres, err := user.Lookup("postgres")
	require.NoError(c, err)
	uid, _ := strconv.Atoi(postgres.Uid)
	gid, _ := strconv.Atoi(postgres.Gid)
	require.NoError(c, os.Mkdir(n.dir, 0o700))
	require.NoError(c, os.Chown(n.dir, uid, gid))
	config := n.dir + "/patroni.yml"
	require.NoError(c, os.WriteFile(config, fmt.Appendf(nil, patroniConfig, n.name, n.address, lanAddress,
		int(clusterTTL.Seconds()), int(clusterLoopWait.Seconds()), c.sync, n.dir, c.bin), 0o644))
	require.NoError(c, ip(fmt.Sprintf("link add %s type veth peer name eth%d", n.link, i)))
	n.cmd = exec.Command("sh", "-ec", `mount -t proc proc /proc; read ready
		exec setpriv --reuid=postgres --regid=postgres --init-groups patroni `+config+` </dev/null`) // a server that reads a pipe does not end
	n.cmd.Stdout, n.cmd.Stderr, n.cmd.Dir = &n.log, &n.log, n.dir
	n.cmd.Env = append(os.Environ(), "HOME="+n.dir)
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC}
	in, err := n.cmd.StdinPipe()
	require.NoError(c, err)
	require.NoError(c, n.cmd.Start())
	for _, args := range []string{
		fmt.Sprintf("link set eth%d netns %d", i, n.cmd.Process.Pid),
		fmt.Sprintf("link set %s master lan up", n.link),
	} {
		require.NoError(c, ip(args))
	}
	out, err := exec.Command("nsenter", "--target", fmt.Sprint(n.cmd.Process.Pid), "--net", "sh", "-ec",
		fmt.Sprintf("ip link set lo up; ip link set eth%d address 02:00:00:00:00:0%[1]d up; ip addr add %[2]s/24 dev eth%[1]d", i, n.address)).CombinedOutput()
	require.NoError(c, err, "%s", out)
	// A node that the bridge does not reach must be silent, not "unreachable".
	require.NoError(c, ip(fmt.Sprintf("neigh replace %s lladdr 02:00:00:00:00:0%d dev lan nud permanent", n.address, i)))
	_, err = fmt.Fprintln(in)
	require.NoError(c, err)
	return n
}

// The servers do sync, but to memory: only processes are killed here, not the kernel.
const patroniConfig = `
scope: cluster
name: %[1]s
restapi: {listen: '%[2]s:8008', connect_address: '%[2]s:8008'}
etcd: {host: '%[3]s:2379'}
bootstrap:
  dcs:
    ttl: %[4]d
    loop_wait: %[5]d
    retry_timeout: 3
    primary_start_timeout: 0
    synchronous_mode: %[6]t
    postgresql:
      use_pg_rewind: true
      parameters: {max_connections: 60, shared_buffers: 16MB, wal_keep_size: 64MB, max_wal_size: 256MB, wal_log_hints: 'on'}
  initdb: [{encoding: UTF8}, {auth: trust}, no-sync]
postgresql:
  listen: '%[2]s:5432'
  connect_address: '%[2]s:5432'
  data_dir: %[7]s/data
  bin_dir: %[8]s
  pgpass: %[7]s/pgpass
  remove_data_directory_on_rewind_failure: true
  remove_data_directory_on_diverged_timelines: true
  authentication: {superuser: {username: postgres}, replication: {username: postgres}}
  parameters: {unix_socket_directories: %[7]s, log_min_messages: fatal}
  pg_hba: [local all all trust, host all all 0.0.0.0/0 trust, host replication all 0.0.0.0/0 trust]
watchdog: {mode: 'off'}
`

// startHAProxy starts or restarts HAProxy.
func (c *cluster) startHAProxy() {
	c.Helper()
	config := `
defaults
  mode tcp
  timeout connect 1s
  timeout client 12s
  timeout server 12s
  timeout check 1s
  retries 0
  option clitcpka
  option srvtcpka
listen primary
  bind ` + lanAddress + `:5000
  option httpchk OPTIONS /primary
  default-server inter 300ms fall 2 rise 1 on-marked-down shutdown-sessions
`
	for _, n := range c.nodes {
		config += fmt.Sprintf("  server %s %s:5432 check port 8008\n", n.name, n.address)
	}
	require.NoError(c, os.WriteFile(c.dir+"/haproxy.cfg", []byte(config), 0o644))
	c.haproxy = c.start("haproxy", "-db", "-f", c.dir+"/haproxy.cfg")
}

func (c *cluster) stopHAProxy() {
	require.NoError(c, c.haproxy.Process.Kill())
	_ = c.haproxy.Wait()
}

// get sends an HTTP request, and reports whether there was an answer.
func (c *cluster) get(url string, answer any) bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	require.NoError(c, err)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	return answer == nil || json.NewDecoder(response.Body).Decode(answer) == nil
}

type member struct{ Name, Role, State string }

// members returns the cluster's own description of its members.
func (c *cluster) members() []member {
	for _, n := range c.nodes {
		var state struct{ Members []member }
		if c.get("http://"+n.address+":8008/cluster", &state) {
			return state.Members
		}
	}
	return nil
}

// healthy waits for a primary and two standbys that follow it.
func (c *cluster) healthy() {
	c.Helper()
	c.await(func() bool {
		roles := map[string]int{}
		for _, m := range c.members() {
			roles[m.Role]++
		}
		if roles["leader"] != 1 || roles["replica"]+roles["sync_standby"] != 2 || c.sync && roles["sync_standby"] != 1 {
			return false
		}
		var following, waitedFor int
		err := c.is("leader").ask("postgres", "SELECT count(*), count(*) FILTER (WHERE sync_state = 'sync') FROM pg_stat_replication WHERE state = 'streaming'", &following, &waitedFor)
		return err == nil && following == 2 && (waitedFor == 1) == c.sync
	}, "primary with two standbys")
}

// ask runs a query on a node over its unix socket, which does not depend on its network.
func (n *node) ask(database, sql string, answer ...any) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, "host="+n.dir+" user=postgres dbname="+database)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if len(answer) == 0 {
		_, err = conn.Exec(ctx, sql)
		return err
	}
	return conn.QueryRow(ctx, sql).Scan(answer...)
}

// is waits for a node with a role, and returns it.
func (c *cluster) is(role string) (found *node) {
	c.Helper()
	c.await(func() bool {
		for _, m := range c.members() {
			if m.Role == role {
				found = c.nodes[slices.IndexFunc(c.nodes, func(n *node) bool { return n.name == m.Name })]
			}
		}
		return found != nil
	}, "node that is "+role)
	return found
}

func (c *cluster) await(done func() bool, what string) {
	c.Helper()
	for deadline := time.Now().Add(clusterPatience); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			for _, n := range c.nodes {
				c.Logf("%s: %s", n.name, n.log.Bytes()[max(0, n.log.Len()-3000):])
			}
			c.Fatalf("there was no %s within %v: %v", what, clusterPatience, c.members())
		}
	}
}

// switchover makes the leader hand over.
func (c *cluster) switchover() {
	c.Helper()
	leader := c.is("leader")
	response, err := http.Post("http://"+leader.address+":8008/switchover", "application/json", strings.NewReader(`{"leader":"`+leader.name+`"}`))
	require.NoError(c, err)
	defer response.Body.Close()
	require.Equal(c, http.StatusOK, response.StatusCode)
}

// cut off or connect again.
func (n *node) connected(yes bool) {
	n.c.Helper()
	state := map[bool]string{true: "up", false: "down"}[yes]
	require.NoError(n.c, ip("link set "+n.link+" "+state))
}

// processes returns the node's processes and their states.
func (n *node) processes() map[int]string {
	n.c.Helper()
	mine, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", n.cmd.Process.Pid))
	require.NoError(n.c, err)
	found := map[int]string{}
	all, err := filepath.Glob("/proc/[0-9]*")
	require.NoError(n.c, err)
	for _, dir := range all {
		if ns, err := os.Readlink(dir + "/ns/pid"); err != nil || ns != mine {
			continue
		}
		stat, err := os.ReadFile(dir + "/stat")
		if err != nil {
			continue // it has ended
		}
		pid, _ := strconv.Atoi(filepath.Base(dir))
		_, state, _ := strings.Cut(string(stat), ") ")
		found[pid] = state[:1]
	}
	return found
}

// freeze stops processes of the node, and returns when they are stopped.
func (n *node) freeze(which func(pid int) bool) {
	n.c.Helper()
	n.c.await(func() bool {
		still := true
		for pid, state := range n.processes() {
			if state != "T" && state != "Z" && which(pid) {
				still = false
				_ = syscall.Kill(pid, syscall.SIGSTOP)
			}
		}
		return still
	}, "standstill of "+n.name)
}

// resume resumes all stopped processes.
func (n *node) resume() {
	n.c.Helper()
	for pid := range n.processes() {
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
}

func all(int) bool { return true }

// patroni reports whether a process is Patroni's.
func patroni(pid int) bool {
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return err == nil && string(name) == "patroni\n"
}

// postmaster returns the server's first process.
func (n *node) postmaster() int {
	n.c.Helper()
	file, err := os.ReadFile(n.dir + "/data/postmaster.pid")
	require.NoError(n.c, err)
	inner, _, _ := strings.Cut(string(file), "\n") // its id in the node's namespace
	for pid := range n.processes() {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err == nil && strings.Contains(string(status), "\nNSpid:\t"+fmt.Sprint(pid)+"\t"+inner+"\n") {
			return pid
		}
	}
	n.c.Fatalf("%s has no process %s", n.name, inner)
	return 0
}
