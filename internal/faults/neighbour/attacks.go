package neighbour

import "time"

// An Attack is what one of the roles does over and over.
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

// held are the keys that others have, or wait for, as pg_locks has them.
const held = `SELECT l.pid, l.classid::bigint << 32 | l.objid::bigint AS key,
	(l.objid::bigint << 32 | l.classid::bigint) # 4577714487288373607 AS guard
	FROM pg_locks AS l WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.pid <> pg_backend_pid()`

// flag is that by which a session is asked for something.
const flag = "((1796314182::bigint << 32) | pid)"

// Attacks are all there are. What they take, they give back after a moment; for how
// long anybody can keep a key, nothing but the server's owner can bound.
var Attacks = []Attack{
	{"a neighbour sends small notifications", stranger,
		`SELECT count(pg_notify(channel, 'x' || n)) FROM generate_series(1, 2000) AS n,
			unnest('{lockstore_evict, lockstore_evicted, jobs}'::text[]) AS channel`, 0},
	{"a neighbour sends large notifications", stranger,
		`SELECT count(pg_notify(channel, repeat('x', 7980) || n)) FROM generate_series(1, 700) AS n,
			unnest('{lockstore_evict, lockstore_evicted, jobs}'::text[]) AS channel`, 10 * time.Millisecond},
	{"a neighbour forges evictions", stranger,
		`SELECT pg_notify('lockstore_evict', format('%s %s %s', key, pid, pid)), pg_notify('lockstore_evicted', pid::text) FROM (` + held + `) AS h;
		SELECT set_config('application_name', format('lockstore_evict %s %s %s', pid, key, pg_backend_pid()), false),
			pg_try_advisory_xact_lock_shared(` + flag + `), pg_sleep(0.002)
			FROM (` + held + ` ORDER BY random() LIMIT 1) AS h`, time.Millisecond},
	{"a neighbour answers evictions", stranger,
		`LISTEN lockstore_evict;
		SELECT set_config('application_name', application_name, false), pg_notify('lockstore_evicted', token::text),
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
		DROP FUNCTION squatter.anew(text, varchar)`, 10 * time.Millisecond}, // each has all sessions plan all statements anew
}

// answerSQL says that what a notification ($1) asks for was done.
const answerSQL = `SELECT pg_notify('lockstore_evicted', split_part($1, ' ', 3))`

// Load is no attack, but what any query costs others that share the machine.
var Load = Attack{"a query", stranger, `SELECT count(*) FROM generate_series(1, 20000)`, 0}

// storeSQL makes the objects of a store that has no schema, for everybody to use.
const storeSQL = `
CREATE TABLE squatter.lockstore_metadata (id text PRIMARY KEY, metadata jsonb, version bigint DEFAULT 0, updated_at timestamptz DEFAULT now());
GRANT ALL ON squatter.lockstore_metadata TO PUBLIC;
CREATE FUNCTION squatter.lockstore_merge_patch(target jsonb, patch jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{"squatted": true}'::jsonb $$`
