-- Runs in a backend of the server, with nobody at the other end: ends the server
-- and removes its directory once no lease has been there for the linger, or for
-- longer while a failed test's database is kept for a person. Each round is a
-- transaction of its own, in the maintenance database: it holds back no vacuum
-- and no index build of a test's database.
DO $watchdog$
DECLARE
	linger   CONSTANT interval := '{{linger}}';
	keep     CONSTANT interval := '{{keep}}';
	last_use timestamptz := clock_timestamp();
	unused   interval;
BEGIN
	-- What a test's settings say about clients must not end this one.
	PERFORM set_config(name, '0', false) FROM pg_settings WHERE name IN
		('statement_timeout', 'lock_timeout', 'transaction_timeout',
		 'idle_in_transaction_session_timeout', 'client_connection_check_interval');
	SET client_min_messages = notice;
	RAISE NOTICE 'watching';
	LOOP
		PERFORM pg_sleep(0.25);
		IF EXISTS (SELECT FROM pg_stat_activity WHERE application_name LIKE 'pgtest lease %') THEN
			last_use := clock_timestamp();
		END IF;
		unused := clock_timestamp() - last_use;
		IF unused > linger AND (unused > keep OR NOT EXISTS (SELECT FROM pg_database WHERE datname LIKE 'kept\_%')) THEN
			-- First say so, then look again, while a joining process first takes
			-- its lease, then looks for this: at least one sees the other.
			PERFORM set_config('application_name', 'pgtest closing', false);
			PERFORM pg_stat_clear_snapshot();
			IF NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name LIKE 'pgtest lease %') THEN
				COPY (SELECT) TO PROGRAM $program${{program}}$program$;
				RETURN;
			END IF;
			PERFORM set_config('application_name', 'pgtest watchdog', false);
		END IF;
		COMMIT;
	END LOOP;
END
$watchdog$
