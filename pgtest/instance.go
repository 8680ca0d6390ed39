package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// socketPort is the port in the socket's name; no TCP port is opened.
const socketPort = "5432"

// instance is a PostgreSQL server that pgtest started: a directory with all its files
// (data, log, socket), and the postmaster that runs in it, if any.
type instance struct {
	Dir      string // data/, log, alive, the socket
	Bin      string
	Port     string // in the socket's name; a TCP port only if listen_addresses is set
	Password string
	Durable  bool

	dir     *directory
	owned   *os.File // the lock of a dedicated server
	making  *runDir  // until the first start
	initial string   // the password until setPassword
}

// baseSettings are the settings of every server.
var baseSettings = map[string]string{
	"listen_addresses":               "",
	"port":                           socketPort,
	"max_connections":                "250",
	"superuser_reserved_connections": "3",
	"shared_buffers":                 "128MB",
	"dynamic_shared_memory_type":     "mmap", // in the data directory, so that it is removed with it
	"unix_socket_permissions":        "0700",
	"cluster_name":                   "pgtest",
	"log_line_prefix":                "%m [%p] %d: ",
	"log_timezone":                   "UTC",
	"timezone":                       "UTC",
	"lc_messages":                    "C",
	"log_checkpoints":                "off",
	"jit":                            "off", // compiling takes longer than a test's query
}

// fastSettings are for databases that need not survive a crash of the machine.
var fastSettings = map[string]string{
	"fsync":              "off",
	"full_page_writes":   "off",
	"autovacuum":         "off", // its workers delay DROP DATABASE
	"checkpoint_timeout": "1h",
	"max_wal_size":       "4GB",
}

// configuration returns the text of postgresql.conf. Later layers override earlier ones.
func configuration(layers ...map[string]string) string {
	all := map[string]string{}
	for _, layer := range layers {
		maps.Copy(all, layer)
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&b, "%s = %s\n", name, quoteSetting(all[name]))
	}
	return b.String()
}

// quoteSetting quotes a value for postgresql.conf, where a backslash escapes and a value
// cannot span lines.
func quoteSetting(value string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", "''", "\n", `\n`).Replace(value) + "'"
}

// quoteList quotes one element of a setting that is a list of directories.
func quoteList(element string) string {
	return `"` + strings.ReplaceAll(element, `"`, `""`) + `"`
}

// hba accepts clients that know the password: over the socket, which only the server's
// user and root can reach, and over what listen_addresses opens.
const hba = `local all         all     scram-sha-256
local replication all     scram-sha-256
host  all         all all scram-sha-256
host  replication all all scram-sha-256
`

// prepare creates the directory of a new server, for [instance.start]. The caller holds
// the cache's lock.
func prepare(ctx context.Context, cache string, p programs, o options) (*instance, error) {
	as, err := serverAccount()
	if err != nil {
		return nil, err
	}
	sweep(as)
	tidy(cache, as)
	in, err := makeInstance(ctx, cache, p, o, as)
	if errors.Is(err, errDamaged) {
		if err := os.RemoveAll(p.cluster(cache)); err != nil {
			return nil, fmt.Errorf("pgtest: %w: %w", errDamaged, err)
		}
		in, err = makeInstance(ctx, cache, p, o, as)
	}
	return in, err
}

func makeInstance(ctx context.Context, cache string, p programs, o options, as *account) (in *instance, err error) {
	cl, err := cachedCluster(ctx, cache, p, as)
	if err != nil {
		return nil, err
	}
	dir, err := makeRunDir(o.durable)
	if err != nil {
		return nil, err
	}
	in = &instance{Dir: dir.path, Bin: p.bin, Port: o.port(), Password: rand.Text(), Durable: o.durable,
		dir: dir.directory, making: dir, initial: cl.password}
	if err := in.fill(ctx, cl, o, as); err != nil {
		if in.owned != nil {
			in.owned.Close()
		}
		return nil, errors.Join(fmt.Errorf("pgtest: prepare a server: %w", err), dir.remove())
	}
	return in, nil
}

// fill writes the server's files into the directory and gives it to the server's user.
func (in *instance) fill(ctx context.Context, cl cluster, o options, as *account) error {
	src, err := openDirectory(cl.path, nil)
	if err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	defer src.root.Close()
	sum, err := copyData(ctx, in.Dir, as, src)
	if err == nil && sumOf(sum, cl.password) != cl.sum {
		err = errors.New("its sum is another")
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	conf := o.configuration() + "unix_socket_directories = " + quoteSetting(quoteList(in.Dir)) + "\n"
	for name, text := range map[string]string{
		"data/postgresql.conf": conf, "data/pg_hba.conf": hba, passFile: "*:*:*:postgres:" + in.Password + "\n",
	} {
		if err := writeOwned(filepath.Join(in.Dir, name), text, as); err != nil {
			return err
		}
	}
	if o.dedicated {
		if in.owned, err = lockFile(ctx, filepath.Join(in.Dir, ownedFile)); err != nil {
			return err
		}
		if err := as.give(in.owned); err != nil {
			return err
		}
	}
	return in.making.give(as) // last: from now on that user can enter
}

func (in *instance) running() error {
	return fmt.Errorf("pgtest: the server in %s is running", in.Dir)
}

// start starts the postmaster, detached from this process, waits until it accepts
// connections, and calls whenReady, which must start a watchdog. If this process ends
// before that, so does the server. It closes alive; the server's processes have inherited
// the lock.
func (in *instance) start(ctx context.Context, alive *os.File, whenReady func() error) error {
	g, err := in.spawn(alive)
	if err := errors.Join(err, alive.Close()); err != nil {
		return fmt.Errorf("pgtest: start the server of %s: %w", in.Bin, err)
	}
	if err = in.awaitReady(ctx); err == nil {
		err = whenReady()
	}
	guards := []*guard{g}
	if in.making != nil {
		guards = append(guards, in.making.guards...)
		in.making = nil
	}
	return errors.Join(err, release(guards...))
}

func (in *instance) awaitReady(ctx context.Context) error {
	for in.pidLine(8) != "ready" {
		if in.gone() {
			return fmt.Errorf("pgtest: the server of %s did not start:\n%s", in.Bin, in.logTail(20))
		}
		if err := pause(ctx, 2*time.Millisecond); err != nil {
			return fmt.Errorf("pgtest: start the server of %s: %w", in.Bin, err)
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// pidLine returns line n of postmaster.pid: 1 process id, 7 shared memory key and id, 8 status.
func (in *instance) pidLine(n int) string {
	text, _ := in.dir.tail(pidFile, 1<<12)
	lines := strings.Split(string(text), "\n")
	if len(lines) < n {
		return ""
	}
	return strings.TrimSpace(lines[n-1])
}

// pid returns the postmaster's process id, 0 if none runs.
func (in *instance) pid() int {
	pid, _ := strconv.Atoi(in.pidLine(1))
	if pid < 2 || in.gone() {
		return 0
	}
	return pid
}

func (in *instance) logTail(lines int) string {
	text, err := in.dir.tail(logFile, 1<<16)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// url returns the address of the named database.
func (in *instance) url(database string) string {
	return (&url.URL{
		Scheme: "postgres",
		User:   url.UserPassword("postgres", in.Password),
		Path:   "/" + database,
		RawQuery: encode(url.Values{
			"host": {in.Dir}, "port": {in.Port}, "sslmode": {"disable"},
		}),
	}).String()
}

// config returns the configuration of this package's own connections. They do not reveal
// the password: the socket must be the server user's (see directory.dial), and the server
// must prove that it knows the password (SCRAM). The variables of libpq, which pgx reads,
// have no effect.
func (in *instance) config() (cfg *pgxpool.Config, err error) {
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	// pgx looks for the service that PGSERVICE names, unless another one is given.
	service, err := os.CreateTemp(cache, "service-")
	if err != nil {
		return nil, fmt.Errorf("pgtest: %w", err)
	}
	defer func() { err = errors.Join(err, service.Close(), os.Remove(service.Name())) }()
	if _, err := service.WriteString("[none]\n"); err != nil {
		return nil, fmt.Errorf("pgtest: %w", err)
	}
	cfg, err = parse(in.url("postgres") + "&" + encode(url.Values{
		"service": {"none"}, "servicefile": {service.Name()}, "target_session_attrs": {"any"}, "connect_timeout": {"0"},
		"sslcertmode": {"disable"}, "channel_binding": {"disable"}, "require_auth": {"scram-sha-256"},
		"min_protocol_version": {"3.0"}, "max_protocol_version": {"3.0"},
	}))
	if err != nil {
		return nil, fmt.Errorf("pgtest: %w", err)
	}
	cfg.ConnConfig.DialFunc = in.dir.dial
	clear(cfg.ConnConfig.RuntimeParams)
	return cfg, nil
}

// clear removes what a killed server leaves outside of its data: System V shared memory,
// and lock files, whose process may still be listed though it is dead (not every
// container has an init that reaps it).
func (in *instance) clear() error {
	if fields := strings.Fields(in.pidLine(7)); len(fields) == 2 {
		in.dir.as.command(context.Background(), "ipcrm", "-m", fields[1]).Run() // fails if it is gone already
	}
	names := []string{pidFile}
	entries, _ := in.dir.list(".")
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".s.PGSQL.") {
			names = append(names, entry.Name())
		}
	}
	for _, name := range names {
		if err := in.dir.root.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("pgtest: clear up after a server: %w", err)
		}
	}
	return nil
}

// stop signals the postmaster, if one runs, and waits until no process of the server is
// left. It returns the locked alive file, for start or for end.
func (in *instance) stop(ctx context.Context, how stopMode) (alive *os.File, err error) {
	if pid := in.pid(); pid != 0 {
		if err := in.signal(how, pid); err != nil {
			return nil, err
		}
	}
	for alive, err = in.lock(); err != nil; alive, err = in.lock() {
		if removed(err) {
			return nil, err // the watchdog or this process removed the directory
		}
		if err := pause(ctx, 2*time.Millisecond); err != nil {
			return nil, fmt.Errorf("pgtest: stop the server in %s: %w", in.Dir, err)
		}
	}
	if err := in.clear(); err != nil {
		return nil, errors.Join(err, alive.Close())
	}
	return alive, nil
}

// end stops the server at once and removes its directory.
func (in *instance) end(ctx context.Context) error {
	alive, err := in.stop(ctx, stopNow)
	if removed(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(in.dir.remove(), alive.Close())
}
