-- RFC 7396, section 2. What a patch of scalars and arrays sets, it sets at
-- once; nulls and objects take their own way.
DO {do} BEGIN
	IF to_regprocedure('{function}') IS NULL THEN
		CREATE FUNCTION {function}(target jsonb, patch jsonb) RETURNS jsonb
		LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS {body}
		BEGIN
			IF jsonb_typeof(patch) IS DISTINCT FROM 'object' THEN
				RETURN patch;
			END IF;
			IF jsonb_typeof(target) IS DISTINCT FROM 'object' THEN
				target := '{}';
			END IF;
			IF NOT patch @? 'strict $.* ? (@ == null || @.type() == "object")' THEN
				RETURN target || patch;
			END IF;
			RETURN (
				SELECT (target - coalesce(array_agg(key) FILTER (WHERE value = 'null'), '{}'))
					|| coalesce(jsonb_object_agg(key, CASE jsonb_typeof(value)
						WHEN 'object' THEN {function}(target -> key, value) ELSE value END)
						FILTER (WHERE value <> 'null'), '{}')
				FROM jsonb_each(patch)
			);
		END {body};
	END IF;
END {do};
