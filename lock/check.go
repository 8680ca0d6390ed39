package lock

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jmoiron/sqlx"

	"example.com/lockstore/internal/pgdb"
)

// A Finding is a setting that does not suit the load a [Postgres] is configured for, or
// something in the database that does not match the configuration of package metadata.
type Finding struct {
	Setting string // of the server, of [PostgresOptions], or of the URL of the host's pool; or a table, say
	Value   string // the present value
	Want    string // what to set, or to do
	Why     string // what goes wrong otherwise
}

// String returns the finding as a sentence.
func (f Finding) String() string {
	value := f.Value
	if value == "" {
		value = "empty"
	}
	return fmt.Sprintf("%s is %s, want %s: %s", f.Setting, value, f.Want, f.Why)
}

const settingsSQL = `SELECT s.name, s.setting FROM pg_catalog.pg_settings AS s
WHERE s.name OPERATOR(pg_catalog.=) ANY (ARRAY[
	'max_locks_per_transaction', 'max_connections', 'max_prepared_transactions',
	'idle_in_transaction_session_timeout', 'client_connection_check_interval',
	'fsync', 'synchronous_commit', 'synchronous_standby_names', 'client_min_messages',
	'application_name', 'track_activities']::pg_catalog.text[])`

// Check compares settings with what this Locker and package metadata need: those of the
// server, as the host's role and database have them, and those of the host's pool that matter
// in a failover. No findings means that nothing stands out. It asks the server on connections
// of the host's pool, blocks until it has one or ctx ends, and changes nothing. (PostgreSQL
// documentation, chapter 20, Server Configuration.)
func (p *Postgres) Check(ctx context.Context) ([]Finding, error) {
	settings := make(map[string]string)
	err := p.db.Query(ctx, func(row pgdb.Row) error {
		var name, value string
		err := row.Scan(&name, &value)
		settings[name] = value
		return err
	}, settingsSQL)
	if err != nil {
		return nil, fmt.Errorf("lock: check: %w", ofServer(err))
	}
	found := findings(settings, p.opts)
	connecting, err := poolFindings(ctx, p.host)
	if err != nil {
		return nil, fmt.Errorf("lock: check: %w", ofServer(pgdb.Clean(err)))
	}
	found = append(found, connecting...)
	seen, err := p.poolSees(ctx)
	if err != nil {
		return nil, fmt.Errorf("lock: check: %w", ofServer(err))
	}
	if !seen {
		found = append(found, Finding{"Connect", "elsewhere", "the pool's database",
			"Status, List and Evict do not see this Locker's locks, and package metadata writes nothing under them"})
	}
	return found, nil
}

// bulkLocks is how many locks one statement of MergeMany takes.
const bulkLocks = 1000

func findings(settings map[string]string, o PostgresOptions) (found []Finding) {
	add := func(setting, want, why string) {
		found = append(found, Finding{setting, settings[setting], want, why})
	}
	number := func(setting string) int {
		n, _ := strconv.Atoi(settings[setting])
		return n
	}
	sessions := number("max_connections") + number("max_prepared_transactions")
	if capacity := number("max_locks_per_transaction") * sessions; o.MaxKeys > capacity/4 {
		add("max_locks_per_transaction", strconv.Itoa(4*o.MaxKeys/max(sessions, 1)+1),
			fmt.Sprintf("the lock table has room for %d locks, of which bulk writes of package metadata may fill a half, and MaxKeys (%d) more than another quarter; when it is full, every client fails with SQLSTATE 53200", capacity, o.MaxKeys))
	} else if capacity/4 < bulkLocks {
		add("max_locks_per_transaction", strconv.Itoa(4*bulkLocks/max(sessions, 1)+1),
			fmt.Sprintf("the lock table has room for %d locks, a quarter of which is less than one statement of package metadata's MergeMany takes; it does fewer documents at once", capacity))
	}
	if number("idle_in_transaction_session_timeout") == 0 {
		add("idle_in_transaction_session_timeout", "a minute or so",
			"a transaction that is left open keeps its transaction-level locks")
	}
	if number("client_connection_check_interval") == 0 {
		add("client_connection_check_interval", "10s",
			"a client that is gone keeps its place in a lock's queue until its statement ends")
	}
	if settings["track_activities"] == "off" {
		add("track_activities", "on", "Status does not tell who waits in other processes, nor the names of their keys")
	}
	if settings["fsync"] == "off" {
		add("fsync", "on", "a crash of the server may lose what was committed")
	}
	replicates := settings["synchronous_standby_names"] != ""
	switch commit := settings["synchronous_commit"]; {
	case commit == "off":
		add("synchronous_commit", "on", "a crash of the server may lose the last commits that it confirmed")
	case commit == "local" && replicates:
		add("synchronous_commit", "on", "commits do not wait for the synchronous standbys, so that a failover may lose what the server confirmed")
	}
	if replicates && settings["client_min_messages"] == "error" {
		add("client_min_messages", "warning", "the server does not say when a commit's wait for its synchronous standbys was canceled, so that a failover may lose what counts as confirmed")
	}
	if settings["application_name"] == "" {
		add("application_name", "the application's name", "Status cannot say by name who holds a lock")
	}
	if o.SessionPooler {
		found = append(found, Finding{"SessionPooler", "true", "a direct connection",
			"if the pooler is ever put into transaction mode, locks are stranded on sessions of others"})
	}
	return found
}

// poolFindings returns what stands out in how the host's pool connects, as far as its driver
// shows that.
func poolFindings(ctx context.Context, host any) (found []Finding, err error) {
	var config *pgx.ConnConfig
	switch host := host.(type) {
	case *pgxpool.Pool:
		pool := host.Config()
		config = pool.ConnConfig
		if pool.PingTimeout == 0 {
			found = append(found, Finding{"pool_ping_timeout", "0", "a second or two",
				"a caller that takes an idle connection which has fallen silent waits for it until its context ends"})
		}
	case *sqlx.DB:
		return poolFindings(ctx, host.DB)
	case *sql.DB:
		conn, err := host.Conn(ctx)
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		_ = conn.Raw(func(c any) error {
			if c := pgdb.Unwrap(c); c != nil {
				config = c.Config()
			}
			return nil
		})
	}
	if config == nil || !severalHosts(config) {
		return found, nil
	}
	if config.ValidateConnect == nil {
		found = append(found, Finding{"target_session_attrs", "any", "read-write",
			"of several hosts, connections may lead to a standby, which takes no writes and lags behind"})
	}
	if t := config.ConnectTimeout; t == 0 || t > time.Second {
		found = append(found, Finding{"connect_timeout", fmt.Sprint(t.Seconds()), "a second, or half of one by ConnConfig.ConnectTimeout",
			"a connection is not tried at the next host before one that is silent has had so long, and so much later it finds a new primary"})
	}
	return found, nil
}

// severalHosts reports whether there are fallbacks to another host than the first. The same
// host can be tried with TLS and without.
func severalHosts(c *pgx.ConnConfig) bool {
	return slices.ContainsFunc(c.Fallbacks, func(f *pgconn.FallbackConfig) bool {
		return f.Host != c.Host || f.Port != c.Port
	})
}
