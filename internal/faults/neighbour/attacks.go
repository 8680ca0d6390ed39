package neighbour

import "time"

// An Attack is something that one of the roles does repeatedly.
type Attack struct {
	Name string
	as   string
	sql  string
	rest time.Duration // after each time
}

// The roles.
const (
	stranger = "stranger"
	owner    = "squatter"
)

// held selects the keys that others hold or wait for, from pg_locks.
const held = `SELECT l.pid, l.classid::bigint << 32 | l.objid::bigint AS key,
	(l.objid::bigint << 32 | l.classid::bigint) # 4577714487288373607 AS guard
	FROM pg_locks AS l WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.pid <> pg_backend_pid()`

// Flag returns SQL for the number of the flag that asks the session of a process for something.
func Flag(pid string) string { return "((1796314182::bigint << 32) | " + pid + ")" }

var flag = Flag("pid")

// channels are those that sessions may listen to: a host's own, and that of a store's watchers,
// which is named after the lock that all of them share.
const channels = `(SELECT 'jobs' UNION ALL (SELECT 'lockstore_' || to_hex(l.classid::bigint << 32 | l.objid::bigint)
	FROM pg_locks AS l WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.mode = 'ShareLock' AND l.granted
	GROUP BY 1 ORDER BY random() LIMIT 2)) AS c (channel)`

// Attacks are all attacks. They release what they take after a moment: only the server's owner
// can limit how long a role keeps a key.
var Attacks = []Attack{
	{"a neighbour sends small notifications", stranger,
		`SELECT count(pg_notify(channel, 'x' || n)) FROM generate_series(1, 2000) AS n, ` + channels, 0},
	{"a neighbour sends large notifications", stranger,
		`SELECT count(pg_notify(channel, repeat('x', 7980) || n)) FROM generate_series(1, 700) AS n, ` + channels, 10 * time.Millisecond},
	{"a neighbour forges evictions", stranger,
		`SELECT pg_notify('lockstore_evict', format('%s %s %s', key, pid, pid)), pg_notify('lockstore_evicted', pid::text) FROM (` + held + `) AS h;
		SELECT set_config('application_name', format('lockstore_evict %s %s %s', pid, key, pg_backend_pid()), false),
			pg_try_advisory_xact_lock_shared(` + flag + `), pg_sleep(0.002)
			FROM (` + held + ` ORDER BY random() LIMIT 1) AS h`, time.Millisecond},
	{"a neighbour answers evictions", stranger,
		`SELECT set_config('application_name', application_name, false), pg_notify('lockstore_evicted', token::text),
			pg_try_advisory_xact_lock_shared(token), pg_try_advisory_xact_lock(token << 32), pg_try_advisory_xact_lock((token >> 1)::int, 1)
			FROM (SELECT application_name, split_part(application_name, ' ', 4)::bigint AS token FROM pg_stat_activity
				WHERE application_name ~ '^lockstore_evict \d+ -?\d+ \d{1,10}$' AND pid <> pg_backend_pid()) AS asked`, time.Millisecond},
	{"a neighbour raises flags", stranger,
		`SELECT count(pg_try_advisory_xact_lock(` + flag + `)), pg_sleep(0.005) FROM pg_stat_activity WHERE pid <> pg_backend_pid();
		SELECT count(pg_try_advisory_xact_lock_shared(` + flag + `)), pg_sleep(0.005) FROM pg_stat_activity WHERE pid <> pg_backend_pid()`, 0},
	{"a neighbour takes guards", stranger,
		`SELECT count(pg_try_advisory_xact_lock(guard)), pg_sleep(0.001) FROM (` + held + ` ORDER BY random() LIMIT 2) AS h`, 5 * time.Millisecond},
	{"a neighbour takes keys", stranger,
		`SET lock_timeout = '20ms';
		SELECT pg_advisory_xact_lock(key) FROM (` + held + ` ORDER BY random() LIMIT 1) AS h`, 5 * time.Millisecond},
	{"a neighbour takes many locks", stranger,
		`SELECT count(pg_try_advisory_xact_lock(n, n)) FROM generate_series(1, 1000) AS n`, time.Millisecond},
	{"a squatter builds", owner,
		`CREATE FUNCTION squatter.anew(text, varchar) RETURNS bool LANGUAGE sql AS 'SELECT true';
		CREATE OPERATOR squatter.<=> (FUNCTION = squatter.anew, LEFTARG = text, RIGHTARG = varchar);
		ALTER TABLE squatter.lockstore_metadata RENAME TO gone; ALTER TABLE squatter.gone RENAME TO lockstore_metadata;
		DROP OPERATOR squatter.<=> (text, varchar);
		DROP FUNCTION squatter.anew(text, varchar)`, 10 * time.Millisecond}, // each makes all sessions plan all statements again
}

// Load is no attack, but the cost of any query for others on the machine.
var Load = Attack{"a query", stranger, `SELECT count(*) FROM generate_series(1, 20000)`, 0}

// storeSQL creates a store's objects outside its schema, for all roles.
const storeSQL = `
CREATE TABLE squatter.lockstore_metadata (id text PRIMARY KEY, metadata jsonb, version bigint DEFAULT 0, updated_at timestamptz DEFAULT now());
GRANT ALL ON squatter.lockstore_metadata TO PUBLIC;
CREATE FUNCTION squatter.lockstore_merge_patch(target jsonb, patch jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{"squatted": true}'::jsonb $$`
