package faults_test

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// An instance is a server made from another by pg_basebackup: a standby of that, or an
// independent one. It listens on a socket in its directory.
type instance struct {
	w   *world
	dir string
	bin string
	as  *syscall.SysProcAttr
	cmd *exec.Cmd
	log bytes.Buffer
}

// owner returns the user that the server of the world runs as.
func (w *world) owner() (bin string, as *syscall.SysProcAttr, uid, gid int) {
	w.Helper()
	program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", w.db.Server().PID()))
	if err != nil {
		lacks(w, "/proc", err)
	}
	info, err := os.Stat(one[string](w, "SHOW data_directory"))
	require.NoError(w, err)
	st := info.Sys().(*syscall.Stat_t)
	as = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() == 0 {
		as.Credential = &syscall.Credential{Uid: st.Uid, Gid: st.Gid}
	}
	return filepath.Dir(program), as, int(st.Uid), int(st.Gid)
}

// copied creates dir and starts a copy of the world's server in it.
func (w *world) copied(dir string, args ...string) *instance {
	w.Helper()
	bin, as, uid, gid := w.owner()
	require.NoError(w, os.MkdirAll(dir, 0o700))
	require.NoError(w, os.Chown(dir, uid, gid))
	in := &instance{w: w, dir: dir, bin: bin, as: as}
	in.run("pg_basebackup", append([]string{"--dbname=" + w.db.URL(), "--pgdata=" + dir + "/data", "--checkpoint=fast", "--wal-method=stream", "--no-sync"}, args...)...)
	return in
}

func (in *instance) run(program string, args ...string) {
	in.w.Helper()
	cmd := exec.Command(filepath.Join(in.bin, program), args...)
	cmd.SysProcAttr, cmd.Dir = in.as, "/"
	out, err := cmd.CombinedOutput()
	require.NoError(in.w, err, "%s", out)
}

// start starts the instance and returns when it accepts connections.
func (in *instance) start(settings map[string]string) {
	in.w.Helper()
	args := []string{"-D", in.dir + "/data", "-k", in.dir}
	for name, value := range settings {
		args = append(args, "-c", name+"="+value)
	}
	in.cmd = exec.Command(filepath.Join(in.bin, "postgres"), args...)
	in.cmd.SysProcAttr, in.cmd.Dir = in.as, "/"
	in.cmd.Stdout, in.cmd.Stderr = &in.log, &in.log
	require.NoError(in.w, in.cmd.Start())
	in.w.Cleanup(func() {
		in.end(syscall.SIGQUIT)
		if in.w.Failed() {
			in.w.Log(in.log.String())
		}
	})
	in.w.accepts(in.url())
}

func (in *instance) end(s syscall.Signal) {
	if in.cmd != nil {
		_ = in.cmd.Process.Signal(s)
		_ = in.cmd.Wait()
		in.cmd = nil
	}
}

func (in *instance) promote() {
	in.w.Helper()
	in.run("pg_ctl", "promote", "-D", in.dir+"/data", "-w", "-t", "20")
}

// url returns the address of the world's database on the instance.
func (in *instance) url() string {
	u, err := url.Parse(in.w.db.URL())
	require.NoError(in.w, err)
	config, err := pgx.ParseConfig(in.w.db.URL())
	require.NoError(in.w, err)
	u.Host, u.RawQuery = "", url.Values{"host": {in.dir}, "port": {strconv.Itoa(int(config.Port))}, "sslmode": {"disable"}}.Encode()
	return u.String()
}

// value reads one value from the instance.
func (in *instance) value(sql string) (text string) {
	in.w.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, in.url())
	require.NoError(in.w, err)
	defer conn.Close(ctx)
	require.NoError(in.w, conn.QueryRow(ctx, sql).Scan(&text))
	return text
}
