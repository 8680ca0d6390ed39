-- Gives a copy of a template what CREATE DATABASE does not copy: the owner, the
-- settings of the database and of roles in it, privileges, limit and comment.
DO $$
DECLARE
	statement text;
BEGIN
	FOR statement IN
		WITH template AS (SELECT *, pg_get_userbyid(datdba) AS owner FROM pg_database WHERE datname = '{{template}}'),
		setting AS (
			SELECT setrole, split_part(item, '=', 1) AS name, substr(item, strpos(item, '=') + 1) AS value
			FROM template JOIN pg_db_role_setting ON setdatabase = oid, unnest(setconfig) AS item
		)
		SELECT format('ALTER DATABASE {{copy}} OWNER TO %I', owner) FROM template WHERE owner <> current_user
		UNION ALL
		SELECT format('ALTER %s SET %I TO %s',
			CASE setrole WHEN 0 THEN 'DATABASE {{copy}}' ELSE format('ROLE %I IN DATABASE {{copy}}', pg_get_userbyid(setrole)) END,
			name,
			CASE WHEN name IN ('search_path', 'temp_tablespaces', 'local_preload_libraries', 'session_preload_libraries')
				THEN ( -- lists, whose elements are written as identifiers
					SELECT string_agg(quote_literal(coalesce(replace(part[1], '""', '"'), part[2])), ', ' ORDER BY n)
					FROM regexp_matches(value, '"((?:[^"]|"")*)"|([^", ]+)', 'g') WITH ORDINALITY AS parts(part, n))
				ELSE quote_literal(value) END)
		FROM setting
		UNION ALL
		SELECT format('REVOKE ALL ON DATABASE {{copy}} FROM PUBLIC, %I', owner) FROM template WHERE datacl IS NOT NULL
		UNION ALL
		SELECT format('GRANT %s ON DATABASE {{copy}} TO %s%s', privilege_type,
			CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
			CASE WHEN is_grantable THEN ' WITH GRANT OPTION' END)
		FROM template, aclexplode(datacl)
		UNION ALL
		SELECT format('ALTER DATABASE {{copy}} CONNECTION LIMIT %s', datconnlimit) FROM template WHERE datconnlimit <> -1
		UNION ALL
		SELECT format('COMMENT ON DATABASE {{copy}} IS %L', comment)
		FROM template, shobj_description(oid, 'pg_database') AS comment WHERE comment IS NOT NULL
	LOOP
		EXECUTE statement;
	END LOOP;
END
$$
