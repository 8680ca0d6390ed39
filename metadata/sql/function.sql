-- RFC 7396, section 2. What a patch of scalars and arrays sets, it sets at
-- once; nulls and objects take their own way. It takes time in proportion to the
-- target and the patch, and what it is put together of is PostgreSQL's own,
-- whatever the search path is: hence the names in full, and no IN nor IS DISTINCT FROM.
DO {do} BEGIN
	IF pg_catalog.to_regprocedure({signature}) IS NULL THEN
		EXECUTE pg_catalog.replace({body}
			CREATE FUNCTION {self}(target pg_catalog.jsonb, patch pg_catalog.jsonb) RETURNS pg_catalog.jsonb
			LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS {code}
			DECLARE
				gone pg_catalog.text[];
				made pg_catalog.jsonb;
			BEGIN
				IF patch IS NULL OR pg_catalog.jsonb_typeof(patch) OPERATOR(pg_catalog.<>) 'object' THEN
					RETURN patch;
				END IF;
				IF target IS NULL OR pg_catalog.jsonb_typeof(target) OPERATOR(pg_catalog.<>) 'object' THEN
					target := '{}';
				END IF;
				IF NOT patch OPERATOR(pg_catalog.@?) 'strict $.* ? (@ == null || @.type() == "object")' THEN
					RETURN target OPERATOR(pg_catalog.||) patch;
				END IF;
				target := target OPERATOR(pg_catalog.||) '{}'; -- uncompressed once, not for each member
				SELECT pg_catalog.array_agg(key) FILTER (WHERE value OPERATOR(pg_catalog.=) 'null'),
					pg_catalog.jsonb_object_agg(key, CASE WHEN pg_catalog.jsonb_typeof(value) OPERATOR(pg_catalog.=) 'object'
						THEN {self}(target OPERATOR(pg_catalog.->) key, value) ELSE value END)
						FILTER (WHERE value OPERATOR(pg_catalog.<>) 'null')
					INTO gone, made FROM pg_catalog.jsonb_each(patch);
				IF pg_catalog.cardinality(gone) OPERATOR(pg_catalog.>) 16 THEN -- each is looked for in vain otherwise
					SELECT coalesce(pg_catalog.jsonb_object_agg(t.key, t.value), '{}') INTO target
						FROM pg_catalog.jsonb_each(target) AS t WHERE NOT EXISTS (
							SELECT FROM pg_catalog.unnest(gone) AS g (key)
							WHERE g.key COLLATE pg_catalog."C" OPERATOR(pg_catalog.=) t.key COLLATE pg_catalog."C");
				ELSIF gone IS NOT NULL THEN
					target := target OPERATOR(pg_catalog.-) gone;
				END IF;
				RETURN target OPERATOR(pg_catalog.||) coalesce(made, '{}');
			END {code}{body}, '{self}', {home} OPERATOR(pg_catalog.||) '{name}'::pg_catalog.text);
	END IF;
END {do};
