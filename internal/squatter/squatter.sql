-- What is used is told by a sequence, which no ROLLBACK takes back.
CREATE SCHEMA squatter;
CREATE SEQUENCE squatter.used;
CREATE TABLE squatter.objects (n bigint GENERATED ALWAYS AS IDENTITY, what text NOT NULL);

CREATE FUNCTION squatter.note(what text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	at bigint;
BEGIN
	INSERT INTO squatter.objects (what) VALUES (note.what) RETURNING n INTO at;
	RETURN pg_catalog.format('pg_catalog.setval(''squatter.used'', %s)', at);
END $$;

DO $$
DECLARE
	o record;
	body text;
	types CONSTANT text[] := '{text,varchar,bpchar,name,jsonb,jsonpath,uuid,oid,bool,int2,int4,int8,numeric,float8,timestamptz,interval,inet}';
	names CONSTANT text[] := '{=,<>,<,>,<=,>=,+,-,*,/,||,->,->>,@>,<@,@?,@@,?,~,~~,<<,>>,&,|,#}';
BEGIN
	-- All functions that a role can write in PL/pgSQL.
	FOR o IN
		SELECT p.proname, p.oid, p.proretset, pg_get_function_identity_arguments(p.oid) AS args, pg_get_function_result(p.oid) AS result
		FROM pg_proc AS p JOIN pg_type AS r ON r.oid = p.prorettype
		WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND r.typtype NOT IN ('p')
			AND NOT EXISTS (SELECT FROM unnest(p.proargtypes) AS a (oid) JOIN pg_type AS t USING (oid) WHERE t.typtype = 'p')
			AND p.proargmodes IS NULL
	LOOP
		body := squatter.note('function ' || o.proname || '(' || o.args || ')');
		EXECUTE format('CREATE FUNCTION squatter.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L', o.proname, o.args, o.result,
			'BEGIN PERFORM ' || body || CASE WHEN o.proretset THEN '; RETURN; END' ELSE '; RETURN NULL; END' END);
	END LOOP;
	-- Some of those with arguments of any type.
	FOR o IN SELECT * FROM (VALUES
		('unnest', 'bigint[]', 'SETOF bigint'), ('unnest', 'text[]', 'SETOF text'), ('array_agg', 'text', 'text[]'),
		('cardinality', 'text[]', 'int'), ('jsonb_object_agg', 'text, jsonb', 'jsonb'), ('to_jsonb', 'text', 'jsonb'),
		('coalesce', 'jsonb, jsonb', 'jsonb'), ('jsonb_each', 'jsonb', 'SETOF record')) AS v (proname, args, result)
	LOOP
		body := squatter.note('function ' || o.proname || '(' || o.args || ')');
		EXECUTE format('CREATE FUNCTION squatter.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L', o.proname, o.args, o.result,
			'BEGIN PERFORM ' || body || CASE WHEN o.result LIKE 'SETOF%' THEN '; RETURN; END' ELSE '; RETURN NULL; END' END);
	END LOOP;
	-- And with arguments that may fit a call better than those of PostgreSQL's.
	FOR o IN
		SELECT DISTINCT p.proname, a.args FROM pg_proc AS p, unnest(types || '{bigint[],text[],name[]}'::text[]) AS t,
			LATERAL (VALUES (t), (t || ', ' || t), (t || ', ' || t || ', bool')) AS a (args)
		WHERE p.pronamespace = 'pg_catalog'::regnamespace
			AND p.proname ~ '^pg_(advisory|try_advisory|stat_get_activity|cancel|terminate|column_size)|^(unnest|host|starts_with|set_config|current_setting|to_reg|octet_length|jsonb_typeof|clock_timestamp)'
			AND to_regprocedure(format('squatter.%I(%s)', p.proname, a.args)) IS NULL
	LOOP
		body := squatter.note('function ' || o.proname || '(' || o.args || ')');
		EXECUTE format('CREATE FUNCTION squatter.%I(%s) RETURNS bool LANGUAGE plpgsql AS %L', o.proname, o.args,
			'BEGIN PERFORM ' || body || '; RETURN NULL; END');
	END LOOP;
	-- Operators, exact and inexact.
	FOR o IN SELECT l, r, n FROM unnest(types) AS l, unnest(types) AS r, unnest(names) AS n LOOP
		IF to_regprocedure(format('squatter.operator(%s,%s)', o.l, o.r)) IS NULL THEN
			body := squatter.note('operator of ' || o.l || ' and ' || o.r);
			EXECUTE format('CREATE FUNCTION squatter.operator(%s, %s) RETURNS bool LANGUAGE plpgsql AS %L', o.l, o.r,
				'BEGIN PERFORM ' || body || '; RETURN NULL; END');
		END IF;
		EXECUTE format('CREATE OPERATOR squatter.%s (FUNCTION = squatter.operator, LEFTARG = %s, RIGHTARG = %s)', o.n, o.l, o.r);
	END LOOP;
	-- Types, and views of the catalogs.
	FOR o IN SELECT t FROM unnest(types || '{date,json}'::text[]) AS t LOOP
		body := squatter.note('type ' || o.t);
		EXECUTE format('CREATE DOMAIN squatter.%I AS pg_catalog.%1$I CHECK (%s IS NOT NULL)', o.t, body);
	END LOOP;
	FOR o IN SELECT c FROM unnest('{pg_locks,pg_database,pg_class,pg_namespace,pg_proc,pg_roles,pg_settings,pg_stat_activity}'::text[]) AS c LOOP
		body := squatter.note('view ' || o.c);
		EXECUTE format('CREATE VIEW squatter.%I AS SELECT c.* FROM pg_catalog.%1$I AS c WHERE %s IS NOT NULL', o.c, body);
	END LOOP;
END $$;
