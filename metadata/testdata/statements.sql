-- .lockstore_metadata: Get
SELECT t."id"::pg_catalog.text, coalesce(t."metadata", '{}') AS metadata, coalesce(t."version", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."updated_at"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."updated_at"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at FROM "lockstore_metadata" AS t WHERE t."id" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text

-- .lockstore_metadata: GetMany
SELECT t."id"::pg_catalog.text, coalesce(t."metadata", '{}') AS metadata, coalesce(t."version", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."updated_at"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."updated_at"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at FROM "lockstore_metadata" AS t
WHERE t."id" OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.text[]::pg_catalog.text[])

-- .lockstore_metadata: Find, first page
SELECT t."id"::pg_catalog.text, coalesce(t."metadata", '{}') AS metadata, coalesce(t."version", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."updated_at"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."updated_at"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at FROM "lockstore_metadata" AS t
WHERE t."metadata" OPERATOR(pg_catalog.@>) $2::pg_catalog.text::pg_catalog.jsonb AND $1::pg_catalog.text IS NOT NULL
ORDER BY t."id" LIMIT $3::bigint

-- .lockstore_metadata: Find, next page
SELECT t."id"::pg_catalog.text, coalesce(t."metadata", '{}') AS metadata, coalesce(t."version", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."updated_at"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."updated_at"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at FROM "lockstore_metadata" AS t
WHERE t."metadata" OPERATOR(pg_catalog.@>) $2::pg_catalog.text::pg_catalog.jsonb AND t."id" OPERATOR(pg_catalog.>) $1::pg_catalog.text::pg_catalog.text
ORDER BY t."id" LIMIT $3::bigint

-- .lockstore_metadata: Find, all of them
SELECT t."id"::pg_catalog.text, coalesce(t."metadata", '{}') AS metadata, coalesce(t."version", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."updated_at"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."updated_at"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at FROM "lockstore_metadata" AS t
WHERE coalesce(t."metadata", '{}') OPERATOR(pg_catalog.@>) $2::pg_catalog.text::pg_catalog.jsonb AND $1::pg_catalog.text IS NOT NULL
ORDER BY t."id" LIMIT $3::bigint

-- .lockstore_metadata: Get under a hold
WITH _holds AS MATERIALIZED (SELECT NOT EXISTS (
	SELECT FROM pg_catalog.jsonb_to_recordset($2::pg_catalog.text::pg_catalog.jsonb) AS h (high bigint, low bigint, mode pg_catalog.text, pid int, start pg_catalog.text)
	WHERE NOT EXISTS (
		SELECT FROM pg_catalog.pg_locks AS l, pg_catalog.pg_stat_get_activity(h.pid::int) AS a
		WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.mode OPERATOR(pg_catalog.=) h.mode AND l.granted
			AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
			AND l.classid OPERATOR(pg_catalog.=) h.high::bigint::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) h.low::bigint::pg_catalog.oid AND l.objsubid OPERATOR(pg_catalog.=) 1
			AND l.pid OPERATOR(pg_catalog.=) h.pid::int
			AND (a.backend_start OPERATOR(pg_catalog.=) h.start::pg_catalog.text::pg_catalog.timestamptz) IS NOT FALSE)) AS held)
SELECT _holds.held, coalesce(doc.id::pg_catalog.text, ''), doc.metadata, coalesce(doc.version, 0), doc.updated_at
FROM _holds LEFT JOIN (SELECT t."id" AS id, coalesce(t."metadata", '{}') AS metadata, coalesce(t."version", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."updated_at"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."updated_at"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at FROM "lockstore_metadata" AS t WHERE t."id" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text
) AS doc ON true ORDER BY doc.id

-- .lockstore_metadata: GetMany under holds
WITH _holds AS MATERIALIZED (SELECT NOT EXISTS (
	SELECT FROM pg_catalog.jsonb_to_recordset($2::pg_catalog.text::pg_catalog.jsonb) AS h (high bigint, low bigint, mode pg_catalog.text, pid int, start pg_catalog.text)
	WHERE NOT EXISTS (
		SELECT FROM pg_catalog.pg_locks AS l, pg_catalog.pg_stat_get_activity(h.pid::int) AS a
		WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.mode OPERATOR(pg_catalog.=) h.mode AND l.granted
			AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
			AND l.classid OPERATOR(pg_catalog.=) h.high::bigint::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) h.low::bigint::pg_catalog.oid AND l.objsubid OPERATOR(pg_catalog.=) 1
			AND l.pid OPERATOR(pg_catalog.=) h.pid::int
			AND (a.backend_start OPERATOR(pg_catalog.=) h.start::pg_catalog.text::pg_catalog.timestamptz) IS NOT FALSE)) AS held)
SELECT _holds.held, coalesce(doc.id::pg_catalog.text, ''), doc.metadata, coalesce(doc.version, 0), doc.updated_at
FROM _holds LEFT JOIN (
SELECT t."id" AS id, coalesce(t."metadata", '{}') AS metadata, coalesce(t."version", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."updated_at"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."updated_at"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at FROM "lockstore_metadata" AS t
WHERE t."id" OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.text[]::pg_catalog.text[])
) AS doc ON true ORDER BY doc.id

-- .lockstore_metadata: Find under holds, next page
WITH _holds AS MATERIALIZED (SELECT NOT EXISTS (
	SELECT FROM pg_catalog.jsonb_to_recordset($4::pg_catalog.text::pg_catalog.jsonb) AS h (high bigint, low bigint, mode pg_catalog.text, pid int, start pg_catalog.text)
	WHERE NOT EXISTS (
		SELECT FROM pg_catalog.pg_locks AS l, pg_catalog.pg_stat_get_activity(h.pid::int) AS a
		WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.mode OPERATOR(pg_catalog.=) h.mode AND l.granted
			AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
			AND l.classid OPERATOR(pg_catalog.=) h.high::bigint::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) h.low::bigint::pg_catalog.oid AND l.objsubid OPERATOR(pg_catalog.=) 1
			AND l.pid OPERATOR(pg_catalog.=) h.pid::int
			AND (a.backend_start OPERATOR(pg_catalog.=) h.start::pg_catalog.text::pg_catalog.timestamptz) IS NOT FALSE)) AS held)
SELECT _holds.held, coalesce(doc.id::pg_catalog.text, ''), doc.metadata, coalesce(doc.version, 0), doc.updated_at
FROM _holds LEFT JOIN (
SELECT t."id" AS id, coalesce(t."metadata", '{}') AS metadata, coalesce(t."version", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."updated_at"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."updated_at"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at FROM "lockstore_metadata" AS t
WHERE t."metadata" OPERATOR(pg_catalog.@>) $2::pg_catalog.text::pg_catalog.jsonb AND t."id" OPERATOR(pg_catalog.>) $1::pg_catalog.text::pg_catalog.text
ORDER BY t."id" LIMIT $3::bigint
) AS doc ON true ORDER BY doc.id

-- .lockstore_metadata: Merge, alone
UPDATE "lockstore_metadata" AS t SET "metadata" = CASE WHEN $4::boolean AND pg_catalog.jsonb_typeof(t."metadata") OPERATOR(pg_catalog.=) 'object' THEN t."metadata" OPERATOR(pg_catalog.||) $2::pg_catalog.text::pg_catalog.jsonb ELSE "lockstore_merge_patch"(t."metadata"::pg_catalog.jsonb, $2::pg_catalog.text::pg_catalog.jsonb) END, "version" = coalesce(t."version", 0) OPERATOR(pg_catalog.+) 1, "updated_at" = pg_catalog.clock_timestamp()
WHERE t."id" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND (SELECT pg_catalog.set_config('lock_timeout', (extract(epoch FROM GREATEST(LEAST('5000ms'::interval,
	CASE WHEN pg_catalog.current_setting('lock_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('lock_timeout', true)::interval END,
	CASE WHEN pg_catalog.current_setting('statement_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('statement_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END,
	CASE WHEN pg_catalog.current_setting('transaction_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('transaction_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL)
	AND pg_catalog.pg_try_advisory_xact_lock($3::bigint) AND (coalesce(pg_catalog.pg_column_size(t."metadata" OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) LEAST(2147483647, 65536, $6::bigint OPERATOR(pg_catalog./) 90) OR coalesce(pg_catalog.pg_column_size(t."metadata" OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) 2147483647 AND ($4::boolean OR coalesce(pg_catalog.pg_column_size(t."metadata" OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) 65536)
		AND pg_catalog.octet_length(t."metadata"::pg_catalog.text) OPERATOR(pg_catalog.<=) $6::bigint) AND ($5::boolean AND NOT t."metadata" OPERATOR(pg_catalog.@>) $2::pg_catalog.text::pg_catalog.jsonb OR NOT CASE WHEN $4::boolean AND pg_catalog.jsonb_typeof(t."metadata") OPERATOR(pg_catalog.=) 'object' THEN t."metadata" OPERATOR(pg_catalog.||) $2::pg_catalog.text::pg_catalog.jsonb ELSE "lockstore_merge_patch"(t."metadata"::pg_catalog.jsonb, $2::pg_catalog.text::pg_catalog.jsonb) END OPERATOR(pg_catalog.=) coalesce(t."metadata", '{}'))
RETURNING coalesce(t."metadata", '{}') AS metadata, coalesce(t."version", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."updated_at"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."updated_at"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at

-- .lockstore_metadata: Merge in a transaction of the host's
WITH _wait AS MATERIALIZED (
	SELECT old AS host, pg_catalog.set_config('lock_timeout', (extract(epoch FROM GREATEST(LEAST('2500ms'::interval,
	CASE WHEN pg_catalog.current_setting('lock_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('lock_timeout', true)::interval END,
	CASE WHEN pg_catalog.current_setting('statement_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('statement_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END,
	CASE WHEN pg_catalog.current_setting('transaction_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('transaction_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL AS limited FROM pg_catalog.current_setting('lock_timeout') AS old
), _ours AS MATERIALIZED (
	SELECT FROM "lockstore_metadata" AS t WHERE t."id" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND (SELECT limited FROM _wait) FOR NO KEY UPDATE SKIP LOCKED
), _row_order AS MATERIALIZED (
	SELECT pg_catalog.pg_advisory_xact_lock($7::bigint) FROM _wait WHERE NOT EXISTS (SELECT FROM _ours) AND EXISTS (SELECT FROM "lockstore_metadata" AS t WHERE t."id" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text)
), _doc AS MATERIALIZED (
	SELECT FROM "lockstore_metadata" AS t WHERE t."id" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND EXISTS (SELECT FROM _row_order) FOR NO KEY UPDATE
), _doc_lock AS MATERIALIZED (SELECT pg_catalog.pg_try_advisory_xact_lock($3::bigint) AS free FROM (SELECT FROM _ours UNION ALL SELECT FROM _doc) AS locked),
_stored AS (
	UPDATE "lockstore_metadata" AS t SET "metadata" = CASE WHEN $4::boolean AND pg_catalog.jsonb_typeof(t."metadata") OPERATOR(pg_catalog.=) 'object' THEN t."metadata" OPERATOR(pg_catalog.||) $2::pg_catalog.text::pg_catalog.jsonb ELSE "lockstore_merge_patch"(t."metadata"::pg_catalog.jsonb, $2::pg_catalog.text::pg_catalog.jsonb) END, "version" = coalesce(t."version", 0) OPERATOR(pg_catalog.+) 1, "updated_at" = pg_catalog.clock_timestamp() FROM _doc_lock
	WHERE t."id" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND _doc_lock.free AND (coalesce(pg_catalog.pg_column_size(t."metadata" OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) LEAST(2147483647, 65536, $6::bigint OPERATOR(pg_catalog./) 90) OR coalesce(pg_catalog.pg_column_size(t."metadata" OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) 2147483647 AND ($4::boolean OR coalesce(pg_catalog.pg_column_size(t."metadata" OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) 65536)
		AND pg_catalog.octet_length(t."metadata"::pg_catalog.text) OPERATOR(pg_catalog.<=) $6::bigint) AND ($5::boolean AND NOT t."metadata" OPERATOR(pg_catalog.@>) $2::pg_catalog.text::pg_catalog.jsonb OR NOT CASE WHEN $4::boolean AND pg_catalog.jsonb_typeof(t."metadata") OPERATOR(pg_catalog.=) 'object' THEN t."metadata" OPERATOR(pg_catalog.||) $2::pg_catalog.text::pg_catalog.jsonb ELSE "lockstore_merge_patch"(t."metadata"::pg_catalog.jsonb, $2::pg_catalog.text::pg_catalog.jsonb) END OPERATOR(pg_catalog.=) coalesce(t."metadata", '{}'))
	RETURNING coalesce(t."metadata", '{}') AS metadata, coalesce(t."version", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."updated_at"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."updated_at"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at
)
SELECT _stored.metadata, coalesce(_stored.version, 0), _stored.updated_at, coalesce(_doc_lock.free, true),
	(extract(epoch FROM pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) pg_catalog.statement_timestamp()) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint, pg_catalog.set_config('lock_timeout', _wait.host, true) IS NOT NULL
FROM _wait LEFT JOIN _doc_lock ON true LEFT JOIN _stored ON true

-- .lockstore_metadata: MergeMany
WITH _share AS MATERIALIZED (
	SELECT own OPERATOR(pg_catalog.+) (64 OPERATOR(pg_catalog.*) (SELECT pg_catalog.count(*) FROM (
		SELECT FROM pg_catalog.generate_series(1, slots) AS slot
		WHERE pg_catalog.pg_try_advisory_xact_lock(-2678752870978760006::bigint OPERATOR(pg_catalog.+) slot)
		LIMIT greatest((pg_catalog.cardinality($1::pg_catalog.text[]) OPERATOR(pg_catalog.-) own OPERATOR(pg_catalog.+) 63) OPERATOR(pg_catalog./) 64, 0)
	) AS taken)) AS locks
	FROM (SELECT most OPERATOR(pg_catalog./) 4 AS own, most::bigint OPERATOR(pg_catalog.*) (
			pg_catalog.current_setting('max_connections')::int OPERATOR(pg_catalog.+) pg_catalog.current_setting('max_prepared_transactions')::int
		) OPERATOR(pg_catalog./) 4 OPERATOR(pg_catalog./) 64 AS slots
		FROM (SELECT pg_catalog.current_setting('max_locks_per_transaction')::int AS most) AS setting) AS part
)
UPDATE "lockstore_metadata" AS t SET "metadata" = CASE WHEN p.flat AND pg_catalog.jsonb_typeof(t."metadata") OPERATOR(pg_catalog.=) 'object' THEN t."metadata" OPERATOR(pg_catalog.||) p.patch ELSE "lockstore_merge_patch"(t."metadata"::pg_catalog.jsonb, p.patch) END, "version" = coalesce(t."version", 0) OPERATOR(pg_catalog.+) 1, "updated_at" = pg_catalog.clock_timestamp()
FROM (
	SELECT id, patch::pg_catalog.jsonb AS patch, key, flat, sets, room
	FROM unnest($1::pg_catalog.text[]::pg_catalog.text[], $2::pg_catalog.text[], $3::bigint[], $4::boolean[], $5::boolean[], $6::bigint[]) AS p (id, patch, key, flat, sets, room)
	LIMIT (SELECT locks FROM _share)
) AS p
WHERE t."id" OPERATOR(pg_catalog.=) p.id AND pg_catalog.pg_try_advisory_xact_lock(p.key) AND (coalesce(pg_catalog.pg_column_size(t."metadata" OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) LEAST(16384, 65536, p.room OPERATOR(pg_catalog./) 90) OR coalesce(pg_catalog.pg_column_size(t."metadata" OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) 16384 AND (p.flat OR coalesce(pg_catalog.pg_column_size(t."metadata" OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) 65536)
		AND pg_catalog.octet_length(t."metadata"::pg_catalog.text) OPERATOR(pg_catalog.<=) p.room) AND (p.sets AND NOT t."metadata" OPERATOR(pg_catalog.@>) p.patch OR NOT CASE WHEN p.flat AND pg_catalog.jsonb_typeof(t."metadata") OPERATOR(pg_catalog.=) 'object' THEN t."metadata" OPERATOR(pg_catalog.||) p.patch ELSE "lockstore_merge_patch"(t."metadata"::pg_catalog.jsonb, p.patch) END OPERATOR(pg_catalog.=) coalesce(t."metadata", '{}'))
	AND (SELECT pg_catalog.set_config('lock_timeout', (extract(epoch FROM GREATEST(LEAST('100ms'::interval,
	CASE WHEN pg_catalog.current_setting('lock_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('lock_timeout', true)::interval END,
	CASE WHEN pg_catalog.current_setting('statement_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('statement_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END,
	CASE WHEN pg_catalog.current_setting('transaction_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('transaction_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL)
RETURNING (SELECT locks FROM _share), t."id"::pg_catalog.text, coalesce(t."metadata", '{}') AS metadata, coalesce(t."version", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."updated_at"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."updated_at"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at

-- .lockstore_metadata: MergeMany, what is free
WITH _share AS MATERIALIZED (
	SELECT own OPERATOR(pg_catalog.+) (64 OPERATOR(pg_catalog.*) (SELECT pg_catalog.count(*) FROM (
		SELECT FROM pg_catalog.generate_series(1, slots) AS slot
		WHERE pg_catalog.pg_try_advisory_xact_lock(-2678752870978760006::bigint OPERATOR(pg_catalog.+) slot)
		LIMIT greatest((pg_catalog.cardinality($1::pg_catalog.text[]) OPERATOR(pg_catalog.-) own OPERATOR(pg_catalog.+) 63) OPERATOR(pg_catalog./) 64, 0)
	) AS taken)) AS locks
	FROM (SELECT most OPERATOR(pg_catalog./) 4 AS own, most::bigint OPERATOR(pg_catalog.*) (
			pg_catalog.current_setting('max_connections')::int OPERATOR(pg_catalog.+) pg_catalog.current_setting('max_prepared_transactions')::int
		) OPERATOR(pg_catalog./) 4 OPERATOR(pg_catalog./) 64 AS slots
		FROM (SELECT pg_catalog.current_setting('max_locks_per_transaction')::int AS most) AS setting) AS part
), _doc AS MATERIALIZED (
	SELECT t."id" AS id, coalesce(t."metadata", '{}') AS metadata, coalesce(t."version", 0)::bigint AS version, t."updated_at"::pg_catalog.timestamptz AS updated_at, p.patch, p.key, p.flat, p.room
	FROM (
	SELECT id, patch::pg_catalog.jsonb AS patch, key, flat, sets, room
	FROM unnest($1::pg_catalog.text[]::pg_catalog.text[], $2::pg_catalog.text[], $3::bigint[], $4::boolean[], $5::boolean[], $6::bigint[]) AS p (id, patch, key, flat, sets, room)
	LIMIT (SELECT locks FROM _share)
) AS p JOIN "lockstore_metadata" AS t ON t."id" OPERATOR(pg_catalog.=) p.id
	FOR NO KEY UPDATE OF t SKIP LOCKED
), _free AS MATERIALIZED (
	SELECT * FROM _doc WHERE pg_catalog.pg_try_advisory_xact_lock(key)
), _new AS MATERIALIZED (
	SELECT id, metadata, version, updated_at, CASE WHEN flat AND pg_catalog.jsonb_typeof(metadata) OPERATOR(pg_catalog.=) 'object' THEN metadata OPERATOR(pg_catalog.||) patch ELSE "lockstore_merge_patch"(metadata::pg_catalog.jsonb, patch) END AS merged FROM _free WHERE (coalesce(pg_catalog.pg_column_size(metadata OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) LEAST(16384, 65536, room OPERATOR(pg_catalog./) 90) OR coalesce(pg_catalog.pg_column_size(metadata OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) 16384 AND (flat OR coalesce(pg_catalog.pg_column_size(metadata OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) 65536)
		AND pg_catalog.octet_length(metadata::pg_catalog.text) OPERATOR(pg_catalog.<=) room)
), _made AS MATERIALIZED (
	SELECT *, merged OPERATOR(pg_catalog.<>) metadata OR merged::pg_catalog.text OPERATOR(pg_catalog.<>) metadata::pg_catalog.text AS changed FROM _new
), _stored AS (
	UPDATE "lockstore_metadata" AS t SET "metadata" = _made.merged, "version" = coalesce(t."version", 0) OPERATOR(pg_catalog.+) 1, "updated_at" = pg_catalog.clock_timestamp() FROM _made
	WHERE t."id" OPERATOR(pg_catalog.=) _made.id AND _made.changed
	RETURNING t."id" AS id, t."metadata" AS metadata, coalesce(t."version", 0)::bigint AS version, t."updated_at"::pg_catalog.timestamptz AS updated_at
)
SELECT locks, coalesce(done.id, ''), metadata, coalesce(version, 0), updated_at FROM _share LEFT JOIN (
	SELECT id::pg_catalog.text, metadata, version, CASE WHEN pg_catalog.isfinite(updated_at) THEN ((extract(epoch FROM updated_at) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at FROM (
		SELECT id, metadata, version, updated_at FROM _stored
		UNION ALL
		SELECT id, metadata, version, updated_at FROM _made WHERE NOT changed
	) AS done
) AS done ON true

-- .lockstore_metadata: MergeMany of larger documents, and merges that share a connection
WITH _share AS MATERIALIZED (
	SELECT own OPERATOR(pg_catalog.+) (64 OPERATOR(pg_catalog.*) (SELECT pg_catalog.count(*) FROM (
		SELECT FROM pg_catalog.generate_series(1, slots) AS slot
		WHERE pg_catalog.pg_try_advisory_xact_lock(-2678752870978760006::bigint OPERATOR(pg_catalog.+) slot)
		LIMIT greatest((pg_catalog.cardinality($1::pg_catalog.text[]) OPERATOR(pg_catalog.-) own OPERATOR(pg_catalog.+) 63) OPERATOR(pg_catalog./) 64, 0)
	) AS taken)) AS locks
	FROM (SELECT most OPERATOR(pg_catalog./) 4 AS own, most::bigint OPERATOR(pg_catalog.*) (
			pg_catalog.current_setting('max_connections')::int OPERATOR(pg_catalog.+) pg_catalog.current_setting('max_prepared_transactions')::int
		) OPERATOR(pg_catalog./) 4 OPERATOR(pg_catalog./) 64 AS slots
		FROM (SELECT pg_catalog.current_setting('max_locks_per_transaction')::int AS most) AS setting) AS part
), _doc AS MATERIALIZED (
	SELECT t."id" AS id, coalesce(t."metadata", '{}') AS metadata, coalesce(t."version", 0)::bigint AS version, t."updated_at"::pg_catalog.timestamptz AS updated_at, p.patch, p.key, p.flat, p.room
	FROM (
	SELECT id, patch::pg_catalog.jsonb AS patch, key, flat, sets, room
	FROM unnest($1::pg_catalog.text[]::pg_catalog.text[], $2::pg_catalog.text[], $3::bigint[], $4::boolean[], $5::boolean[], $6::bigint[]) AS p (id, patch, key, flat, sets, room)
	LIMIT (SELECT locks FROM _share)
) AS p JOIN "lockstore_metadata" AS t ON t."id" OPERATOR(pg_catalog.=) p.id
	FOR NO KEY UPDATE OF t SKIP LOCKED
), _free AS MATERIALIZED (
	SELECT * FROM _doc WHERE pg_catalog.pg_try_advisory_xact_lock(key)
), _new AS MATERIALIZED (
	SELECT id, metadata, version, updated_at, CASE WHEN flat AND pg_catalog.jsonb_typeof(metadata) OPERATOR(pg_catalog.=) 'object' THEN metadata OPERATOR(pg_catalog.||) patch ELSE "lockstore_merge_patch"(metadata::pg_catalog.jsonb, patch) END AS merged FROM _free WHERE (coalesce(pg_catalog.pg_column_size(metadata OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) LEAST(131072, 65536, room OPERATOR(pg_catalog./) 90) OR coalesce(pg_catalog.pg_column_size(metadata OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) 131072 AND (flat OR coalesce(pg_catalog.pg_column_size(metadata OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) 65536)
		AND pg_catalog.octet_length(metadata::pg_catalog.text) OPERATOR(pg_catalog.<=) room)
), _made AS MATERIALIZED (
	SELECT *, merged OPERATOR(pg_catalog.<>) metadata OR merged::pg_catalog.text OPERATOR(pg_catalog.<>) metadata::pg_catalog.text AS changed FROM _new
), _stored AS (
	UPDATE "lockstore_metadata" AS t SET "metadata" = _made.merged, "version" = coalesce(t."version", 0) OPERATOR(pg_catalog.+) 1, "updated_at" = pg_catalog.clock_timestamp() FROM _made
	WHERE t."id" OPERATOR(pg_catalog.=) _made.id AND _made.changed
	RETURNING t."id" AS id, t."metadata" AS metadata, coalesce(t."version", 0)::bigint AS version, t."updated_at"::pg_catalog.timestamptz AS updated_at
)
SELECT locks, coalesce(done.id, ''), metadata, coalesce(version, 0), updated_at FROM _share LEFT JOIN (
	SELECT id::pg_catalog.text, metadata, version, CASE WHEN pg_catalog.isfinite(updated_at) THEN ((extract(epoch FROM updated_at) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at FROM (
		SELECT id, metadata, version, updated_at FROM _stored
		UNION ALL
		SELECT id, metadata, version, updated_at FROM _made WHERE NOT changed
	) AS done
) AS done ON true

-- .lockstore_metadata: MergeMany, what is free or late
WITH _share AS MATERIALIZED (
	SELECT own OPERATOR(pg_catalog.+) (64 OPERATOR(pg_catalog.*) (SELECT pg_catalog.count(*) FROM (
		SELECT FROM pg_catalog.generate_series(1, slots) AS slot
		WHERE pg_catalog.pg_try_advisory_xact_lock(-2678752870978760006::bigint OPERATOR(pg_catalog.+) slot)
		LIMIT greatest((pg_catalog.cardinality($1::pg_catalog.text[]) OPERATOR(pg_catalog.-) own OPERATOR(pg_catalog.+) 63) OPERATOR(pg_catalog./) 64, 0)
	) AS taken)) AS locks
	FROM (SELECT most OPERATOR(pg_catalog./) 4 AS own, most::bigint OPERATOR(pg_catalog.*) (
			pg_catalog.current_setting('max_connections')::int OPERATOR(pg_catalog.+) pg_catalog.current_setting('max_prepared_transactions')::int
		) OPERATOR(pg_catalog./) 4 OPERATOR(pg_catalog./) 64 AS slots
		FROM (SELECT pg_catalog.current_setting('max_locks_per_transaction')::int AS most) AS setting) AS part
), _doc AS MATERIALIZED (
	SELECT t."id" AS id, coalesce(t."metadata", '{}') AS metadata, coalesce(t."version", 0)::bigint AS version, t."updated_at"::pg_catalog.timestamptz AS updated_at, p.patch, p.key, p.flat, p.room
	FROM (
	SELECT id, patch::pg_catalog.jsonb AS patch, key, flat, sets, room
	FROM unnest($1::pg_catalog.text[]::pg_catalog.text[], $2::pg_catalog.text[], $3::bigint[], $4::boolean[], $5::boolean[], $6::bigint[]) AS p (id, patch, key, flat, sets, room)
	LIMIT (SELECT locks FROM _share)
) AS p JOIN "lockstore_metadata" AS t ON t."id" OPERATOR(pg_catalog.=) p.id
	FOR NO KEY UPDATE OF t SKIP LOCKED
), _free AS MATERIALIZED (
	SELECT * FROM _doc WHERE pg_catalog.pg_try_advisory_xact_lock(key)
), _new AS MATERIALIZED (
	SELECT id, metadata, version, updated_at, CASE WHEN flat AND pg_catalog.jsonb_typeof(metadata) OPERATOR(pg_catalog.=) 'object' THEN metadata OPERATOR(pg_catalog.||) patch ELSE "lockstore_merge_patch"(metadata::pg_catalog.jsonb, patch) END AS merged FROM _free WHERE (coalesce(pg_catalog.pg_column_size(metadata OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) LEAST(131072, 65536, room OPERATOR(pg_catalog./) 90) OR coalesce(pg_catalog.pg_column_size(metadata OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) 131072 AND (flat OR coalesce(pg_catalog.pg_column_size(metadata OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) 65536)
		AND pg_catalog.octet_length(metadata::pg_catalog.text) OPERATOR(pg_catalog.<=) room)
), _made AS MATERIALIZED (
	SELECT *, merged OPERATOR(pg_catalog.<>) metadata OR merged::pg_catalog.text OPERATOR(pg_catalog.<>) metadata::pg_catalog.text AS changed FROM _new
), _stored AS (
	UPDATE "lockstore_metadata" AS t SET "metadata" = _made.merged, "version" = coalesce(t."version", 0) OPERATOR(pg_catalog.+) 1, "updated_at" = pg_catalog.clock_timestamp() FROM _made
	WHERE t."id" OPERATOR(pg_catalog.=) _made.id AND _made.changed
	RETURNING t."id" AS id, t."metadata" AS metadata, coalesce(t."version", 0)::bigint AS version, t."updated_at"::pg_catalog.timestamptz AS updated_at
)
SELECT locks, coalesce(done.id, ''), metadata, coalesce(version, 0), updated_at FROM _share LEFT JOIN (
	SELECT id::pg_catalog.text, metadata, version, CASE WHEN pg_catalog.isfinite(updated_at) THEN ((extract(epoch FROM updated_at) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at FROM (
		SELECT id, metadata, version, updated_at FROM _stored
		UNION ALL
		SELECT id, metadata, version, updated_at FROM _made WHERE NOT changed
	) AS done
	UNION ALL
	SELECT id::pg_catalog.text, NULL, 0, NULL FROM _free
	UNION ALL
	SELECT p.id::pg_catalog.text, NULL, 0, NULL FROM (
	SELECT id, patch::pg_catalog.jsonb AS patch, key, flat, sets, room
	FROM unnest($1::pg_catalog.text[]::pg_catalog.text[], $2::pg_catalog.text[], $3::bigint[], $4::boolean[], $5::boolean[], $6::bigint[]) AS p (id, patch, key, flat, sets, room)
	LIMIT (SELECT locks FROM _share)
) AS p
	WHERE NOT EXISTS (SELECT FROM "lockstore_metadata" AS t WHERE t."id" OPERATOR(pg_catalog.=) p.id)
) AS done ON true

-- .lockstore_metadata: MergeMany, what is missing
WITH _share AS MATERIALIZED (
	SELECT own OPERATOR(pg_catalog.+) (64 OPERATOR(pg_catalog.*) (SELECT pg_catalog.count(*) FROM (
		SELECT FROM pg_catalog.generate_series(1, slots) AS slot
		WHERE pg_catalog.pg_try_advisory_xact_lock(-2678752870978760006::bigint OPERATOR(pg_catalog.+) slot)
		LIMIT greatest((pg_catalog.cardinality($1::pg_catalog.text[]) OPERATOR(pg_catalog.-) own OPERATOR(pg_catalog.+) 63) OPERATOR(pg_catalog./) 64, 0)
	) AS taken)) AS locks
	FROM (SELECT most OPERATOR(pg_catalog./) 4 AS own, most::bigint OPERATOR(pg_catalog.*) (
			pg_catalog.current_setting('max_connections')::int OPERATOR(pg_catalog.+) pg_catalog.current_setting('max_prepared_transactions')::int
		) OPERATOR(pg_catalog./) 4 OPERATOR(pg_catalog./) 64 AS slots
		FROM (SELECT pg_catalog.current_setting('max_locks_per_transaction')::int AS most) AS setting) AS part
), _created AS (
INSERT INTO "lockstore_metadata" AS t ("id", "metadata", "version", "updated_at")
SELECT p.id, "lockstore_merge_patch"('{}'::pg_catalog.jsonb, p.patch), 1, pg_catalog.clock_timestamp()
FROM (
	SELECT id, patch::pg_catalog.jsonb AS patch, key, flat, sets, room
	FROM unnest($1::pg_catalog.text[]::pg_catalog.text[], $2::pg_catalog.text[], $3::bigint[], $4::boolean[], $5::boolean[], $6::bigint[]) AS p (id, patch, key, flat, sets, room)
	LIMIT (SELECT locks FROM _share)
) AS p
WHERE NOT EXISTS (SELECT FROM "lockstore_metadata" AS t WHERE t."id" OPERATOR(pg_catalog.=) p.id)
	AND pg_catalog.pg_try_advisory_xact_lock(p.key) AND p.room OPERATOR(pg_catalog.>=) 0 AND (SELECT pg_catalog.set_config('lock_timeout', (extract(epoch FROM GREATEST(LEAST('100ms'::interval,
	CASE WHEN pg_catalog.current_setting('lock_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('lock_timeout', true)::interval END,
	CASE WHEN pg_catalog.current_setting('statement_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('statement_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END,
	CASE WHEN pg_catalog.current_setting('transaction_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('transaction_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL) ORDER BY p.id
ON CONFLICT DO NOTHING
RETURNING CASE WHEN t."id"::pg_catalog.text OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.text[]) THEN t."id"::pg_catalog.text ELSE (t."id"::pg_catalog.text OPERATOR(pg_catalog.||) ' is not what was inserted')::bigint::pg_catalog.text END AS id, coalesce(t."metadata", '{}') AS metadata, coalesce(t."version", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."updated_at"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."updated_at"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at
)
SELECT locks, coalesce(done.id, ''), metadata, coalesce(version, 0), updated_at FROM _share LEFT JOIN _created AS done ON true

-- .lockstore_metadata: write: lock
WITH _wait AS MATERIALIZED (
	SELECT old AS host, pg_catalog.set_config('lock_timeout', (extract(epoch FROM GREATEST(LEAST('5000ms'::interval,
	CASE WHEN pg_catalog.current_setting('lock_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('lock_timeout', true)::interval END,
	CASE WHEN pg_catalog.current_setting('statement_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('statement_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END,
	CASE WHEN pg_catalog.current_setting('transaction_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('transaction_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL AS limited FROM pg_catalog.current_setting('lock_timeout') AS old
), _doc AS MATERIALIZED (
	SELECT coalesce(t."metadata", '{}') AS metadata, coalesce(t."version", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."updated_at"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."updated_at"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at FROM "lockstore_metadata" AS t WHERE t."id" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND (SELECT limited FROM _wait) FOR NO KEY UPDATE
)
SELECT _doc.metadata, coalesce(_doc.version, 0), _doc.updated_at,
	true, _doc.version IS NOT NULL, CASE WHEN true OR _doc.version IS NOT NULL THEN pg_catalog.pg_try_advisory_xact_lock($3::bigint) ELSE false END,
	CASE WHEN $2::pg_catalog.text IS NULL THEN pg_catalog.set_config('lock_timeout', _wait.host, true) IS NOT NULL ELSE pg_catalog.set_config('idle_in_transaction_session_timeout', (extract(epoch FROM GREATEST(LEAST($2::interval,
	CASE WHEN pg_catalog.current_setting('idle_in_transaction_session_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('idle_in_transaction_session_timeout', true)::interval END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL END
FROM _wait LEFT JOIN _doc ON true

-- .lockstore_metadata: write: create
WITH _wait AS MATERIALIZED (
	SELECT old AS host, pg_catalog.set_config('lock_timeout', (extract(epoch FROM GREATEST(LEAST('5000ms'::interval,
	CASE WHEN pg_catalog.current_setting('lock_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('lock_timeout', true)::interval END,
	CASE WHEN pg_catalog.current_setting('statement_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('statement_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END,
	CASE WHEN pg_catalog.current_setting('transaction_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('transaction_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL AS limited FROM pg_catalog.current_setting('lock_timeout') AS old
), _condition AS MATERIALIZED (SELECT true AS met, $2::bigint AS changes FROM _wait WHERE limited),
_new AS MATERIALIZED (SELECT $3::pg_catalog.text::pg_catalog.jsonb AS doc),
_stored AS (
	INSERT INTO "lockstore_metadata" AS t ("id", "metadata", "version", "updated_at")
	SELECT $1::pg_catalog.text::pg_catalog.text, _new.doc, _condition.changes, pg_catalog.clock_timestamp() FROM _condition, _new WHERE _condition.met
	ON CONFLICT DO NOTHING
	RETURNING t."id"::pg_catalog.text OPERATOR(pg_catalog.=) $1::pg_catalog.text AS done, coalesce(t."version", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."updated_at"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."updated_at"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at,
		CASE WHEN t."metadata" OPERATOR(pg_catalog.=) (SELECT doc FROM _new) THEN NULL ELSE coalesce(t."metadata", '{}') END AS altered
)
SELECT _condition.met AND pg_catalog.set_config('lock_timeout', _wait.host, true) IS NOT NULL, coalesce(_stored.done, false), coalesce(_stored.version, 0), _stored.updated_at, _stored.altered
FROM _wait CROSS JOIN _condition LEFT JOIN _stored ON true

-- .lockstore_metadata: write: create, or say what is in the way
WITH _wait AS MATERIALIZED (
	SELECT old AS host, pg_catalog.set_config('lock_timeout', (extract(epoch FROM GREATEST(LEAST('5000ms'::interval,
	CASE WHEN pg_catalog.current_setting('lock_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('lock_timeout', true)::interval END,
	CASE WHEN pg_catalog.current_setting('statement_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('statement_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END,
	CASE WHEN pg_catalog.current_setting('transaction_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('transaction_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL AS limited FROM pg_catalog.current_setting('lock_timeout') AS old
), _condition AS MATERIALIZED (SELECT true AS met, $2::bigint AS changes FROM _wait WHERE limited),
_new AS MATERIALIZED (SELECT $3::pg_catalog.text::pg_catalog.jsonb AS doc),
_stored AS (
	INSERT INTO "lockstore_metadata" AS t ("id", "metadata", "version", "updated_at")
	SELECT $1::pg_catalog.text::pg_catalog.text, _new.doc, _condition.changes, pg_catalog.clock_timestamp() FROM _condition, _new WHERE _condition.met
	RETURNING t."id"::pg_catalog.text OPERATOR(pg_catalog.=) $1::pg_catalog.text AS done, coalesce(t."version", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."updated_at"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."updated_at"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at,
		CASE WHEN t."metadata" OPERATOR(pg_catalog.=) (SELECT doc FROM _new) THEN NULL ELSE coalesce(t."metadata", '{}') END AS altered
)
SELECT _condition.met AND pg_catalog.set_config('lock_timeout', _wait.host, true) IS NOT NULL, coalesce(_stored.done, false), coalesce(_stored.version, 0), _stored.updated_at, _stored.altered
FROM _wait CROSS JOIN _condition LEFT JOIN _stored ON true

-- .lockstore_metadata: write: store
WITH _condition AS MATERIALIZED (SELECT true AS met, $2::bigint AS changes),
_stored AS (
	UPDATE "lockstore_metadata" AS t SET "metadata" = new.doc, "version" = coalesce(t."version", 0) OPERATOR(pg_catalog.+) _condition.changes, "updated_at" = pg_catalog.clock_timestamp()
	FROM _condition, (SELECT $3::pg_catalog.text::pg_catalog.jsonb AS doc OFFSET 0) AS new
	WHERE t."id" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND _condition.met
	RETURNING coalesce(t."version", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."updated_at"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."updated_at"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at,
		CASE WHEN t."metadata" OPERATOR(pg_catalog.=) new.doc THEN NULL ELSE coalesce(t."metadata", '{}') END AS altered
)
SELECT _condition.met, _stored.version IS NOT NULL, coalesce(_stored.version, 0), _stored.updated_at, _stored.altered
FROM _condition LEFT JOIN _stored ON true

-- .lockstore_metadata: write: store if it is the same still
WITH _condition AS MATERIALIZED (SELECT pg_catalog.set_config('lock_timeout', (extract(epoch FROM GREATEST(LEAST('5000ms'::interval,
	CASE WHEN pg_catalog.current_setting('lock_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('lock_timeout', true)::interval END,
	CASE WHEN pg_catalog.current_setting('statement_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('statement_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END,
	CASE WHEN pg_catalog.current_setting('transaction_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('transaction_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL AND pg_catalog.pg_try_advisory_xact_lock($4::bigint) AS met, $2::bigint AS changes),
_stored AS (
	UPDATE "lockstore_metadata" AS t SET "metadata" = new.doc, "version" = coalesce(t."version", 0) OPERATOR(pg_catalog.+) _condition.changes, "updated_at" = pg_catalog.clock_timestamp()
	FROM _condition, (SELECT $3::pg_catalog.text::pg_catalog.jsonb AS doc OFFSET 0) AS new
	WHERE t."id" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND _condition.met AND coalesce(t."version", 0)::bigint OPERATOR(pg_catalog.=) $5::bigint AND CASE WHEN coalesce(pg_catalog.pg_column_size(t."metadata" OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) 262144 THEN pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(coalesce(t."metadata", '{}')::pg_catalog.text, 'UTF8')), 'hex') OPERATOR(pg_catalog.=) $6::pg_catalog.text ELSE false END
	RETURNING coalesce(t."version", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."updated_at"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."updated_at"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at,
		CASE WHEN t."metadata" OPERATOR(pg_catalog.=) new.doc THEN NULL ELSE coalesce(t."metadata", '{}') END AS altered
)
SELECT _condition.met, _stored.version IS NOT NULL, coalesce(_stored.version, 0), _stored.updated_at, _stored.altered
FROM _condition LEFT JOIN _stored ON true

-- .lockstore_metadata: Delete
WITH _condition AS MATERIALIZED (SELECT true AS met),
_removed AS (DELETE FROM "lockstore_metadata" AS t USING _condition WHERE t."id" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND _condition.met RETURNING 1)
SELECT _condition.met, EXISTS (SELECT FROM _removed), 0::bigint, NULL::bigint, NULL::pg_catalog.jsonb
FROM _condition

-- .lockstore_metadata: write under a hold: lock
WITH _wait AS MATERIALIZED (
	SELECT old AS host, pg_catalog.set_config('lock_timeout', (extract(epoch FROM GREATEST(LEAST('5000ms'::interval,
	CASE WHEN pg_catalog.current_setting('lock_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('lock_timeout', true)::interval END,
	CASE WHEN pg_catalog.current_setting('statement_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('statement_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END,
	CASE WHEN pg_catalog.current_setting('transaction_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('transaction_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL AS limited FROM pg_catalog.current_setting('lock_timeout') AS old
), _doc AS MATERIALIZED (
	SELECT coalesce(t."metadata", '{}') AS metadata, coalesce(t."version", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."updated_at"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."updated_at"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at FROM "lockstore_metadata" AS t WHERE t."id" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND (SELECT limited FROM _wait) FOR NO KEY UPDATE
)
SELECT _doc.metadata, coalesce(_doc.version, 0), _doc.updated_at,
	EXISTS (
		SELECT FROM pg_catalog.pg_locks AS l, pg_catalog.pg_stat_get_activity($6::int) AS a
		WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.mode OPERATOR(pg_catalog.=) 'ExclusiveLock' AND l.granted
			AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
			AND l.classid OPERATOR(pg_catalog.=) $4::bigint::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) $5::bigint::pg_catalog.oid AND l.objsubid OPERATOR(pg_catalog.=) 1
			AND l.pid OPERATOR(pg_catalog.=) $6::int
			AND (a.backend_start OPERATOR(pg_catalog.=) $7::pg_catalog.text::pg_catalog.timestamptz) IS NOT FALSE), _doc.version IS NOT NULL, CASE WHEN true OR _doc.version IS NOT NULL THEN pg_catalog.pg_try_advisory_xact_lock($3::bigint) ELSE false END,
	CASE WHEN $2::pg_catalog.text IS NULL THEN pg_catalog.set_config('lock_timeout', _wait.host, true) IS NOT NULL ELSE pg_catalog.set_config('idle_in_transaction_session_timeout', (extract(epoch FROM GREATEST(LEAST($2::interval,
	CASE WHEN pg_catalog.current_setting('idle_in_transaction_session_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('idle_in_transaction_session_timeout', true)::interval END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL END
FROM _wait LEFT JOIN _doc ON true

-- .lockstore_metadata: write under a hold: create
WITH _wait AS MATERIALIZED (
	SELECT old AS host, pg_catalog.set_config('lock_timeout', (extract(epoch FROM GREATEST(LEAST('5000ms'::interval,
	CASE WHEN pg_catalog.current_setting('lock_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('lock_timeout', true)::interval END,
	CASE WHEN pg_catalog.current_setting('statement_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('statement_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END,
	CASE WHEN pg_catalog.current_setting('transaction_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('transaction_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL AS limited FROM pg_catalog.current_setting('lock_timeout') AS old
), _condition AS MATERIALIZED (SELECT EXISTS (
		SELECT FROM pg_catalog.pg_locks AS l, pg_catalog.pg_stat_get_activity($6::int) AS a
		WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.mode OPERATOR(pg_catalog.=) 'ExclusiveLock' AND l.granted
			AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
			AND l.classid OPERATOR(pg_catalog.=) $4::bigint::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) $5::bigint::pg_catalog.oid AND l.objsubid OPERATOR(pg_catalog.=) 1
			AND l.pid OPERATOR(pg_catalog.=) $6::int
			AND (a.backend_start OPERATOR(pg_catalog.=) $7::pg_catalog.text::pg_catalog.timestamptz) IS NOT FALSE) AS met, $2::bigint AS changes FROM _wait WHERE limited),
_new AS MATERIALIZED (SELECT $3::pg_catalog.text::pg_catalog.jsonb AS doc),
_stored AS (
	INSERT INTO "lockstore_metadata" AS t ("id", "metadata", "version", "updated_at")
	SELECT $1::pg_catalog.text::pg_catalog.text, _new.doc, _condition.changes, pg_catalog.clock_timestamp() FROM _condition, _new WHERE _condition.met
	ON CONFLICT DO NOTHING
	RETURNING t."id"::pg_catalog.text OPERATOR(pg_catalog.=) $1::pg_catalog.text AS done, coalesce(t."version", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."updated_at"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."updated_at"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at,
		CASE WHEN t."metadata" OPERATOR(pg_catalog.=) (SELECT doc FROM _new) THEN NULL ELSE coalesce(t."metadata", '{}') END AS altered
)
SELECT _condition.met AND pg_catalog.set_config('lock_timeout', _wait.host, true) IS NOT NULL, coalesce(_stored.done, false), coalesce(_stored.version, 0), _stored.updated_at, _stored.altered
FROM _wait CROSS JOIN _condition LEFT JOIN _stored ON true

-- .lockstore_metadata: write under a hold: store
WITH _condition AS MATERIALIZED (SELECT EXISTS (
		SELECT FROM pg_catalog.pg_locks AS l, pg_catalog.pg_stat_get_activity($6::int) AS a
		WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.mode OPERATOR(pg_catalog.=) 'ExclusiveLock' AND l.granted
			AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
			AND l.classid OPERATOR(pg_catalog.=) $4::bigint::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) $5::bigint::pg_catalog.oid AND l.objsubid OPERATOR(pg_catalog.=) 1
			AND l.pid OPERATOR(pg_catalog.=) $6::int
			AND (a.backend_start OPERATOR(pg_catalog.=) $7::pg_catalog.text::pg_catalog.timestamptz) IS NOT FALSE) AS met, $2::bigint AS changes),
_stored AS (
	UPDATE "lockstore_metadata" AS t SET "metadata" = new.doc, "version" = coalesce(t."version", 0) OPERATOR(pg_catalog.+) _condition.changes, "updated_at" = pg_catalog.clock_timestamp()
	FROM _condition, (SELECT $3::pg_catalog.text::pg_catalog.jsonb AS doc OFFSET 0) AS new
	WHERE t."id" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND _condition.met
	RETURNING coalesce(t."version", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."updated_at"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."updated_at"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at,
		CASE WHEN t."metadata" OPERATOR(pg_catalog.=) new.doc THEN NULL ELSE coalesce(t."metadata", '{}') END AS altered
)
SELECT _condition.met, _stored.version IS NOT NULL, coalesce(_stored.version, 0), _stored.updated_at, _stored.altered
FROM _condition LEFT JOIN _stored ON true

-- .lockstore_metadata: Delete under a hold
WITH _condition AS MATERIALIZED (SELECT EXISTS (
		SELECT FROM pg_catalog.pg_locks AS l, pg_catalog.pg_stat_get_activity($4::int) AS a
		WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.mode OPERATOR(pg_catalog.=) 'ExclusiveLock' AND l.granted
			AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
			AND l.classid OPERATOR(pg_catalog.=) $2::bigint::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) $3::bigint::pg_catalog.oid AND l.objsubid OPERATOR(pg_catalog.=) 1
			AND l.pid OPERATOR(pg_catalog.=) $4::int
			AND (a.backend_start OPERATOR(pg_catalog.=) $5::pg_catalog.text::pg_catalog.timestamptz) IS NOT FALSE) AS met),
_removed AS (DELETE FROM "lockstore_metadata" AS t USING _condition WHERE t."id" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND _condition.met RETURNING 1)
SELECT _condition.met, EXISTS (SELECT FROM _removed), 0::bigint, NULL::bigint, NULL::pg_catalog.jsonb
FROM _condition

-- .lockstore_metadata: write under several holds, or one of another key: lock
WITH _wait AS MATERIALIZED (
	SELECT old AS host, pg_catalog.set_config('lock_timeout', (extract(epoch FROM GREATEST(LEAST('5000ms'::interval,
	CASE WHEN pg_catalog.current_setting('lock_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('lock_timeout', true)::interval END,
	CASE WHEN pg_catalog.current_setting('statement_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('statement_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END,
	CASE WHEN pg_catalog.current_setting('transaction_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('transaction_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL AS limited FROM pg_catalog.current_setting('lock_timeout') AS old
), _doc AS MATERIALIZED (
	SELECT coalesce(t."metadata", '{}') AS metadata, coalesce(t."version", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."updated_at"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."updated_at"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at FROM "lockstore_metadata" AS t WHERE t."id" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND (SELECT limited FROM _wait) FOR NO KEY UPDATE
)
SELECT _doc.metadata, coalesce(_doc.version, 0), _doc.updated_at,
	(SELECT pg_catalog.bool_and(EXISTS (
		SELECT FROM pg_catalog.pg_locks AS l, pg_catalog.pg_stat_get_activity(h.pid::int) AS a
		WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.mode OPERATOR(pg_catalog.=) h.mode AND l.granted
			AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
			AND l.classid OPERATOR(pg_catalog.=) h.high::bigint::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) h.low::bigint::pg_catalog.oid AND l.objsubid OPERATOR(pg_catalog.=) 1
			AND l.pid OPERATOR(pg_catalog.=) h.pid::int
			AND (a.backend_start OPERATOR(pg_catalog.=) h.start::pg_catalog.text::pg_catalog.timestamptz) IS NOT FALSE))
		FROM pg_catalog.jsonb_to_recordset($4::pg_catalog.text::pg_catalog.jsonb) AS h (high bigint, low bigint, mode pg_catalog.text, pid int, start pg_catalog.text, guard bigint)), _doc.version IS NOT NULL, CASE WHEN true OR _doc.version IS NOT NULL THEN pg_catalog.pg_try_advisory_xact_lock($3::bigint) AND (SELECT pg_catalog.bool_and((h.guard IS NULL OR pg_catalog.pg_try_advisory_xact_lock_shared(h.guard)))
		FROM pg_catalog.jsonb_to_recordset($4::pg_catalog.text::pg_catalog.jsonb) AS h (high bigint, low bigint, mode pg_catalog.text, pid int, start pg_catalog.text, guard bigint)) ELSE false END,
	CASE WHEN $2::pg_catalog.text IS NULL THEN pg_catalog.set_config('lock_timeout', _wait.host, true) IS NOT NULL ELSE pg_catalog.set_config('idle_in_transaction_session_timeout', (extract(epoch FROM GREATEST(LEAST($2::interval,
	CASE WHEN pg_catalog.current_setting('idle_in_transaction_session_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('idle_in_transaction_session_timeout', true)::interval END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL END
FROM _wait LEFT JOIN _doc ON true

-- .lockstore_metadata: write under several holds: create
WITH _wait AS MATERIALIZED (
	SELECT old AS host, pg_catalog.set_config('lock_timeout', (extract(epoch FROM GREATEST(LEAST('5000ms'::interval,
	CASE WHEN pg_catalog.current_setting('lock_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('lock_timeout', true)::interval END,
	CASE WHEN pg_catalog.current_setting('statement_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('statement_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END,
	CASE WHEN pg_catalog.current_setting('transaction_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('transaction_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL AS limited FROM pg_catalog.current_setting('lock_timeout') AS old
), _condition AS MATERIALIZED (SELECT (SELECT pg_catalog.bool_and(EXISTS (
		SELECT FROM pg_catalog.pg_locks AS l, pg_catalog.pg_stat_get_activity(h.pid::int) AS a
		WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.mode OPERATOR(pg_catalog.=) h.mode AND l.granted
			AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
			AND l.classid OPERATOR(pg_catalog.=) h.high::bigint::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) h.low::bigint::pg_catalog.oid AND l.objsubid OPERATOR(pg_catalog.=) 1
			AND l.pid OPERATOR(pg_catalog.=) h.pid::int
			AND (a.backend_start OPERATOR(pg_catalog.=) h.start::pg_catalog.text::pg_catalog.timestamptz) IS NOT FALSE))
		FROM pg_catalog.jsonb_to_recordset($4::pg_catalog.text::pg_catalog.jsonb) AS h (high bigint, low bigint, mode pg_catalog.text, pid int, start pg_catalog.text, guard bigint)) AS met, $2::bigint AS changes FROM _wait WHERE limited),
_new AS MATERIALIZED (SELECT $3::pg_catalog.text::pg_catalog.jsonb AS doc),
_stored AS (
	INSERT INTO "lockstore_metadata" AS t ("id", "metadata", "version", "updated_at")
	SELECT $1::pg_catalog.text::pg_catalog.text, _new.doc, _condition.changes, pg_catalog.clock_timestamp() FROM _condition, _new WHERE _condition.met
	ON CONFLICT DO NOTHING
	RETURNING t."id"::pg_catalog.text OPERATOR(pg_catalog.=) $1::pg_catalog.text AS done, coalesce(t."version", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."updated_at"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."updated_at"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at,
		CASE WHEN t."metadata" OPERATOR(pg_catalog.=) (SELECT doc FROM _new) THEN NULL ELSE coalesce(t."metadata", '{}') END AS altered
)
SELECT _condition.met AND pg_catalog.set_config('lock_timeout', _wait.host, true) IS NOT NULL, coalesce(_stored.done, false), coalesce(_stored.version, 0), _stored.updated_at, _stored.altered
FROM _wait CROSS JOIN _condition LEFT JOIN _stored ON true

-- .lockstore_metadata: write under several holds: store
WITH _condition AS MATERIALIZED (SELECT (SELECT pg_catalog.bool_and(EXISTS (
		SELECT FROM pg_catalog.pg_locks AS l, pg_catalog.pg_stat_get_activity(h.pid::int) AS a
		WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.mode OPERATOR(pg_catalog.=) h.mode AND l.granted
			AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
			AND l.classid OPERATOR(pg_catalog.=) h.high::bigint::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) h.low::bigint::pg_catalog.oid AND l.objsubid OPERATOR(pg_catalog.=) 1
			AND l.pid OPERATOR(pg_catalog.=) h.pid::int
			AND (a.backend_start OPERATOR(pg_catalog.=) h.start::pg_catalog.text::pg_catalog.timestamptz) IS NOT FALSE))
		FROM pg_catalog.jsonb_to_recordset($4::pg_catalog.text::pg_catalog.jsonb) AS h (high bigint, low bigint, mode pg_catalog.text, pid int, start pg_catalog.text, guard bigint)) AS met, $2::bigint AS changes),
_stored AS (
	UPDATE "lockstore_metadata" AS t SET "metadata" = new.doc, "version" = coalesce(t."version", 0) OPERATOR(pg_catalog.+) _condition.changes, "updated_at" = pg_catalog.clock_timestamp()
	FROM _condition, (SELECT $3::pg_catalog.text::pg_catalog.jsonb AS doc OFFSET 0) AS new
	WHERE t."id" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND _condition.met
	RETURNING coalesce(t."version", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."updated_at"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."updated_at"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at,
		CASE WHEN t."metadata" OPERATOR(pg_catalog.=) new.doc THEN NULL ELSE coalesce(t."metadata", '{}') END AS altered
)
SELECT _condition.met, _stored.version IS NOT NULL, coalesce(_stored.version, 0), _stored.updated_at, _stored.altered
FROM _condition LEFT JOIN _stored ON true

-- .lockstore_metadata: Delete under several holds
WITH _condition AS MATERIALIZED (SELECT (SELECT pg_catalog.bool_and(EXISTS (
		SELECT FROM pg_catalog.pg_locks AS l, pg_catalog.pg_stat_get_activity(h.pid::int) AS a
		WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.mode OPERATOR(pg_catalog.=) h.mode AND l.granted
			AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
			AND l.classid OPERATOR(pg_catalog.=) h.high::bigint::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) h.low::bigint::pg_catalog.oid AND l.objsubid OPERATOR(pg_catalog.=) 1
			AND l.pid OPERATOR(pg_catalog.=) h.pid::int
			AND (a.backend_start OPERATOR(pg_catalog.=) h.start::pg_catalog.text::pg_catalog.timestamptz) IS NOT FALSE))
		FROM pg_catalog.jsonb_to_recordset($2::pg_catalog.text::pg_catalog.jsonb) AS h (high bigint, low bigint, mode pg_catalog.text, pid int, start pg_catalog.text, guard bigint)) AS met),
_removed AS (DELETE FROM "lockstore_metadata" AS t USING _condition WHERE t."id" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND _condition.met RETURNING 1)
SELECT _condition.met, EXISTS (SELECT FROM _removed), 0::bigint, NULL::bigint, NULL::pg_catalog.jsonb
FROM _condition

-- .lockstore_metadata: Watch: read
WITH _server AS MATERIALIZED (
	SELECT CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN (SELECT system_identifier::pg_catalog.text FROM pg_catalog.pg_control_system()) OPERATOR(pg_catalog.||) ' ' OPERATOR(pg_catalog.||) pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8) END AS timeline, extract(epoch FROM pg_catalog.pg_postmaster_start_time())::pg_catalog.text AS since
), _found AS (
	SELECT k.place, t."id" IS NOT NULL AS here, coalesce(_server.since OPERATOR(pg_catalog.||) ' ' OPERATOR(pg_catalog.||) t.xmin::pg_catalog.text OPERATOR(pg_catalog.||) ' ' OPERATOR(pg_catalog.||) t.ctid::pg_catalog.text OPERATOR(pg_catalog.||) ' ' OPERATOR(pg_catalog.||) coalesce(t."version", 0)::bigint::pg_catalog.text, '-') AS mark, coalesce(t."metadata", '{}') AS metadata, coalesce(t."version", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."updated_at"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."updated_at"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at,
		pg_catalog.sum(coalesce(pg_catalog.pg_column_size(t."metadata"), 0)) OVER (ORDER BY k.place) AS size
	FROM pg_catalog.unnest($1::pg_catalog.text[]::pg_catalog.text[]) WITH ORDINALITY AS k (id, place) CROSS JOIN _server LEFT JOIN "lockstore_metadata" AS t ON t."id" OPERATOR(pg_catalog.=) k.id
)
SELECT _server.timeline, _found.place, _found.here, _found.mark, _found.metadata, _found.version, _found.updated_at
FROM _server LEFT JOIN _found ON _found.place OPERATOR(pg_catalog.=) 1::bigint OR _found.size OPERATOR(pg_catalog.<=) $2::bigint

-- .lockstore_metadata: Watch: compare
WITH _server AS MATERIALIZED (
	SELECT CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN (SELECT system_identifier::pg_catalog.text FROM pg_catalog.pg_control_system()) OPERATOR(pg_catalog.||) ' ' OPERATOR(pg_catalog.||) pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8) END AS timeline, extract(epoch FROM pg_catalog.pg_postmaster_start_time())::pg_catalog.text AS since
), _other AS (
	SELECT k.place
	FROM unnest($1::pg_catalog.text[]::pg_catalog.text[], $2::pg_catalog.text[]) WITH ORDINALITY AS k (id, mark, place) CROSS JOIN _server LEFT JOIN "lockstore_metadata" AS t ON t."id" OPERATOR(pg_catalog.=) k.id
	WHERE coalesce(_server.since OPERATOR(pg_catalog.||) ' ' OPERATOR(pg_catalog.||) t.xmin::pg_catalog.text OPERATOR(pg_catalog.||) ' ' OPERATOR(pg_catalog.||) t.ctid::pg_catalog.text OPERATOR(pg_catalog.||) ' ' OPERATOR(pg_catalog.||) coalesce(t."version", 0)::bigint::pg_catalog.text, '-') OPERATOR(pg_catalog.<>) k.mark
)
SELECT _server.timeline, coalesce(_other.place, 0) FROM _server LEFT JOIN _other ON true

-- .lockstore_metadata: Watch a view: compare
WITH _server AS MATERIALIZED (
	SELECT CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN (SELECT system_identifier::pg_catalog.text FROM pg_catalog.pg_control_system()) OPERATOR(pg_catalog.||) ' ' OPERATOR(pg_catalog.||) pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8) END AS timeline, extract(epoch FROM pg_catalog.pg_postmaster_start_time())::pg_catalog.text AS since
), _other AS (
	SELECT k.place
	FROM unnest($1::pg_catalog.text[]::pg_catalog.text[], $2::pg_catalog.text[]) WITH ORDINALITY AS k (id, mark, place) CROSS JOIN _server LEFT JOIN "lockstore_metadata" AS t ON t."id" OPERATOR(pg_catalog.=) k.id
	WHERE coalesce(CASE WHEN t."id" IS NOT NULL THEN pg_catalog.hashtextextended(coalesce(t."metadata", '{}')::pg_catalog.text COLLATE pg_catalog."C", 0::bigint)::pg_catalog.text
		OPERATOR(pg_catalog.||) ' ' OPERATOR(pg_catalog.||) coalesce(t."version", 0)::bigint::pg_catalog.text OPERATOR(pg_catalog.||) ' ' OPERATOR(pg_catalog.||) coalesce((CASE WHEN pg_catalog.isfinite(t."updated_at"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."updated_at"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END)::pg_catalog.text, '') END, '-') OPERATOR(pg_catalog.<>) k.mark
)
SELECT _server.timeline, coalesce(_other.place, 0) FROM _server LEFT JOIN _other ON true

-- .lockstore_metadata: Once: look up
SELECT n.place, o.digest, o.version FROM pg_catalog.unnest($1::pg_catalog.text[]) WITH ORDINALITY AS n (token, place), LATERAL (
	SELECT pg_catalog.encode(pg_catalog.uuid_send(digest), 'hex') AS digest, version FROM "lockstore_once" WHERE token OPERATOR(pg_catalog.=) n.token::pg_catalog.uuid OFFSET 0) AS o

-- .lockstore_metadata: Once: Merge, alone
WITH _stored AS (
UPDATE "lockstore_metadata" AS t SET "metadata" = CASE WHEN $4::boolean AND pg_catalog.jsonb_typeof(t."metadata") OPERATOR(pg_catalog.=) 'object' THEN t."metadata" OPERATOR(pg_catalog.||) $2::pg_catalog.text::pg_catalog.jsonb ELSE "lockstore_merge_patch"(t."metadata"::pg_catalog.jsonb, $2::pg_catalog.text::pg_catalog.jsonb) END, "version" = coalesce(t."version", 0) OPERATOR(pg_catalog.+) 1, "updated_at" = pg_catalog.clock_timestamp()
WHERE t."id" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND (SELECT pg_catalog.set_config('lock_timeout', (extract(epoch FROM GREATEST(LEAST('5000ms'::interval,
	CASE WHEN pg_catalog.current_setting('lock_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('lock_timeout', true)::interval END,
	CASE WHEN pg_catalog.current_setting('statement_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('statement_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END,
	CASE WHEN pg_catalog.current_setting('transaction_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('transaction_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL)
	AND pg_catalog.pg_try_advisory_xact_lock($3::bigint) AND (coalesce(pg_catalog.pg_column_size(t."metadata" OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) LEAST(2147483647, 65536, $6::bigint OPERATOR(pg_catalog./) 90) OR coalesce(pg_catalog.pg_column_size(t."metadata" OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) 2147483647 AND ($4::boolean OR coalesce(pg_catalog.pg_column_size(t."metadata" OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) 65536)
		AND pg_catalog.octet_length(t."metadata"::pg_catalog.text) OPERATOR(pg_catalog.<=) $6::bigint) AND ($5::boolean AND NOT t."metadata" OPERATOR(pg_catalog.@>) $2::pg_catalog.text::pg_catalog.jsonb OR NOT CASE WHEN $4::boolean AND pg_catalog.jsonb_typeof(t."metadata") OPERATOR(pg_catalog.=) 'object' THEN t."metadata" OPERATOR(pg_catalog.||) $2::pg_catalog.text::pg_catalog.jsonb ELSE "lockstore_merge_patch"(t."metadata"::pg_catalog.jsonb, $2::pg_catalog.text::pg_catalog.jsonb) END OPERATOR(pg_catalog.=) coalesce(t."metadata", '{}')) AND (SELECT true FROM "lockstore_once" AS o WHERE o.token OPERATOR(pg_catalog.=) ($7::pg_catalog.text[])[1]::pg_catalog.uuid) IS NULL
RETURNING coalesce(t."metadata", '{}') AS metadata, coalesce(t."version", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."updated_at"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."updated_at"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at),
_kept AS (
	INSERT INTO "lockstore_once" (token, digest, version, at)
	SELECT ($7::pg_catalog.text[])[1]::pg_catalog.uuid, ($8::pg_catalog.text[])[1]::pg_catalog.uuid, version OPERATOR(pg_catalog.-) ($9::bigint[])[1], pg_catalog.clock_timestamp() FROM _stored
)
SELECT metadata, version, updated_at FROM _stored

-- .lockstore_metadata: Once: Merge, alone, and old tokens go
WITH _stored AS (
UPDATE "lockstore_metadata" AS t SET "metadata" = CASE WHEN $4::boolean AND pg_catalog.jsonb_typeof(t."metadata") OPERATOR(pg_catalog.=) 'object' THEN t."metadata" OPERATOR(pg_catalog.||) $2::pg_catalog.text::pg_catalog.jsonb ELSE "lockstore_merge_patch"(t."metadata"::pg_catalog.jsonb, $2::pg_catalog.text::pg_catalog.jsonb) END, "version" = coalesce(t."version", 0) OPERATOR(pg_catalog.+) 1, "updated_at" = pg_catalog.clock_timestamp()
WHERE t."id" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND (SELECT pg_catalog.set_config('lock_timeout', (extract(epoch FROM GREATEST(LEAST('5000ms'::interval,
	CASE WHEN pg_catalog.current_setting('lock_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('lock_timeout', true)::interval END,
	CASE WHEN pg_catalog.current_setting('statement_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('statement_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END,
	CASE WHEN pg_catalog.current_setting('transaction_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('transaction_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL)
	AND pg_catalog.pg_try_advisory_xact_lock($3::bigint) AND (coalesce(pg_catalog.pg_column_size(t."metadata" OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) LEAST(2147483647, 65536, $6::bigint OPERATOR(pg_catalog./) 90) OR coalesce(pg_catalog.pg_column_size(t."metadata" OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) 2147483647 AND ($4::boolean OR coalesce(pg_catalog.pg_column_size(t."metadata" OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) 65536)
		AND pg_catalog.octet_length(t."metadata"::pg_catalog.text) OPERATOR(pg_catalog.<=) $6::bigint) AND ($5::boolean AND NOT t."metadata" OPERATOR(pg_catalog.@>) $2::pg_catalog.text::pg_catalog.jsonb OR NOT CASE WHEN $4::boolean AND pg_catalog.jsonb_typeof(t."metadata") OPERATOR(pg_catalog.=) 'object' THEN t."metadata" OPERATOR(pg_catalog.||) $2::pg_catalog.text::pg_catalog.jsonb ELSE "lockstore_merge_patch"(t."metadata"::pg_catalog.jsonb, $2::pg_catalog.text::pg_catalog.jsonb) END OPERATOR(pg_catalog.=) coalesce(t."metadata", '{}')) AND (SELECT true FROM "lockstore_once" AS o WHERE o.token OPERATOR(pg_catalog.=) ($7::pg_catalog.text[])[1]::pg_catalog.uuid) IS NULL
RETURNING coalesce(t."metadata", '{}') AS metadata, coalesce(t."version", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."updated_at"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."updated_at"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at),
_kept AS (
	INSERT INTO "lockstore_once" (token, digest, version, at)
	SELECT ($7::pg_catalog.text[])[1]::pg_catalog.uuid, ($8::pg_catalog.text[])[1]::pg_catalog.uuid, version OPERATOR(pg_catalog.-) ($9::bigint[])[1], pg_catalog.clock_timestamp() FROM _stored
), _aged AS (
	DELETE FROM "lockstore_once" AS a WHERE (SELECT true FROM "lockstore_once" AS o WHERE o.token OPERATOR(pg_catalog.=) a.token) AND a.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND a.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
		SELECT o.ctid FROM "lockstore_once" AS o WHERE o.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND EXISTS (SELECT FROM _stored)
		ORDER BY o.at LIMIT (SELECT $10::bigint) FOR UPDATE SKIP LOCKED))
)
SELECT metadata, version, updated_at FROM _stored

-- .lockstore_metadata: Once: create
WITH _wait AS MATERIALIZED (
	SELECT old AS host, pg_catalog.set_config('lock_timeout', (extract(epoch FROM GREATEST(LEAST('5000ms'::interval,
	CASE WHEN pg_catalog.current_setting('lock_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('lock_timeout', true)::interval END,
	CASE WHEN pg_catalog.current_setting('statement_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('statement_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END,
	CASE WHEN pg_catalog.current_setting('transaction_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('transaction_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL AS limited FROM pg_catalog.current_setting('lock_timeout') AS old
), _condition AS MATERIALIZED (SELECT true AND NOT EXISTS (SELECT FROM pg_catalog.unnest((SELECT $4::pg_catalog.text[])) AS n (token)
	WHERE (SELECT true FROM "lockstore_once" AS o WHERE o.token OPERATOR(pg_catalog.=) n.token::pg_catalog.uuid)) AS met, $2::bigint AS changes FROM _wait WHERE limited),
_new AS MATERIALIZED (SELECT $3::pg_catalog.text::pg_catalog.jsonb AS doc),
_stored AS (
	INSERT INTO "lockstore_metadata" AS t ("id", "metadata", "version", "updated_at")
	SELECT $1::pg_catalog.text::pg_catalog.text, _new.doc, _condition.changes, pg_catalog.clock_timestamp() FROM _condition, _new WHERE _condition.met
	ON CONFLICT DO NOTHING
	RETURNING t."id"::pg_catalog.text OPERATOR(pg_catalog.=) $1::pg_catalog.text AS done, coalesce(t."version", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."updated_at"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."updated_at"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at,
		CASE WHEN t."metadata" OPERATOR(pg_catalog.=) (SELECT doc FROM _new) THEN NULL ELSE coalesce(t."metadata", '{}') END AS altered
),
_kept AS (
	INSERT INTO "lockstore_once" (token, digest, version, at)
	SELECT k.token::pg_catalog.uuid, k.digest::pg_catalog.uuid, _stored.version OPERATOR(pg_catalog.-) k.behind, pg_catalog.clock_timestamp()
	FROM _stored, unnest((SELECT $4::pg_catalog.text[]), (SELECT $5::pg_catalog.text[]), (SELECT $6::bigint[])) AS k (token, digest, behind)
), _aged AS (
	DELETE FROM "lockstore_once" AS a WHERE (SELECT true FROM "lockstore_once" AS o WHERE o.token OPERATOR(pg_catalog.=) a.token) AND a.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND a.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
		SELECT o.ctid FROM "lockstore_once" AS o WHERE o.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND EXISTS (SELECT FROM _stored)
		ORDER BY o.at LIMIT (SELECT $7::bigint) FOR UPDATE SKIP LOCKED))
)
SELECT _condition.met AND pg_catalog.set_config('lock_timeout', _wait.host, true) IS NOT NULL, coalesce(_stored.done, false), coalesce(_stored.version, 0), _stored.updated_at, _stored.altered
FROM _wait CROSS JOIN _condition LEFT JOIN _stored ON true

-- .lockstore_metadata: Once: store
WITH _condition AS MATERIALIZED (SELECT true AND NOT EXISTS (SELECT FROM pg_catalog.unnest((SELECT $4::pg_catalog.text[])) AS n (token)
	WHERE (SELECT true FROM "lockstore_once" AS o WHERE o.token OPERATOR(pg_catalog.=) n.token::pg_catalog.uuid)) AS met, $2::bigint AS changes),
_stored AS (
	UPDATE "lockstore_metadata" AS t SET "metadata" = new.doc, "version" = coalesce(t."version", 0) OPERATOR(pg_catalog.+) _condition.changes, "updated_at" = pg_catalog.clock_timestamp()
	FROM _condition, (SELECT $3::pg_catalog.text::pg_catalog.jsonb AS doc OFFSET 0) AS new
	WHERE t."id" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND _condition.met
	RETURNING coalesce(t."version", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."updated_at"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."updated_at"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at,
		CASE WHEN t."metadata" OPERATOR(pg_catalog.=) new.doc THEN NULL ELSE coalesce(t."metadata", '{}') END AS altered
),
_kept AS (
	INSERT INTO "lockstore_once" (token, digest, version, at)
	SELECT k.token::pg_catalog.uuid, k.digest::pg_catalog.uuid, _stored.version OPERATOR(pg_catalog.-) k.behind, pg_catalog.clock_timestamp()
	FROM _stored, unnest((SELECT $4::pg_catalog.text[]), (SELECT $5::pg_catalog.text[]), (SELECT $6::bigint[])) AS k (token, digest, behind)
), _aged AS (
	DELETE FROM "lockstore_once" AS a WHERE (SELECT true FROM "lockstore_once" AS o WHERE o.token OPERATOR(pg_catalog.=) a.token) AND a.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND a.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
		SELECT o.ctid FROM "lockstore_once" AS o WHERE o.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND EXISTS (SELECT FROM _stored)
		ORDER BY o.at LIMIT (SELECT $7::bigint) FOR UPDATE SKIP LOCKED))
)
SELECT _condition.met, _stored.version IS NOT NULL, coalesce(_stored.version, 0), _stored.updated_at, _stored.altered
FROM _condition LEFT JOIN _stored ON true

-- .lockstore_metadata: Once: store if it is the same still
WITH _condition AS MATERIALIZED (SELECT pg_catalog.set_config('lock_timeout', (extract(epoch FROM GREATEST(LEAST('5000ms'::interval,
	CASE WHEN pg_catalog.current_setting('lock_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('lock_timeout', true)::interval END,
	CASE WHEN pg_catalog.current_setting('statement_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('statement_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END,
	CASE WHEN pg_catalog.current_setting('transaction_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('transaction_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL AND pg_catalog.pg_try_advisory_xact_lock($4::bigint) AND NOT EXISTS (SELECT FROM pg_catalog.unnest((SELECT $7::pg_catalog.text[])) AS n (token)
	WHERE (SELECT true FROM "lockstore_once" AS o WHERE o.token OPERATOR(pg_catalog.=) n.token::pg_catalog.uuid)) AS met, $2::bigint AS changes),
_stored AS (
	UPDATE "lockstore_metadata" AS t SET "metadata" = new.doc, "version" = coalesce(t."version", 0) OPERATOR(pg_catalog.+) _condition.changes, "updated_at" = pg_catalog.clock_timestamp()
	FROM _condition, (SELECT $3::pg_catalog.text::pg_catalog.jsonb AS doc OFFSET 0) AS new
	WHERE t."id" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND _condition.met AND coalesce(t."version", 0)::bigint OPERATOR(pg_catalog.=) $5::bigint AND CASE WHEN coalesce(pg_catalog.pg_column_size(t."metadata" OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) 262144 THEN pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(coalesce(t."metadata", '{}')::pg_catalog.text, 'UTF8')), 'hex') OPERATOR(pg_catalog.=) $6::pg_catalog.text ELSE false END
	RETURNING coalesce(t."version", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."updated_at"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."updated_at"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at,
		CASE WHEN t."metadata" OPERATOR(pg_catalog.=) new.doc THEN NULL ELSE coalesce(t."metadata", '{}') END AS altered
),
_kept AS (
	INSERT INTO "lockstore_once" (token, digest, version, at)
	SELECT k.token::pg_catalog.uuid, k.digest::pg_catalog.uuid, _stored.version OPERATOR(pg_catalog.-) k.behind, pg_catalog.clock_timestamp()
	FROM _stored, unnest((SELECT $7::pg_catalog.text[]), (SELECT $8::pg_catalog.text[]), (SELECT $9::bigint[])) AS k (token, digest, behind)
), _aged AS (
	DELETE FROM "lockstore_once" AS a WHERE (SELECT true FROM "lockstore_once" AS o WHERE o.token OPERATOR(pg_catalog.=) a.token) AND a.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND a.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
		SELECT o.ctid FROM "lockstore_once" AS o WHERE o.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND EXISTS (SELECT FROM _stored)
		ORDER BY o.at LIMIT (SELECT $10::bigint) FOR UPDATE SKIP LOCKED))
)
SELECT _condition.met, _stored.version IS NOT NULL, coalesce(_stored.version, 0), _stored.updated_at, _stored.altered
FROM _condition LEFT JOIN _stored ON true

-- .lockstore_metadata: Once: Delete
WITH _condition AS MATERIALIZED (SELECT true AND NOT EXISTS (SELECT FROM pg_catalog.unnest((SELECT $2::pg_catalog.text[])) AS n (token)
	WHERE (SELECT true FROM "lockstore_once" AS o WHERE o.token OPERATOR(pg_catalog.=) n.token::pg_catalog.uuid)) AS met),
_removed AS (DELETE FROM "lockstore_metadata" AS t USING _condition WHERE t."id" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND _condition.met RETURNING 1),
_kept AS (
	INSERT INTO "lockstore_once" (token, digest, version, at)
	SELECT k.token::pg_catalog.uuid, k.digest::pg_catalog.uuid, 0::bigint OPERATOR(pg_catalog.-) k.behind, pg_catalog.clock_timestamp()
	FROM _removed, unnest((SELECT $2::pg_catalog.text[]), (SELECT $3::pg_catalog.text[]), (SELECT $4::bigint[])) AS k (token, digest, behind)
), _aged AS (
	DELETE FROM "lockstore_once" AS a WHERE (SELECT true FROM "lockstore_once" AS o WHERE o.token OPERATOR(pg_catalog.=) a.token) AND a.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND a.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
		SELECT o.ctid FROM "lockstore_once" AS o WHERE o.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND EXISTS (SELECT FROM _removed)
		ORDER BY o.at LIMIT (SELECT $5::bigint) FOR UPDATE SKIP LOCKED))
)
SELECT _condition.met, EXISTS (SELECT FROM _removed), 0::bigint, NULL::bigint, NULL::pg_catalog.jsonb
FROM _condition

-- .lockstore_metadata: Once: no change
WITH _condition AS MATERIALIZED (SELECT true AND NOT EXISTS (SELECT FROM pg_catalog.unnest((SELECT $2::pg_catalog.text[])) AS n (token)
	WHERE (SELECT true FROM "lockstore_once" AS o WHERE o.token OPERATOR(pg_catalog.=) n.token::pg_catalog.uuid)) AS met),
_stored AS (SELECT coalesce((SELECT coalesce(t."version", 0)::bigint FROM "lockstore_metadata" AS t WHERE t."id" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text), 0::bigint) AS version FROM _condition WHERE _condition.met),
_kept AS (
	INSERT INTO "lockstore_once" (token, digest, version, at)
	SELECT k.token::pg_catalog.uuid, k.digest::pg_catalog.uuid, _stored.version OPERATOR(pg_catalog.-) k.behind, pg_catalog.clock_timestamp()
	FROM _stored, unnest((SELECT $2::pg_catalog.text[]), (SELECT $3::pg_catalog.text[]), (SELECT $4::bigint[])) AS k (token, digest, behind)
), _aged AS (
	DELETE FROM "lockstore_once" AS a WHERE (SELECT true FROM "lockstore_once" AS o WHERE o.token OPERATOR(pg_catalog.=) a.token) AND a.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND a.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
		SELECT o.ctid FROM "lockstore_once" AS o WHERE o.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND EXISTS (SELECT FROM _stored)
		ORDER BY o.at LIMIT (SELECT $5::bigint) FOR UPDATE SKIP LOCKED))
)
SELECT _condition.met, _stored.version IS NOT NULL, coalesce(_stored.version, 0), NULL::bigint, NULL::pg_catalog.jsonb
FROM _condition LEFT JOIN _stored ON true

-- .lockstore_metadata: Once under a hold: create
WITH _wait AS MATERIALIZED (
	SELECT old AS host, pg_catalog.set_config('lock_timeout', (extract(epoch FROM GREATEST(LEAST('5000ms'::interval,
	CASE WHEN pg_catalog.current_setting('lock_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('lock_timeout', true)::interval END,
	CASE WHEN pg_catalog.current_setting('statement_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('statement_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END,
	CASE WHEN pg_catalog.current_setting('transaction_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('transaction_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL AS limited FROM pg_catalog.current_setting('lock_timeout') AS old
), _condition AS MATERIALIZED (SELECT EXISTS (
		SELECT FROM pg_catalog.pg_locks AS l, pg_catalog.pg_stat_get_activity($6::int) AS a
		WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.mode OPERATOR(pg_catalog.=) 'ExclusiveLock' AND l.granted
			AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
			AND l.classid OPERATOR(pg_catalog.=) $4::bigint::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) $5::bigint::pg_catalog.oid AND l.objsubid OPERATOR(pg_catalog.=) 1
			AND l.pid OPERATOR(pg_catalog.=) $6::int
			AND (a.backend_start OPERATOR(pg_catalog.=) $7::pg_catalog.text::pg_catalog.timestamptz) IS NOT FALSE) AND NOT EXISTS (SELECT FROM pg_catalog.unnest((SELECT $8::pg_catalog.text[])) AS n (token)
	WHERE (SELECT true FROM "lockstore_once" AS o WHERE o.token OPERATOR(pg_catalog.=) n.token::pg_catalog.uuid)) AS met, $2::bigint AS changes FROM _wait WHERE limited),
_new AS MATERIALIZED (SELECT $3::pg_catalog.text::pg_catalog.jsonb AS doc),
_stored AS (
	INSERT INTO "lockstore_metadata" AS t ("id", "metadata", "version", "updated_at")
	SELECT $1::pg_catalog.text::pg_catalog.text, _new.doc, _condition.changes, pg_catalog.clock_timestamp() FROM _condition, _new WHERE _condition.met
	ON CONFLICT DO NOTHING
	RETURNING t."id"::pg_catalog.text OPERATOR(pg_catalog.=) $1::pg_catalog.text AS done, coalesce(t."version", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."updated_at"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."updated_at"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at,
		CASE WHEN t."metadata" OPERATOR(pg_catalog.=) (SELECT doc FROM _new) THEN NULL ELSE coalesce(t."metadata", '{}') END AS altered
),
_kept AS (
	INSERT INTO "lockstore_once" (token, digest, version, at)
	SELECT k.token::pg_catalog.uuid, k.digest::pg_catalog.uuid, _stored.version OPERATOR(pg_catalog.-) k.behind, pg_catalog.clock_timestamp()
	FROM _stored, unnest((SELECT $8::pg_catalog.text[]), (SELECT $9::pg_catalog.text[]), (SELECT $10::bigint[])) AS k (token, digest, behind)
), _aged AS (
	DELETE FROM "lockstore_once" AS a WHERE (SELECT true FROM "lockstore_once" AS o WHERE o.token OPERATOR(pg_catalog.=) a.token) AND a.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND a.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
		SELECT o.ctid FROM "lockstore_once" AS o WHERE o.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND EXISTS (SELECT FROM _stored)
		ORDER BY o.at LIMIT (SELECT $11::bigint) FOR UPDATE SKIP LOCKED))
)
SELECT _condition.met AND pg_catalog.set_config('lock_timeout', _wait.host, true) IS NOT NULL, coalesce(_stored.done, false), coalesce(_stored.version, 0), _stored.updated_at, _stored.altered
FROM _wait CROSS JOIN _condition LEFT JOIN _stored ON true

-- .lockstore_metadata: Once under a hold: store
WITH _condition AS MATERIALIZED (SELECT EXISTS (
		SELECT FROM pg_catalog.pg_locks AS l, pg_catalog.pg_stat_get_activity($6::int) AS a
		WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.mode OPERATOR(pg_catalog.=) 'ExclusiveLock' AND l.granted
			AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
			AND l.classid OPERATOR(pg_catalog.=) $4::bigint::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) $5::bigint::pg_catalog.oid AND l.objsubid OPERATOR(pg_catalog.=) 1
			AND l.pid OPERATOR(pg_catalog.=) $6::int
			AND (a.backend_start OPERATOR(pg_catalog.=) $7::pg_catalog.text::pg_catalog.timestamptz) IS NOT FALSE) AND NOT EXISTS (SELECT FROM pg_catalog.unnest((SELECT $8::pg_catalog.text[])) AS n (token)
	WHERE (SELECT true FROM "lockstore_once" AS o WHERE o.token OPERATOR(pg_catalog.=) n.token::pg_catalog.uuid)) AS met, $2::bigint AS changes),
_stored AS (
	UPDATE "lockstore_metadata" AS t SET "metadata" = new.doc, "version" = coalesce(t."version", 0) OPERATOR(pg_catalog.+) _condition.changes, "updated_at" = pg_catalog.clock_timestamp()
	FROM _condition, (SELECT $3::pg_catalog.text::pg_catalog.jsonb AS doc OFFSET 0) AS new
	WHERE t."id" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND _condition.met
	RETURNING coalesce(t."version", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."updated_at"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."updated_at"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at,
		CASE WHEN t."metadata" OPERATOR(pg_catalog.=) new.doc THEN NULL ELSE coalesce(t."metadata", '{}') END AS altered
),
_kept AS (
	INSERT INTO "lockstore_once" (token, digest, version, at)
	SELECT k.token::pg_catalog.uuid, k.digest::pg_catalog.uuid, _stored.version OPERATOR(pg_catalog.-) k.behind, pg_catalog.clock_timestamp()
	FROM _stored, unnest((SELECT $8::pg_catalog.text[]), (SELECT $9::pg_catalog.text[]), (SELECT $10::bigint[])) AS k (token, digest, behind)
), _aged AS (
	DELETE FROM "lockstore_once" AS a WHERE (SELECT true FROM "lockstore_once" AS o WHERE o.token OPERATOR(pg_catalog.=) a.token) AND a.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND a.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
		SELECT o.ctid FROM "lockstore_once" AS o WHERE o.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND EXISTS (SELECT FROM _stored)
		ORDER BY o.at LIMIT (SELECT $11::bigint) FOR UPDATE SKIP LOCKED))
)
SELECT _condition.met, _stored.version IS NOT NULL, coalesce(_stored.version, 0), _stored.updated_at, _stored.altered
FROM _condition LEFT JOIN _stored ON true

-- .lockstore_metadata: Once under a hold: Delete
WITH _condition AS MATERIALIZED (SELECT EXISTS (
		SELECT FROM pg_catalog.pg_locks AS l, pg_catalog.pg_stat_get_activity($4::int) AS a
		WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.mode OPERATOR(pg_catalog.=) 'ExclusiveLock' AND l.granted
			AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
			AND l.classid OPERATOR(pg_catalog.=) $2::bigint::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) $3::bigint::pg_catalog.oid AND l.objsubid OPERATOR(pg_catalog.=) 1
			AND l.pid OPERATOR(pg_catalog.=) $4::int
			AND (a.backend_start OPERATOR(pg_catalog.=) $5::pg_catalog.text::pg_catalog.timestamptz) IS NOT FALSE) AND NOT EXISTS (SELECT FROM pg_catalog.unnest((SELECT $6::pg_catalog.text[])) AS n (token)
	WHERE (SELECT true FROM "lockstore_once" AS o WHERE o.token OPERATOR(pg_catalog.=) n.token::pg_catalog.uuid)) AS met),
_removed AS (DELETE FROM "lockstore_metadata" AS t USING _condition WHERE t."id" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND _condition.met RETURNING 1),
_kept AS (
	INSERT INTO "lockstore_once" (token, digest, version, at)
	SELECT k.token::pg_catalog.uuid, k.digest::pg_catalog.uuid, 0::bigint OPERATOR(pg_catalog.-) k.behind, pg_catalog.clock_timestamp()
	FROM _removed, unnest((SELECT $6::pg_catalog.text[]), (SELECT $7::pg_catalog.text[]), (SELECT $8::bigint[])) AS k (token, digest, behind)
), _aged AS (
	DELETE FROM "lockstore_once" AS a WHERE (SELECT true FROM "lockstore_once" AS o WHERE o.token OPERATOR(pg_catalog.=) a.token) AND a.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND a.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
		SELECT o.ctid FROM "lockstore_once" AS o WHERE o.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND EXISTS (SELECT FROM _removed)
		ORDER BY o.at LIMIT (SELECT $9::bigint) FOR UPDATE SKIP LOCKED))
)
SELECT _condition.met, EXISTS (SELECT FROM _removed), 0::bigint, NULL::bigint, NULL::pg_catalog.jsonb
FROM _condition

-- .lockstore_metadata: Once under a hold: no change
WITH _condition AS MATERIALIZED (SELECT EXISTS (
		SELECT FROM pg_catalog.pg_locks AS l, pg_catalog.pg_stat_get_activity($4::int) AS a
		WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.mode OPERATOR(pg_catalog.=) 'ExclusiveLock' AND l.granted
			AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
			AND l.classid OPERATOR(pg_catalog.=) $2::bigint::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) $3::bigint::pg_catalog.oid AND l.objsubid OPERATOR(pg_catalog.=) 1
			AND l.pid OPERATOR(pg_catalog.=) $4::int
			AND (a.backend_start OPERATOR(pg_catalog.=) $5::pg_catalog.text::pg_catalog.timestamptz) IS NOT FALSE) AND NOT EXISTS (SELECT FROM pg_catalog.unnest((SELECT $6::pg_catalog.text[])) AS n (token)
	WHERE (SELECT true FROM "lockstore_once" AS o WHERE o.token OPERATOR(pg_catalog.=) n.token::pg_catalog.uuid)) AS met),
_stored AS (SELECT coalesce((SELECT coalesce(t."version", 0)::bigint FROM "lockstore_metadata" AS t WHERE t."id" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text), 0::bigint) AS version FROM _condition WHERE _condition.met),
_kept AS (
	INSERT INTO "lockstore_once" (token, digest, version, at)
	SELECT k.token::pg_catalog.uuid, k.digest::pg_catalog.uuid, _stored.version OPERATOR(pg_catalog.-) k.behind, pg_catalog.clock_timestamp()
	FROM _stored, unnest((SELECT $6::pg_catalog.text[]), (SELECT $7::pg_catalog.text[]), (SELECT $8::bigint[])) AS k (token, digest, behind)
), _aged AS (
	DELETE FROM "lockstore_once" AS a WHERE (SELECT true FROM "lockstore_once" AS o WHERE o.token OPERATOR(pg_catalog.=) a.token) AND a.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND a.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
		SELECT o.ctid FROM "lockstore_once" AS o WHERE o.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND EXISTS (SELECT FROM _stored)
		ORDER BY o.at LIMIT (SELECT $9::bigint) FOR UPDATE SKIP LOCKED))
)
SELECT _condition.met, _stored.version IS NOT NULL, coalesce(_stored.version, 0), NULL::bigint, NULL::pg_catalog.jsonb
FROM _condition LEFT JOIN _stored ON true

-- .lockstore_metadata: Once under several holds: create
WITH _wait AS MATERIALIZED (
	SELECT old AS host, pg_catalog.set_config('lock_timeout', (extract(epoch FROM GREATEST(LEAST('5000ms'::interval,
	CASE WHEN pg_catalog.current_setting('lock_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('lock_timeout', true)::interval END,
	CASE WHEN pg_catalog.current_setting('statement_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('statement_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END,
	CASE WHEN pg_catalog.current_setting('transaction_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('transaction_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL AS limited FROM pg_catalog.current_setting('lock_timeout') AS old
), _condition AS MATERIALIZED (SELECT (SELECT pg_catalog.bool_and(EXISTS (
		SELECT FROM pg_catalog.pg_locks AS l, pg_catalog.pg_stat_get_activity(h.pid::int) AS a
		WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.mode OPERATOR(pg_catalog.=) h.mode AND l.granted
			AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
			AND l.classid OPERATOR(pg_catalog.=) h.high::bigint::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) h.low::bigint::pg_catalog.oid AND l.objsubid OPERATOR(pg_catalog.=) 1
			AND l.pid OPERATOR(pg_catalog.=) h.pid::int
			AND (a.backend_start OPERATOR(pg_catalog.=) h.start::pg_catalog.text::pg_catalog.timestamptz) IS NOT FALSE))
		FROM pg_catalog.jsonb_to_recordset($4::pg_catalog.text::pg_catalog.jsonb) AS h (high bigint, low bigint, mode pg_catalog.text, pid int, start pg_catalog.text, guard bigint)) AND NOT EXISTS (SELECT FROM pg_catalog.unnest((SELECT $5::pg_catalog.text[])) AS n (token)
	WHERE (SELECT true FROM "lockstore_once" AS o WHERE o.token OPERATOR(pg_catalog.=) n.token::pg_catalog.uuid)) AS met, $2::bigint AS changes FROM _wait WHERE limited),
_new AS MATERIALIZED (SELECT $3::pg_catalog.text::pg_catalog.jsonb AS doc),
_stored AS (
	INSERT INTO "lockstore_metadata" AS t ("id", "metadata", "version", "updated_at")
	SELECT $1::pg_catalog.text::pg_catalog.text, _new.doc, _condition.changes, pg_catalog.clock_timestamp() FROM _condition, _new WHERE _condition.met
	ON CONFLICT DO NOTHING
	RETURNING t."id"::pg_catalog.text OPERATOR(pg_catalog.=) $1::pg_catalog.text AS done, coalesce(t."version", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."updated_at"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."updated_at"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at,
		CASE WHEN t."metadata" OPERATOR(pg_catalog.=) (SELECT doc FROM _new) THEN NULL ELSE coalesce(t."metadata", '{}') END AS altered
),
_kept AS (
	INSERT INTO "lockstore_once" (token, digest, version, at)
	SELECT k.token::pg_catalog.uuid, k.digest::pg_catalog.uuid, _stored.version OPERATOR(pg_catalog.-) k.behind, pg_catalog.clock_timestamp()
	FROM _stored, unnest((SELECT $5::pg_catalog.text[]), (SELECT $6::pg_catalog.text[]), (SELECT $7::bigint[])) AS k (token, digest, behind)
), _aged AS (
	DELETE FROM "lockstore_once" AS a WHERE (SELECT true FROM "lockstore_once" AS o WHERE o.token OPERATOR(pg_catalog.=) a.token) AND a.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND a.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
		SELECT o.ctid FROM "lockstore_once" AS o WHERE o.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND EXISTS (SELECT FROM _stored)
		ORDER BY o.at LIMIT (SELECT $8::bigint) FOR UPDATE SKIP LOCKED))
)
SELECT _condition.met AND pg_catalog.set_config('lock_timeout', _wait.host, true) IS NOT NULL, coalesce(_stored.done, false), coalesce(_stored.version, 0), _stored.updated_at, _stored.altered
FROM _wait CROSS JOIN _condition LEFT JOIN _stored ON true

-- .lockstore_metadata: Once under several holds: store
WITH _condition AS MATERIALIZED (SELECT (SELECT pg_catalog.bool_and(EXISTS (
		SELECT FROM pg_catalog.pg_locks AS l, pg_catalog.pg_stat_get_activity(h.pid::int) AS a
		WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.mode OPERATOR(pg_catalog.=) h.mode AND l.granted
			AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
			AND l.classid OPERATOR(pg_catalog.=) h.high::bigint::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) h.low::bigint::pg_catalog.oid AND l.objsubid OPERATOR(pg_catalog.=) 1
			AND l.pid OPERATOR(pg_catalog.=) h.pid::int
			AND (a.backend_start OPERATOR(pg_catalog.=) h.start::pg_catalog.text::pg_catalog.timestamptz) IS NOT FALSE))
		FROM pg_catalog.jsonb_to_recordset($4::pg_catalog.text::pg_catalog.jsonb) AS h (high bigint, low bigint, mode pg_catalog.text, pid int, start pg_catalog.text, guard bigint)) AND NOT EXISTS (SELECT FROM pg_catalog.unnest((SELECT $5::pg_catalog.text[])) AS n (token)
	WHERE (SELECT true FROM "lockstore_once" AS o WHERE o.token OPERATOR(pg_catalog.=) n.token::pg_catalog.uuid)) AS met, $2::bigint AS changes),
_stored AS (
	UPDATE "lockstore_metadata" AS t SET "metadata" = new.doc, "version" = coalesce(t."version", 0) OPERATOR(pg_catalog.+) _condition.changes, "updated_at" = pg_catalog.clock_timestamp()
	FROM _condition, (SELECT $3::pg_catalog.text::pg_catalog.jsonb AS doc OFFSET 0) AS new
	WHERE t."id" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND _condition.met
	RETURNING coalesce(t."version", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."updated_at"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."updated_at"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at,
		CASE WHEN t."metadata" OPERATOR(pg_catalog.=) new.doc THEN NULL ELSE coalesce(t."metadata", '{}') END AS altered
),
_kept AS (
	INSERT INTO "lockstore_once" (token, digest, version, at)
	SELECT k.token::pg_catalog.uuid, k.digest::pg_catalog.uuid, _stored.version OPERATOR(pg_catalog.-) k.behind, pg_catalog.clock_timestamp()
	FROM _stored, unnest((SELECT $5::pg_catalog.text[]), (SELECT $6::pg_catalog.text[]), (SELECT $7::bigint[])) AS k (token, digest, behind)
), _aged AS (
	DELETE FROM "lockstore_once" AS a WHERE (SELECT true FROM "lockstore_once" AS o WHERE o.token OPERATOR(pg_catalog.=) a.token) AND a.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND a.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
		SELECT o.ctid FROM "lockstore_once" AS o WHERE o.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND EXISTS (SELECT FROM _stored)
		ORDER BY o.at LIMIT (SELECT $8::bigint) FOR UPDATE SKIP LOCKED))
)
SELECT _condition.met, _stored.version IS NOT NULL, coalesce(_stored.version, 0), _stored.updated_at, _stored.altered
FROM _condition LEFT JOIN _stored ON true

-- .lockstore_metadata: Once under several holds: Delete
WITH _condition AS MATERIALIZED (SELECT (SELECT pg_catalog.bool_and(EXISTS (
		SELECT FROM pg_catalog.pg_locks AS l, pg_catalog.pg_stat_get_activity(h.pid::int) AS a
		WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.mode OPERATOR(pg_catalog.=) h.mode AND l.granted
			AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
			AND l.classid OPERATOR(pg_catalog.=) h.high::bigint::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) h.low::bigint::pg_catalog.oid AND l.objsubid OPERATOR(pg_catalog.=) 1
			AND l.pid OPERATOR(pg_catalog.=) h.pid::int
			AND (a.backend_start OPERATOR(pg_catalog.=) h.start::pg_catalog.text::pg_catalog.timestamptz) IS NOT FALSE))
		FROM pg_catalog.jsonb_to_recordset($2::pg_catalog.text::pg_catalog.jsonb) AS h (high bigint, low bigint, mode pg_catalog.text, pid int, start pg_catalog.text, guard bigint)) AND NOT EXISTS (SELECT FROM pg_catalog.unnest((SELECT $3::pg_catalog.text[])) AS n (token)
	WHERE (SELECT true FROM "lockstore_once" AS o WHERE o.token OPERATOR(pg_catalog.=) n.token::pg_catalog.uuid)) AS met),
_removed AS (DELETE FROM "lockstore_metadata" AS t USING _condition WHERE t."id" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND _condition.met RETURNING 1),
_kept AS (
	INSERT INTO "lockstore_once" (token, digest, version, at)
	SELECT k.token::pg_catalog.uuid, k.digest::pg_catalog.uuid, 0::bigint OPERATOR(pg_catalog.-) k.behind, pg_catalog.clock_timestamp()
	FROM _removed, unnest((SELECT $3::pg_catalog.text[]), (SELECT $4::pg_catalog.text[]), (SELECT $5::bigint[])) AS k (token, digest, behind)
), _aged AS (
	DELETE FROM "lockstore_once" AS a WHERE (SELECT true FROM "lockstore_once" AS o WHERE o.token OPERATOR(pg_catalog.=) a.token) AND a.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND a.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
		SELECT o.ctid FROM "lockstore_once" AS o WHERE o.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND EXISTS (SELECT FROM _removed)
		ORDER BY o.at LIMIT (SELECT $6::bigint) FOR UPDATE SKIP LOCKED))
)
SELECT _condition.met, EXISTS (SELECT FROM _removed), 0::bigint, NULL::bigint, NULL::pg_catalog.jsonb
FROM _condition

-- .lockstore_metadata: Once under several holds: no change
WITH _condition AS MATERIALIZED (SELECT (SELECT pg_catalog.bool_and(EXISTS (
		SELECT FROM pg_catalog.pg_locks AS l, pg_catalog.pg_stat_get_activity(h.pid::int) AS a
		WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.mode OPERATOR(pg_catalog.=) h.mode AND l.granted
			AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
			AND l.classid OPERATOR(pg_catalog.=) h.high::bigint::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) h.low::bigint::pg_catalog.oid AND l.objsubid OPERATOR(pg_catalog.=) 1
			AND l.pid OPERATOR(pg_catalog.=) h.pid::int
			AND (a.backend_start OPERATOR(pg_catalog.=) h.start::pg_catalog.text::pg_catalog.timestamptz) IS NOT FALSE))
		FROM pg_catalog.jsonb_to_recordset($2::pg_catalog.text::pg_catalog.jsonb) AS h (high bigint, low bigint, mode pg_catalog.text, pid int, start pg_catalog.text, guard bigint)) AND NOT EXISTS (SELECT FROM pg_catalog.unnest((SELECT $3::pg_catalog.text[])) AS n (token)
	WHERE (SELECT true FROM "lockstore_once" AS o WHERE o.token OPERATOR(pg_catalog.=) n.token::pg_catalog.uuid)) AS met),
_stored AS (SELECT coalesce((SELECT coalesce(t."version", 0)::bigint FROM "lockstore_metadata" AS t WHERE t."id" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text), 0::bigint) AS version FROM _condition WHERE _condition.met),
_kept AS (
	INSERT INTO "lockstore_once" (token, digest, version, at)
	SELECT k.token::pg_catalog.uuid, k.digest::pg_catalog.uuid, _stored.version OPERATOR(pg_catalog.-) k.behind, pg_catalog.clock_timestamp()
	FROM _stored, unnest((SELECT $3::pg_catalog.text[]), (SELECT $4::pg_catalog.text[]), (SELECT $5::bigint[])) AS k (token, digest, behind)
), _aged AS (
	DELETE FROM "lockstore_once" AS a WHERE (SELECT true FROM "lockstore_once" AS o WHERE o.token OPERATOR(pg_catalog.=) a.token) AND a.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND a.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
		SELECT o.ctid FROM "lockstore_once" AS o WHERE o.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND EXISTS (SELECT FROM _stored)
		ORDER BY o.at LIMIT (SELECT $6::bigint) FOR UPDATE SKIP LOCKED))
)
SELECT _condition.met, _stored.version IS NOT NULL, coalesce(_stored.version, 0), NULL::bigint, NULL::pg_catalog.jsonb
FROM _condition LEFT JOIN _stored ON true

-- app.users: Get
SELECT t."email"::pg_catalog.text, coalesce(t."profile", '{}') AS metadata, coalesce(t."revision", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."changed"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."changed"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at FROM "app"."users" AS t WHERE t."email" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid

-- app.users: GetMany
SELECT t."email"::pg_catalog.text, coalesce(t."profile", '{}') AS metadata, coalesce(t."revision", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."changed"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."changed"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at FROM "app"."users" AS t
WHERE t."email" OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.text[]::pg_catalog.text[]) AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid

-- app.users: Find, first page
SELECT t."email"::pg_catalog.text, coalesce(t."profile", '{}') AS metadata, coalesce(t."revision", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."changed"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."changed"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at FROM "app"."users" AS t
WHERE t."profile" OPERATOR(pg_catalog.@>) $3::pg_catalog.text::pg_catalog.jsonb AND $1::pg_catalog.text IS NOT NULL AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid
ORDER BY t."email" LIMIT $4::bigint

-- app.users: Find, next page
SELECT t."email"::pg_catalog.text, coalesce(t."profile", '{}') AS metadata, coalesce(t."revision", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."changed"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."changed"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at FROM "app"."users" AS t
WHERE t."profile" OPERATOR(pg_catalog.@>) $3::pg_catalog.text::pg_catalog.jsonb AND t."email" OPERATOR(pg_catalog.>) $1::pg_catalog.text::pg_catalog.text AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid
ORDER BY t."email" LIMIT $4::bigint

-- app.users: Find, all of them
SELECT t."email"::pg_catalog.text, coalesce(t."profile", '{}') AS metadata, coalesce(t."revision", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."changed"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."changed"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at FROM "app"."users" AS t
WHERE coalesce(t."profile", '{}') OPERATOR(pg_catalog.@>) $3::pg_catalog.text::pg_catalog.jsonb AND $1::pg_catalog.text IS NOT NULL AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid
ORDER BY t."email" LIMIT $4::bigint

-- app.users: Get under a hold
WITH _holds AS MATERIALIZED (SELECT NOT EXISTS (
	SELECT FROM pg_catalog.jsonb_to_recordset($3::pg_catalog.text::pg_catalog.jsonb) AS h (high bigint, low bigint, mode pg_catalog.text, pid int, start pg_catalog.text)
	WHERE NOT EXISTS (
		SELECT FROM pg_catalog.pg_locks AS l, pg_catalog.pg_stat_get_activity(h.pid::int) AS a
		WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.mode OPERATOR(pg_catalog.=) h.mode AND l.granted
			AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
			AND l.classid OPERATOR(pg_catalog.=) h.high::bigint::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) h.low::bigint::pg_catalog.oid AND l.objsubid OPERATOR(pg_catalog.=) 1
			AND l.pid OPERATOR(pg_catalog.=) h.pid::int
			AND (a.backend_start OPERATOR(pg_catalog.=) h.start::pg_catalog.text::pg_catalog.timestamptz) IS NOT FALSE)) AS held)
SELECT _holds.held, coalesce(doc.id::pg_catalog.text, ''), doc.metadata, coalesce(doc.version, 0), doc.updated_at
FROM _holds LEFT JOIN (SELECT t."email" AS id, coalesce(t."profile", '{}') AS metadata, coalesce(t."revision", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."changed"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."changed"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at FROM "app"."users" AS t WHERE t."email" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid
) AS doc ON true ORDER BY doc.id

-- app.users: GetMany under holds
WITH _holds AS MATERIALIZED (SELECT NOT EXISTS (
	SELECT FROM pg_catalog.jsonb_to_recordset($3::pg_catalog.text::pg_catalog.jsonb) AS h (high bigint, low bigint, mode pg_catalog.text, pid int, start pg_catalog.text)
	WHERE NOT EXISTS (
		SELECT FROM pg_catalog.pg_locks AS l, pg_catalog.pg_stat_get_activity(h.pid::int) AS a
		WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.mode OPERATOR(pg_catalog.=) h.mode AND l.granted
			AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
			AND l.classid OPERATOR(pg_catalog.=) h.high::bigint::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) h.low::bigint::pg_catalog.oid AND l.objsubid OPERATOR(pg_catalog.=) 1
			AND l.pid OPERATOR(pg_catalog.=) h.pid::int
			AND (a.backend_start OPERATOR(pg_catalog.=) h.start::pg_catalog.text::pg_catalog.timestamptz) IS NOT FALSE)) AS held)
SELECT _holds.held, coalesce(doc.id::pg_catalog.text, ''), doc.metadata, coalesce(doc.version, 0), doc.updated_at
FROM _holds LEFT JOIN (
SELECT t."email" AS id, coalesce(t."profile", '{}') AS metadata, coalesce(t."revision", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."changed"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."changed"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at FROM "app"."users" AS t
WHERE t."email" OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.text[]::pg_catalog.text[]) AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid
) AS doc ON true ORDER BY doc.id

-- app.users: Find under holds, next page
WITH _holds AS MATERIALIZED (SELECT NOT EXISTS (
	SELECT FROM pg_catalog.jsonb_to_recordset($5::pg_catalog.text::pg_catalog.jsonb) AS h (high bigint, low bigint, mode pg_catalog.text, pid int, start pg_catalog.text)
	WHERE NOT EXISTS (
		SELECT FROM pg_catalog.pg_locks AS l, pg_catalog.pg_stat_get_activity(h.pid::int) AS a
		WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.mode OPERATOR(pg_catalog.=) h.mode AND l.granted
			AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
			AND l.classid OPERATOR(pg_catalog.=) h.high::bigint::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) h.low::bigint::pg_catalog.oid AND l.objsubid OPERATOR(pg_catalog.=) 1
			AND l.pid OPERATOR(pg_catalog.=) h.pid::int
			AND (a.backend_start OPERATOR(pg_catalog.=) h.start::pg_catalog.text::pg_catalog.timestamptz) IS NOT FALSE)) AS held)
SELECT _holds.held, coalesce(doc.id::pg_catalog.text, ''), doc.metadata, coalesce(doc.version, 0), doc.updated_at
FROM _holds LEFT JOIN (
SELECT t."email" AS id, coalesce(t."profile", '{}') AS metadata, coalesce(t."revision", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."changed"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."changed"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at FROM "app"."users" AS t
WHERE t."profile" OPERATOR(pg_catalog.@>) $3::pg_catalog.text::pg_catalog.jsonb AND t."email" OPERATOR(pg_catalog.>) $1::pg_catalog.text::pg_catalog.text AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid
ORDER BY t."email" LIMIT $4::bigint
) AS doc ON true ORDER BY doc.id

-- app.users: Merge, alone
UPDATE "app"."users" AS t SET "profile" = CASE WHEN $5::boolean AND pg_catalog.jsonb_typeof(t."profile") OPERATOR(pg_catalog.=) 'object' THEN t."profile" OPERATOR(pg_catalog.||) $3::pg_catalog.text::pg_catalog.jsonb ELSE "app"."lockstore_merge_patch"(t."profile"::pg_catalog.jsonb, $3::pg_catalog.text::pg_catalog.jsonb) END, "revision" = coalesce(t."revision", 0) OPERATOR(pg_catalog.+) 1, "changed" = pg_catalog.clock_timestamp()
WHERE t."email" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid AND (SELECT pg_catalog.set_config('lock_timeout', (extract(epoch FROM GREATEST(LEAST('5000ms'::interval,
	CASE WHEN pg_catalog.current_setting('lock_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('lock_timeout', true)::interval END,
	CASE WHEN pg_catalog.current_setting('statement_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('statement_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END,
	CASE WHEN pg_catalog.current_setting('transaction_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('transaction_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL)
	AND pg_catalog.pg_try_advisory_xact_lock($4::bigint) AND (coalesce(pg_catalog.pg_column_size(t."profile" OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) LEAST(2147483647, 65536, $7::bigint OPERATOR(pg_catalog./) 90) OR coalesce(pg_catalog.pg_column_size(t."profile" OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) 2147483647 AND ($5::boolean OR coalesce(pg_catalog.pg_column_size(t."profile" OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) 65536)
		AND pg_catalog.octet_length(t."profile"::pg_catalog.text) OPERATOR(pg_catalog.<=) $7::bigint) AND ($6::boolean AND NOT t."profile" OPERATOR(pg_catalog.@>) $3::pg_catalog.text::pg_catalog.jsonb OR NOT CASE WHEN $5::boolean AND pg_catalog.jsonb_typeof(t."profile") OPERATOR(pg_catalog.=) 'object' THEN t."profile" OPERATOR(pg_catalog.||) $3::pg_catalog.text::pg_catalog.jsonb ELSE "app"."lockstore_merge_patch"(t."profile"::pg_catalog.jsonb, $3::pg_catalog.text::pg_catalog.jsonb) END OPERATOR(pg_catalog.=) coalesce(t."profile", '{}'))
RETURNING coalesce(t."profile", '{}') AS metadata, coalesce(t."revision", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."changed"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."changed"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at

-- app.users: Merge in a transaction of the host's
WITH _wait AS MATERIALIZED (
	SELECT old AS host, pg_catalog.set_config('lock_timeout', (extract(epoch FROM GREATEST(LEAST('2500ms'::interval,
	CASE WHEN pg_catalog.current_setting('lock_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('lock_timeout', true)::interval END,
	CASE WHEN pg_catalog.current_setting('statement_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('statement_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END,
	CASE WHEN pg_catalog.current_setting('transaction_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('transaction_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL AS limited FROM pg_catalog.current_setting('lock_timeout') AS old
), _ours AS MATERIALIZED (
	SELECT FROM "app"."users" AS t WHERE t."email" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid AND (SELECT limited FROM _wait) FOR NO KEY UPDATE SKIP LOCKED
), _row_order AS MATERIALIZED (
	SELECT pg_catalog.pg_advisory_xact_lock($8::bigint) FROM _wait WHERE NOT EXISTS (SELECT FROM _ours) AND EXISTS (SELECT FROM "app"."users" AS t WHERE t."email" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid)
), _doc AS MATERIALIZED (
	SELECT FROM "app"."users" AS t WHERE t."email" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid AND EXISTS (SELECT FROM _row_order) FOR NO KEY UPDATE
), _doc_lock AS MATERIALIZED (SELECT pg_catalog.pg_try_advisory_xact_lock($4::bigint) AS free FROM (SELECT FROM _ours UNION ALL SELECT FROM _doc) AS locked),
_stored AS (
	UPDATE "app"."users" AS t SET "profile" = CASE WHEN $5::boolean AND pg_catalog.jsonb_typeof(t."profile") OPERATOR(pg_catalog.=) 'object' THEN t."profile" OPERATOR(pg_catalog.||) $3::pg_catalog.text::pg_catalog.jsonb ELSE "app"."lockstore_merge_patch"(t."profile"::pg_catalog.jsonb, $3::pg_catalog.text::pg_catalog.jsonb) END, "revision" = coalesce(t."revision", 0) OPERATOR(pg_catalog.+) 1, "changed" = pg_catalog.clock_timestamp() FROM _doc_lock
	WHERE t."email" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid AND _doc_lock.free AND (coalesce(pg_catalog.pg_column_size(t."profile" OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) LEAST(2147483647, 65536, $7::bigint OPERATOR(pg_catalog./) 90) OR coalesce(pg_catalog.pg_column_size(t."profile" OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) 2147483647 AND ($5::boolean OR coalesce(pg_catalog.pg_column_size(t."profile" OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) 65536)
		AND pg_catalog.octet_length(t."profile"::pg_catalog.text) OPERATOR(pg_catalog.<=) $7::bigint) AND ($6::boolean AND NOT t."profile" OPERATOR(pg_catalog.@>) $3::pg_catalog.text::pg_catalog.jsonb OR NOT CASE WHEN $5::boolean AND pg_catalog.jsonb_typeof(t."profile") OPERATOR(pg_catalog.=) 'object' THEN t."profile" OPERATOR(pg_catalog.||) $3::pg_catalog.text::pg_catalog.jsonb ELSE "app"."lockstore_merge_patch"(t."profile"::pg_catalog.jsonb, $3::pg_catalog.text::pg_catalog.jsonb) END OPERATOR(pg_catalog.=) coalesce(t."profile", '{}'))
	RETURNING coalesce(t."profile", '{}') AS metadata, coalesce(t."revision", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."changed"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."changed"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at
)
SELECT _stored.metadata, coalesce(_stored.version, 0), _stored.updated_at, coalesce(_doc_lock.free, true),
	(extract(epoch FROM pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) pg_catalog.statement_timestamp()) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint, pg_catalog.set_config('lock_timeout', _wait.host, true) IS NOT NULL
FROM _wait LEFT JOIN _doc_lock ON true LEFT JOIN _stored ON true

-- app.users: MergeMany
WITH _share AS MATERIALIZED (
	SELECT own OPERATOR(pg_catalog.+) (64 OPERATOR(pg_catalog.*) (SELECT pg_catalog.count(*) FROM (
		SELECT FROM pg_catalog.generate_series(1, slots) AS slot
		WHERE pg_catalog.pg_try_advisory_xact_lock(-2678752870978760006::bigint OPERATOR(pg_catalog.+) slot)
		LIMIT greatest((pg_catalog.cardinality($1::pg_catalog.text[]) OPERATOR(pg_catalog.-) own OPERATOR(pg_catalog.+) 63) OPERATOR(pg_catalog./) 64, 0)
	) AS taken)) AS locks
	FROM (SELECT most OPERATOR(pg_catalog./) 4 AS own, most::bigint OPERATOR(pg_catalog.*) (
			pg_catalog.current_setting('max_connections')::int OPERATOR(pg_catalog.+) pg_catalog.current_setting('max_prepared_transactions')::int
		) OPERATOR(pg_catalog./) 4 OPERATOR(pg_catalog./) 64 AS slots
		FROM (SELECT pg_catalog.current_setting('max_locks_per_transaction')::int AS most) AS setting) AS part
)
UPDATE "app"."users" AS t SET "profile" = CASE WHEN p.flat AND pg_catalog.jsonb_typeof(t."profile") OPERATOR(pg_catalog.=) 'object' THEN t."profile" OPERATOR(pg_catalog.||) p.patch ELSE "app"."lockstore_merge_patch"(t."profile"::pg_catalog.jsonb, p.patch) END, "revision" = coalesce(t."revision", 0) OPERATOR(pg_catalog.+) 1, "changed" = pg_catalog.clock_timestamp()
FROM (
	SELECT id, patch::pg_catalog.jsonb AS patch, key, flat, sets, room
	FROM unnest($1::pg_catalog.text[]::pg_catalog.text[], $3::pg_catalog.text[], $4::bigint[], $5::boolean[], $6::boolean[], $7::bigint[]) AS p (id, patch, key, flat, sets, room)
	LIMIT (SELECT locks FROM _share)
) AS p
WHERE t."email" OPERATOR(pg_catalog.=) p.id AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid AND pg_catalog.pg_try_advisory_xact_lock(p.key) AND (coalesce(pg_catalog.pg_column_size(t."profile" OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) LEAST(16384, 65536, p.room OPERATOR(pg_catalog./) 90) OR coalesce(pg_catalog.pg_column_size(t."profile" OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) 16384 AND (p.flat OR coalesce(pg_catalog.pg_column_size(t."profile" OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) 65536)
		AND pg_catalog.octet_length(t."profile"::pg_catalog.text) OPERATOR(pg_catalog.<=) p.room) AND (p.sets AND NOT t."profile" OPERATOR(pg_catalog.@>) p.patch OR NOT CASE WHEN p.flat AND pg_catalog.jsonb_typeof(t."profile") OPERATOR(pg_catalog.=) 'object' THEN t."profile" OPERATOR(pg_catalog.||) p.patch ELSE "app"."lockstore_merge_patch"(t."profile"::pg_catalog.jsonb, p.patch) END OPERATOR(pg_catalog.=) coalesce(t."profile", '{}'))
	AND (SELECT pg_catalog.set_config('lock_timeout', (extract(epoch FROM GREATEST(LEAST('100ms'::interval,
	CASE WHEN pg_catalog.current_setting('lock_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('lock_timeout', true)::interval END,
	CASE WHEN pg_catalog.current_setting('statement_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('statement_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END,
	CASE WHEN pg_catalog.current_setting('transaction_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('transaction_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL)
RETURNING (SELECT locks FROM _share), t."email"::pg_catalog.text, coalesce(t."profile", '{}') AS metadata, coalesce(t."revision", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."changed"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."changed"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at

-- app.users: MergeMany, what is free
WITH _share AS MATERIALIZED (
	SELECT own OPERATOR(pg_catalog.+) (64 OPERATOR(pg_catalog.*) (SELECT pg_catalog.count(*) FROM (
		SELECT FROM pg_catalog.generate_series(1, slots) AS slot
		WHERE pg_catalog.pg_try_advisory_xact_lock(-2678752870978760006::bigint OPERATOR(pg_catalog.+) slot)
		LIMIT greatest((pg_catalog.cardinality($1::pg_catalog.text[]) OPERATOR(pg_catalog.-) own OPERATOR(pg_catalog.+) 63) OPERATOR(pg_catalog./) 64, 0)
	) AS taken)) AS locks
	FROM (SELECT most OPERATOR(pg_catalog./) 4 AS own, most::bigint OPERATOR(pg_catalog.*) (
			pg_catalog.current_setting('max_connections')::int OPERATOR(pg_catalog.+) pg_catalog.current_setting('max_prepared_transactions')::int
		) OPERATOR(pg_catalog./) 4 OPERATOR(pg_catalog./) 64 AS slots
		FROM (SELECT pg_catalog.current_setting('max_locks_per_transaction')::int AS most) AS setting) AS part
), _doc AS MATERIALIZED (
	SELECT t."email" AS id, coalesce(t."profile", '{}') AS metadata, coalesce(t."revision", 0)::bigint AS version, t."changed"::pg_catalog.timestamptz AS updated_at, p.patch, p.key, p.flat, p.room
	FROM (
	SELECT id, patch::pg_catalog.jsonb AS patch, key, flat, sets, room
	FROM unnest($1::pg_catalog.text[]::pg_catalog.text[], $3::pg_catalog.text[], $4::bigint[], $5::boolean[], $6::boolean[], $7::bigint[]) AS p (id, patch, key, flat, sets, room)
	LIMIT (SELECT locks FROM _share)
) AS p JOIN "app"."users" AS t ON t."email" OPERATOR(pg_catalog.=) p.id AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid
	FOR NO KEY UPDATE OF t SKIP LOCKED
), _free AS MATERIALIZED (
	SELECT * FROM _doc WHERE pg_catalog.pg_try_advisory_xact_lock(key)
), _new AS MATERIALIZED (
	SELECT id, metadata, version, updated_at, CASE WHEN flat AND pg_catalog.jsonb_typeof(metadata) OPERATOR(pg_catalog.=) 'object' THEN metadata OPERATOR(pg_catalog.||) patch ELSE "app"."lockstore_merge_patch"(metadata::pg_catalog.jsonb, patch) END AS merged FROM _free WHERE (coalesce(pg_catalog.pg_column_size(metadata OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) LEAST(16384, 65536, room OPERATOR(pg_catalog./) 90) OR coalesce(pg_catalog.pg_column_size(metadata OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) 16384 AND (flat OR coalesce(pg_catalog.pg_column_size(metadata OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) 65536)
		AND pg_catalog.octet_length(metadata::pg_catalog.text) OPERATOR(pg_catalog.<=) room)
), _made AS MATERIALIZED (
	SELECT *, merged OPERATOR(pg_catalog.<>) metadata OR merged::pg_catalog.text OPERATOR(pg_catalog.<>) metadata::pg_catalog.text AS changed FROM _new
), _stored AS (
	UPDATE "app"."users" AS t SET "profile" = _made.merged, "revision" = coalesce(t."revision", 0) OPERATOR(pg_catalog.+) 1, "changed" = pg_catalog.clock_timestamp() FROM _made
	WHERE t."email" OPERATOR(pg_catalog.=) _made.id AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid AND _made.changed
	RETURNING t."email" AS id, t."profile" AS metadata, coalesce(t."revision", 0)::bigint AS version, t."changed"::pg_catalog.timestamptz AS updated_at
)
SELECT locks, coalesce(done.id, ''), metadata, coalesce(version, 0), updated_at FROM _share LEFT JOIN (
	SELECT id::pg_catalog.text, metadata, version, CASE WHEN pg_catalog.isfinite(updated_at) THEN ((extract(epoch FROM updated_at) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at FROM (
		SELECT id, metadata, version, updated_at FROM _stored
		UNION ALL
		SELECT id, metadata, version, updated_at FROM _made WHERE NOT changed
	) AS done
) AS done ON true

-- app.users: MergeMany of larger documents, and merges that share a connection
WITH _share AS MATERIALIZED (
	SELECT own OPERATOR(pg_catalog.+) (64 OPERATOR(pg_catalog.*) (SELECT pg_catalog.count(*) FROM (
		SELECT FROM pg_catalog.generate_series(1, slots) AS slot
		WHERE pg_catalog.pg_try_advisory_xact_lock(-2678752870978760006::bigint OPERATOR(pg_catalog.+) slot)
		LIMIT greatest((pg_catalog.cardinality($1::pg_catalog.text[]) OPERATOR(pg_catalog.-) own OPERATOR(pg_catalog.+) 63) OPERATOR(pg_catalog./) 64, 0)
	) AS taken)) AS locks
	FROM (SELECT most OPERATOR(pg_catalog./) 4 AS own, most::bigint OPERATOR(pg_catalog.*) (
			pg_catalog.current_setting('max_connections')::int OPERATOR(pg_catalog.+) pg_catalog.current_setting('max_prepared_transactions')::int
		) OPERATOR(pg_catalog./) 4 OPERATOR(pg_catalog./) 64 AS slots
		FROM (SELECT pg_catalog.current_setting('max_locks_per_transaction')::int AS most) AS setting) AS part
), _doc AS MATERIALIZED (
	SELECT t."email" AS id, coalesce(t."profile", '{}') AS metadata, coalesce(t."revision", 0)::bigint AS version, t."changed"::pg_catalog.timestamptz AS updated_at, p.patch, p.key, p.flat, p.room
	FROM (
	SELECT id, patch::pg_catalog.jsonb AS patch, key, flat, sets, room
	FROM unnest($1::pg_catalog.text[]::pg_catalog.text[], $3::pg_catalog.text[], $4::bigint[], $5::boolean[], $6::boolean[], $7::bigint[]) AS p (id, patch, key, flat, sets, room)
	LIMIT (SELECT locks FROM _share)
) AS p JOIN "app"."users" AS t ON t."email" OPERATOR(pg_catalog.=) p.id AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid
	FOR NO KEY UPDATE OF t SKIP LOCKED
), _free AS MATERIALIZED (
	SELECT * FROM _doc WHERE pg_catalog.pg_try_advisory_xact_lock(key)
), _new AS MATERIALIZED (
	SELECT id, metadata, version, updated_at, CASE WHEN flat AND pg_catalog.jsonb_typeof(metadata) OPERATOR(pg_catalog.=) 'object' THEN metadata OPERATOR(pg_catalog.||) patch ELSE "app"."lockstore_merge_patch"(metadata::pg_catalog.jsonb, patch) END AS merged FROM _free WHERE (coalesce(pg_catalog.pg_column_size(metadata OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) LEAST(131072, 65536, room OPERATOR(pg_catalog./) 90) OR coalesce(pg_catalog.pg_column_size(metadata OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) 131072 AND (flat OR coalesce(pg_catalog.pg_column_size(metadata OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) 65536)
		AND pg_catalog.octet_length(metadata::pg_catalog.text) OPERATOR(pg_catalog.<=) room)
), _made AS MATERIALIZED (
	SELECT *, merged OPERATOR(pg_catalog.<>) metadata OR merged::pg_catalog.text OPERATOR(pg_catalog.<>) metadata::pg_catalog.text AS changed FROM _new
), _stored AS (
	UPDATE "app"."users" AS t SET "profile" = _made.merged, "revision" = coalesce(t."revision", 0) OPERATOR(pg_catalog.+) 1, "changed" = pg_catalog.clock_timestamp() FROM _made
	WHERE t."email" OPERATOR(pg_catalog.=) _made.id AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid AND _made.changed
	RETURNING t."email" AS id, t."profile" AS metadata, coalesce(t."revision", 0)::bigint AS version, t."changed"::pg_catalog.timestamptz AS updated_at
)
SELECT locks, coalesce(done.id, ''), metadata, coalesce(version, 0), updated_at FROM _share LEFT JOIN (
	SELECT id::pg_catalog.text, metadata, version, CASE WHEN pg_catalog.isfinite(updated_at) THEN ((extract(epoch FROM updated_at) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at FROM (
		SELECT id, metadata, version, updated_at FROM _stored
		UNION ALL
		SELECT id, metadata, version, updated_at FROM _made WHERE NOT changed
	) AS done
) AS done ON true

-- app.users: MergeMany, what is free or late
WITH _share AS MATERIALIZED (
	SELECT own OPERATOR(pg_catalog.+) (64 OPERATOR(pg_catalog.*) (SELECT pg_catalog.count(*) FROM (
		SELECT FROM pg_catalog.generate_series(1, slots) AS slot
		WHERE pg_catalog.pg_try_advisory_xact_lock(-2678752870978760006::bigint OPERATOR(pg_catalog.+) slot)
		LIMIT greatest((pg_catalog.cardinality($1::pg_catalog.text[]) OPERATOR(pg_catalog.-) own OPERATOR(pg_catalog.+) 63) OPERATOR(pg_catalog./) 64, 0)
	) AS taken)) AS locks
	FROM (SELECT most OPERATOR(pg_catalog./) 4 AS own, most::bigint OPERATOR(pg_catalog.*) (
			pg_catalog.current_setting('max_connections')::int OPERATOR(pg_catalog.+) pg_catalog.current_setting('max_prepared_transactions')::int
		) OPERATOR(pg_catalog./) 4 OPERATOR(pg_catalog./) 64 AS slots
		FROM (SELECT pg_catalog.current_setting('max_locks_per_transaction')::int AS most) AS setting) AS part
), _doc AS MATERIALIZED (
	SELECT t."email" AS id, coalesce(t."profile", '{}') AS metadata, coalesce(t."revision", 0)::bigint AS version, t."changed"::pg_catalog.timestamptz AS updated_at, p.patch, p.key, p.flat, p.room
	FROM (
	SELECT id, patch::pg_catalog.jsonb AS patch, key, flat, sets, room
	FROM unnest($1::pg_catalog.text[]::pg_catalog.text[], $3::pg_catalog.text[], $4::bigint[], $5::boolean[], $6::boolean[], $7::bigint[]) AS p (id, patch, key, flat, sets, room)
	LIMIT (SELECT locks FROM _share)
) AS p JOIN "app"."users" AS t ON t."email" OPERATOR(pg_catalog.=) p.id AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid
	FOR NO KEY UPDATE OF t SKIP LOCKED
), _free AS MATERIALIZED (
	SELECT * FROM _doc WHERE pg_catalog.pg_try_advisory_xact_lock(key)
), _new AS MATERIALIZED (
	SELECT id, metadata, version, updated_at, CASE WHEN flat AND pg_catalog.jsonb_typeof(metadata) OPERATOR(pg_catalog.=) 'object' THEN metadata OPERATOR(pg_catalog.||) patch ELSE "app"."lockstore_merge_patch"(metadata::pg_catalog.jsonb, patch) END AS merged FROM _free WHERE (coalesce(pg_catalog.pg_column_size(metadata OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) LEAST(131072, 65536, room OPERATOR(pg_catalog./) 90) OR coalesce(pg_catalog.pg_column_size(metadata OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) 131072 AND (flat OR coalesce(pg_catalog.pg_column_size(metadata OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) 65536)
		AND pg_catalog.octet_length(metadata::pg_catalog.text) OPERATOR(pg_catalog.<=) room)
), _made AS MATERIALIZED (
	SELECT *, merged OPERATOR(pg_catalog.<>) metadata OR merged::pg_catalog.text OPERATOR(pg_catalog.<>) metadata::pg_catalog.text AS changed FROM _new
), _stored AS (
	UPDATE "app"."users" AS t SET "profile" = _made.merged, "revision" = coalesce(t."revision", 0) OPERATOR(pg_catalog.+) 1, "changed" = pg_catalog.clock_timestamp() FROM _made
	WHERE t."email" OPERATOR(pg_catalog.=) _made.id AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid AND _made.changed
	RETURNING t."email" AS id, t."profile" AS metadata, coalesce(t."revision", 0)::bigint AS version, t."changed"::pg_catalog.timestamptz AS updated_at
)
SELECT locks, coalesce(done.id, ''), metadata, coalesce(version, 0), updated_at FROM _share LEFT JOIN (
	SELECT id::pg_catalog.text, metadata, version, CASE WHEN pg_catalog.isfinite(updated_at) THEN ((extract(epoch FROM updated_at) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at FROM (
		SELECT id, metadata, version, updated_at FROM _stored
		UNION ALL
		SELECT id, metadata, version, updated_at FROM _made WHERE NOT changed
	) AS done
	UNION ALL
	SELECT id::pg_catalog.text, NULL, 0, NULL FROM _free
	UNION ALL
	SELECT p.id::pg_catalog.text, NULL, 0, NULL FROM (
	SELECT id, patch::pg_catalog.jsonb AS patch, key, flat, sets, room
	FROM unnest($1::pg_catalog.text[]::pg_catalog.text[], $3::pg_catalog.text[], $4::bigint[], $5::boolean[], $6::boolean[], $7::bigint[]) AS p (id, patch, key, flat, sets, room)
	LIMIT (SELECT locks FROM _share)
) AS p
	WHERE NOT EXISTS (SELECT FROM "app"."users" AS t WHERE t."email" OPERATOR(pg_catalog.=) p.id AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid)
) AS done ON true

-- app.users: MergeMany, what is missing
WITH _share AS MATERIALIZED (
	SELECT own OPERATOR(pg_catalog.+) (64 OPERATOR(pg_catalog.*) (SELECT pg_catalog.count(*) FROM (
		SELECT FROM pg_catalog.generate_series(1, slots) AS slot
		WHERE pg_catalog.pg_try_advisory_xact_lock(-2678752870978760006::bigint OPERATOR(pg_catalog.+) slot)
		LIMIT greatest((pg_catalog.cardinality($1::pg_catalog.text[]) OPERATOR(pg_catalog.-) own OPERATOR(pg_catalog.+) 63) OPERATOR(pg_catalog./) 64, 0)
	) AS taken)) AS locks
	FROM (SELECT most OPERATOR(pg_catalog./) 4 AS own, most::bigint OPERATOR(pg_catalog.*) (
			pg_catalog.current_setting('max_connections')::int OPERATOR(pg_catalog.+) pg_catalog.current_setting('max_prepared_transactions')::int
		) OPERATOR(pg_catalog./) 4 OPERATOR(pg_catalog./) 64 AS slots
		FROM (SELECT pg_catalog.current_setting('max_locks_per_transaction')::int AS most) AS setting) AS part
), _created AS (
INSERT INTO "app"."users" AS t ("email", "profile", "tenant", "revision", "changed")
SELECT p.id, "app"."lockstore_merge_patch"('{}'::pg_catalog.jsonb, p.patch), $2::pg_catalog.text::pg_catalog.uuid, 1, pg_catalog.clock_timestamp()
FROM (
	SELECT id, patch::pg_catalog.jsonb AS patch, key, flat, sets, room
	FROM unnest($1::pg_catalog.text[]::pg_catalog.text[], $3::pg_catalog.text[], $4::bigint[], $5::boolean[], $6::boolean[], $7::bigint[]) AS p (id, patch, key, flat, sets, room)
	LIMIT (SELECT locks FROM _share)
) AS p
WHERE NOT EXISTS (SELECT FROM "app"."users" AS t WHERE t."email" OPERATOR(pg_catalog.=) p.id AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid)
	AND pg_catalog.pg_try_advisory_xact_lock(p.key) AND p.room OPERATOR(pg_catalog.>=) 0 AND (SELECT pg_catalog.set_config('lock_timeout', (extract(epoch FROM GREATEST(LEAST('100ms'::interval,
	CASE WHEN pg_catalog.current_setting('lock_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('lock_timeout', true)::interval END,
	CASE WHEN pg_catalog.current_setting('statement_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('statement_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END,
	CASE WHEN pg_catalog.current_setting('transaction_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('transaction_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL) ORDER BY p.id
ON CONFLICT DO NOTHING
RETURNING CASE WHEN t."email"::pg_catalog.text OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.text[]) AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid THEN t."email"::pg_catalog.text ELSE (t."email"::pg_catalog.text OPERATOR(pg_catalog.||) ' is not what was inserted')::bigint::pg_catalog.text END AS id, coalesce(t."profile", '{}') AS metadata, coalesce(t."revision", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."changed"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."changed"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at
)
SELECT locks, coalesce(done.id, ''), metadata, coalesce(version, 0), updated_at FROM _share LEFT JOIN _created AS done ON true

-- app.users: write: lock
WITH _wait AS MATERIALIZED (
	SELECT old AS host, pg_catalog.set_config('lock_timeout', (extract(epoch FROM GREATEST(LEAST('5000ms'::interval,
	CASE WHEN pg_catalog.current_setting('lock_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('lock_timeout', true)::interval END,
	CASE WHEN pg_catalog.current_setting('statement_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('statement_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END,
	CASE WHEN pg_catalog.current_setting('transaction_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('transaction_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL AS limited FROM pg_catalog.current_setting('lock_timeout') AS old
), _doc AS MATERIALIZED (
	SELECT coalesce(t."profile", '{}') AS metadata, coalesce(t."revision", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."changed"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."changed"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at FROM "app"."users" AS t WHERE t."email" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid AND (SELECT limited FROM _wait) FOR NO KEY UPDATE
)
SELECT _doc.metadata, coalesce(_doc.version, 0), _doc.updated_at,
	true, _doc.version IS NOT NULL, CASE WHEN false OR _doc.version IS NOT NULL THEN pg_catalog.pg_try_advisory_xact_lock($4::bigint) ELSE false END,
	CASE WHEN $3::pg_catalog.text IS NULL THEN pg_catalog.set_config('lock_timeout', _wait.host, true) IS NOT NULL ELSE pg_catalog.set_config('idle_in_transaction_session_timeout', (extract(epoch FROM GREATEST(LEAST($3::interval,
	CASE WHEN pg_catalog.current_setting('idle_in_transaction_session_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('idle_in_transaction_session_timeout', true)::interval END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL END
FROM _wait LEFT JOIN _doc ON true

-- app.users: write: create
WITH _wait AS MATERIALIZED (
	SELECT old AS host, pg_catalog.set_config('lock_timeout', (extract(epoch FROM GREATEST(LEAST('5000ms'::interval,
	CASE WHEN pg_catalog.current_setting('lock_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('lock_timeout', true)::interval END,
	CASE WHEN pg_catalog.current_setting('statement_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('statement_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END,
	CASE WHEN pg_catalog.current_setting('transaction_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('transaction_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL AS limited FROM pg_catalog.current_setting('lock_timeout') AS old
), _condition AS MATERIALIZED (SELECT true AS met, $3::bigint AS changes FROM _wait WHERE limited),
_new AS MATERIALIZED (SELECT $4::pg_catalog.text::pg_catalog.jsonb AS doc),
_stored AS (
	INSERT INTO "app"."users" AS t ("email", "profile", "tenant", "revision", "changed")
	SELECT $1::pg_catalog.text::pg_catalog.text, _new.doc, $2::pg_catalog.text::pg_catalog.uuid, _condition.changes, pg_catalog.clock_timestamp() FROM _condition, _new WHERE _condition.met
	ON CONFLICT DO NOTHING
	RETURNING t."email"::pg_catalog.text OPERATOR(pg_catalog.=) $1::pg_catalog.text AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid AS done, coalesce(t."revision", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."changed"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."changed"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at,
		CASE WHEN t."profile" OPERATOR(pg_catalog.=) (SELECT doc FROM _new) THEN NULL ELSE coalesce(t."profile", '{}') END AS altered
)
SELECT _condition.met AND pg_catalog.set_config('lock_timeout', _wait.host, true) IS NOT NULL, coalesce(_stored.done, false), coalesce(_stored.version, 0), _stored.updated_at, _stored.altered
FROM _wait CROSS JOIN _condition LEFT JOIN _stored ON true

-- app.users: write: create, or say what is in the way
WITH _wait AS MATERIALIZED (
	SELECT old AS host, pg_catalog.set_config('lock_timeout', (extract(epoch FROM GREATEST(LEAST('5000ms'::interval,
	CASE WHEN pg_catalog.current_setting('lock_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('lock_timeout', true)::interval END,
	CASE WHEN pg_catalog.current_setting('statement_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('statement_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END,
	CASE WHEN pg_catalog.current_setting('transaction_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('transaction_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL AS limited FROM pg_catalog.current_setting('lock_timeout') AS old
), _condition AS MATERIALIZED (SELECT true AS met, $3::bigint AS changes FROM _wait WHERE limited),
_new AS MATERIALIZED (SELECT $4::pg_catalog.text::pg_catalog.jsonb AS doc),
_stored AS (
	INSERT INTO "app"."users" AS t ("email", "profile", "tenant", "revision", "changed")
	SELECT $1::pg_catalog.text::pg_catalog.text, _new.doc, $2::pg_catalog.text::pg_catalog.uuid, _condition.changes, pg_catalog.clock_timestamp() FROM _condition, _new WHERE _condition.met
	RETURNING t."email"::pg_catalog.text OPERATOR(pg_catalog.=) $1::pg_catalog.text AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid AS done, coalesce(t."revision", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."changed"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."changed"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at,
		CASE WHEN t."profile" OPERATOR(pg_catalog.=) (SELECT doc FROM _new) THEN NULL ELSE coalesce(t."profile", '{}') END AS altered
)
SELECT _condition.met AND pg_catalog.set_config('lock_timeout', _wait.host, true) IS NOT NULL, coalesce(_stored.done, false), coalesce(_stored.version, 0), _stored.updated_at, _stored.altered
FROM _wait CROSS JOIN _condition LEFT JOIN _stored ON true

-- app.users: write: store
WITH _condition AS MATERIALIZED (SELECT true AS met, $3::bigint AS changes),
_stored AS (
	UPDATE "app"."users" AS t SET "profile" = new.doc, "revision" = coalesce(t."revision", 0) OPERATOR(pg_catalog.+) _condition.changes, "changed" = pg_catalog.clock_timestamp()
	FROM _condition, (SELECT $4::pg_catalog.text::pg_catalog.jsonb AS doc OFFSET 0) AS new
	WHERE t."email" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid AND _condition.met
	RETURNING coalesce(t."revision", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."changed"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."changed"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at,
		CASE WHEN t."profile" OPERATOR(pg_catalog.=) new.doc THEN NULL ELSE coalesce(t."profile", '{}') END AS altered
)
SELECT _condition.met, _stored.version IS NOT NULL, coalesce(_stored.version, 0), _stored.updated_at, _stored.altered
FROM _condition LEFT JOIN _stored ON true

-- app.users: write: store if it is the same still
WITH _condition AS MATERIALIZED (SELECT pg_catalog.set_config('lock_timeout', (extract(epoch FROM GREATEST(LEAST('5000ms'::interval,
	CASE WHEN pg_catalog.current_setting('lock_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('lock_timeout', true)::interval END,
	CASE WHEN pg_catalog.current_setting('statement_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('statement_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END,
	CASE WHEN pg_catalog.current_setting('transaction_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('transaction_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL AND pg_catalog.pg_try_advisory_xact_lock($5::bigint) AS met, $3::bigint AS changes),
_stored AS (
	UPDATE "app"."users" AS t SET "profile" = new.doc, "revision" = coalesce(t."revision", 0) OPERATOR(pg_catalog.+) _condition.changes, "changed" = pg_catalog.clock_timestamp()
	FROM _condition, (SELECT $4::pg_catalog.text::pg_catalog.jsonb AS doc OFFSET 0) AS new
	WHERE t."email" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid AND _condition.met AND coalesce(t."revision", 0)::bigint OPERATOR(pg_catalog.=) $6::bigint AND CASE WHEN coalesce(pg_catalog.pg_column_size(t."profile" OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) 262144 THEN pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(coalesce(t."profile", '{}')::pg_catalog.text, 'UTF8')), 'hex') OPERATOR(pg_catalog.=) $7::pg_catalog.text ELSE false END
	RETURNING coalesce(t."revision", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."changed"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."changed"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at,
		CASE WHEN t."profile" OPERATOR(pg_catalog.=) new.doc THEN NULL ELSE coalesce(t."profile", '{}') END AS altered
)
SELECT _condition.met, _stored.version IS NOT NULL, coalesce(_stored.version, 0), _stored.updated_at, _stored.altered
FROM _condition LEFT JOIN _stored ON true

-- app.users: Delete
WITH _condition AS MATERIALIZED (SELECT true AS met),
_removed AS (DELETE FROM "app"."users" AS t USING _condition WHERE t."email" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid AND _condition.met RETURNING 1)
SELECT _condition.met, EXISTS (SELECT FROM _removed), 0::bigint, NULL::bigint, NULL::pg_catalog.jsonb
FROM _condition

-- app.users: write under a hold: lock
WITH _wait AS MATERIALIZED (
	SELECT old AS host, pg_catalog.set_config('lock_timeout', (extract(epoch FROM GREATEST(LEAST('5000ms'::interval,
	CASE WHEN pg_catalog.current_setting('lock_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('lock_timeout', true)::interval END,
	CASE WHEN pg_catalog.current_setting('statement_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('statement_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END,
	CASE WHEN pg_catalog.current_setting('transaction_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('transaction_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL AS limited FROM pg_catalog.current_setting('lock_timeout') AS old
), _doc AS MATERIALIZED (
	SELECT coalesce(t."profile", '{}') AS metadata, coalesce(t."revision", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."changed"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."changed"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at FROM "app"."users" AS t WHERE t."email" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid AND (SELECT limited FROM _wait) FOR NO KEY UPDATE
)
SELECT _doc.metadata, coalesce(_doc.version, 0), _doc.updated_at,
	EXISTS (
		SELECT FROM pg_catalog.pg_locks AS l, pg_catalog.pg_stat_get_activity($7::int) AS a
		WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.mode OPERATOR(pg_catalog.=) 'ExclusiveLock' AND l.granted
			AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
			AND l.classid OPERATOR(pg_catalog.=) $5::bigint::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) $6::bigint::pg_catalog.oid AND l.objsubid OPERATOR(pg_catalog.=) 1
			AND l.pid OPERATOR(pg_catalog.=) $7::int
			AND (a.backend_start OPERATOR(pg_catalog.=) $8::pg_catalog.text::pg_catalog.timestamptz) IS NOT FALSE), _doc.version IS NOT NULL, CASE WHEN false OR _doc.version IS NOT NULL THEN pg_catalog.pg_try_advisory_xact_lock($4::bigint) ELSE false END,
	CASE WHEN $3::pg_catalog.text IS NULL THEN pg_catalog.set_config('lock_timeout', _wait.host, true) IS NOT NULL ELSE pg_catalog.set_config('idle_in_transaction_session_timeout', (extract(epoch FROM GREATEST(LEAST($3::interval,
	CASE WHEN pg_catalog.current_setting('idle_in_transaction_session_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('idle_in_transaction_session_timeout', true)::interval END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL END
FROM _wait LEFT JOIN _doc ON true

-- app.users: write under a hold: create
WITH _wait AS MATERIALIZED (
	SELECT old AS host, pg_catalog.set_config('lock_timeout', (extract(epoch FROM GREATEST(LEAST('5000ms'::interval,
	CASE WHEN pg_catalog.current_setting('lock_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('lock_timeout', true)::interval END,
	CASE WHEN pg_catalog.current_setting('statement_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('statement_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END,
	CASE WHEN pg_catalog.current_setting('transaction_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('transaction_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL AS limited FROM pg_catalog.current_setting('lock_timeout') AS old
), _condition AS MATERIALIZED (SELECT EXISTS (
		SELECT FROM pg_catalog.pg_locks AS l, pg_catalog.pg_stat_get_activity($7::int) AS a
		WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.mode OPERATOR(pg_catalog.=) 'ExclusiveLock' AND l.granted
			AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
			AND l.classid OPERATOR(pg_catalog.=) $5::bigint::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) $6::bigint::pg_catalog.oid AND l.objsubid OPERATOR(pg_catalog.=) 1
			AND l.pid OPERATOR(pg_catalog.=) $7::int
			AND (a.backend_start OPERATOR(pg_catalog.=) $8::pg_catalog.text::pg_catalog.timestamptz) IS NOT FALSE) AS met, $3::bigint AS changes FROM _wait WHERE limited),
_new AS MATERIALIZED (SELECT $4::pg_catalog.text::pg_catalog.jsonb AS doc),
_stored AS (
	INSERT INTO "app"."users" AS t ("email", "profile", "tenant", "revision", "changed")
	SELECT $1::pg_catalog.text::pg_catalog.text, _new.doc, $2::pg_catalog.text::pg_catalog.uuid, _condition.changes, pg_catalog.clock_timestamp() FROM _condition, _new WHERE _condition.met
	ON CONFLICT DO NOTHING
	RETURNING t."email"::pg_catalog.text OPERATOR(pg_catalog.=) $1::pg_catalog.text AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid AS done, coalesce(t."revision", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."changed"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."changed"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at,
		CASE WHEN t."profile" OPERATOR(pg_catalog.=) (SELECT doc FROM _new) THEN NULL ELSE coalesce(t."profile", '{}') END AS altered
)
SELECT _condition.met AND pg_catalog.set_config('lock_timeout', _wait.host, true) IS NOT NULL, coalesce(_stored.done, false), coalesce(_stored.version, 0), _stored.updated_at, _stored.altered
FROM _wait CROSS JOIN _condition LEFT JOIN _stored ON true

-- app.users: write under a hold: store
WITH _condition AS MATERIALIZED (SELECT EXISTS (
		SELECT FROM pg_catalog.pg_locks AS l, pg_catalog.pg_stat_get_activity($7::int) AS a
		WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.mode OPERATOR(pg_catalog.=) 'ExclusiveLock' AND l.granted
			AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
			AND l.classid OPERATOR(pg_catalog.=) $5::bigint::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) $6::bigint::pg_catalog.oid AND l.objsubid OPERATOR(pg_catalog.=) 1
			AND l.pid OPERATOR(pg_catalog.=) $7::int
			AND (a.backend_start OPERATOR(pg_catalog.=) $8::pg_catalog.text::pg_catalog.timestamptz) IS NOT FALSE) AS met, $3::bigint AS changes),
_stored AS (
	UPDATE "app"."users" AS t SET "profile" = new.doc, "revision" = coalesce(t."revision", 0) OPERATOR(pg_catalog.+) _condition.changes, "changed" = pg_catalog.clock_timestamp()
	FROM _condition, (SELECT $4::pg_catalog.text::pg_catalog.jsonb AS doc OFFSET 0) AS new
	WHERE t."email" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid AND _condition.met
	RETURNING coalesce(t."revision", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."changed"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."changed"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at,
		CASE WHEN t."profile" OPERATOR(pg_catalog.=) new.doc THEN NULL ELSE coalesce(t."profile", '{}') END AS altered
)
SELECT _condition.met, _stored.version IS NOT NULL, coalesce(_stored.version, 0), _stored.updated_at, _stored.altered
FROM _condition LEFT JOIN _stored ON true

-- app.users: Delete under a hold
WITH _condition AS MATERIALIZED (SELECT EXISTS (
		SELECT FROM pg_catalog.pg_locks AS l, pg_catalog.pg_stat_get_activity($5::int) AS a
		WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.mode OPERATOR(pg_catalog.=) 'ExclusiveLock' AND l.granted
			AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
			AND l.classid OPERATOR(pg_catalog.=) $3::bigint::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) $4::bigint::pg_catalog.oid AND l.objsubid OPERATOR(pg_catalog.=) 1
			AND l.pid OPERATOR(pg_catalog.=) $5::int
			AND (a.backend_start OPERATOR(pg_catalog.=) $6::pg_catalog.text::pg_catalog.timestamptz) IS NOT FALSE) AS met),
_removed AS (DELETE FROM "app"."users" AS t USING _condition WHERE t."email" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid AND _condition.met RETURNING 1)
SELECT _condition.met, EXISTS (SELECT FROM _removed), 0::bigint, NULL::bigint, NULL::pg_catalog.jsonb
FROM _condition

-- app.users: write under several holds, or one of another key: lock
WITH _wait AS MATERIALIZED (
	SELECT old AS host, pg_catalog.set_config('lock_timeout', (extract(epoch FROM GREATEST(LEAST('5000ms'::interval,
	CASE WHEN pg_catalog.current_setting('lock_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('lock_timeout', true)::interval END,
	CASE WHEN pg_catalog.current_setting('statement_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('statement_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END,
	CASE WHEN pg_catalog.current_setting('transaction_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('transaction_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL AS limited FROM pg_catalog.current_setting('lock_timeout') AS old
), _doc AS MATERIALIZED (
	SELECT coalesce(t."profile", '{}') AS metadata, coalesce(t."revision", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."changed"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."changed"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at FROM "app"."users" AS t WHERE t."email" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid AND (SELECT limited FROM _wait) FOR NO KEY UPDATE
)
SELECT _doc.metadata, coalesce(_doc.version, 0), _doc.updated_at,
	(SELECT pg_catalog.bool_and(EXISTS (
		SELECT FROM pg_catalog.pg_locks AS l, pg_catalog.pg_stat_get_activity(h.pid::int) AS a
		WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.mode OPERATOR(pg_catalog.=) h.mode AND l.granted
			AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
			AND l.classid OPERATOR(pg_catalog.=) h.high::bigint::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) h.low::bigint::pg_catalog.oid AND l.objsubid OPERATOR(pg_catalog.=) 1
			AND l.pid OPERATOR(pg_catalog.=) h.pid::int
			AND (a.backend_start OPERATOR(pg_catalog.=) h.start::pg_catalog.text::pg_catalog.timestamptz) IS NOT FALSE))
		FROM pg_catalog.jsonb_to_recordset($5::pg_catalog.text::pg_catalog.jsonb) AS h (high bigint, low bigint, mode pg_catalog.text, pid int, start pg_catalog.text, guard bigint)), _doc.version IS NOT NULL, CASE WHEN false OR _doc.version IS NOT NULL THEN pg_catalog.pg_try_advisory_xact_lock($4::bigint) AND (SELECT pg_catalog.bool_and((h.guard IS NULL OR pg_catalog.pg_try_advisory_xact_lock_shared(h.guard)))
		FROM pg_catalog.jsonb_to_recordset($5::pg_catalog.text::pg_catalog.jsonb) AS h (high bigint, low bigint, mode pg_catalog.text, pid int, start pg_catalog.text, guard bigint)) ELSE false END,
	CASE WHEN $3::pg_catalog.text IS NULL THEN pg_catalog.set_config('lock_timeout', _wait.host, true) IS NOT NULL ELSE pg_catalog.set_config('idle_in_transaction_session_timeout', (extract(epoch FROM GREATEST(LEAST($3::interval,
	CASE WHEN pg_catalog.current_setting('idle_in_transaction_session_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('idle_in_transaction_session_timeout', true)::interval END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL END
FROM _wait LEFT JOIN _doc ON true

-- app.users: write under several holds: create
WITH _wait AS MATERIALIZED (
	SELECT old AS host, pg_catalog.set_config('lock_timeout', (extract(epoch FROM GREATEST(LEAST('5000ms'::interval,
	CASE WHEN pg_catalog.current_setting('lock_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('lock_timeout', true)::interval END,
	CASE WHEN pg_catalog.current_setting('statement_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('statement_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END,
	CASE WHEN pg_catalog.current_setting('transaction_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('transaction_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL AS limited FROM pg_catalog.current_setting('lock_timeout') AS old
), _condition AS MATERIALIZED (SELECT (SELECT pg_catalog.bool_and(EXISTS (
		SELECT FROM pg_catalog.pg_locks AS l, pg_catalog.pg_stat_get_activity(h.pid::int) AS a
		WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.mode OPERATOR(pg_catalog.=) h.mode AND l.granted
			AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
			AND l.classid OPERATOR(pg_catalog.=) h.high::bigint::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) h.low::bigint::pg_catalog.oid AND l.objsubid OPERATOR(pg_catalog.=) 1
			AND l.pid OPERATOR(pg_catalog.=) h.pid::int
			AND (a.backend_start OPERATOR(pg_catalog.=) h.start::pg_catalog.text::pg_catalog.timestamptz) IS NOT FALSE))
		FROM pg_catalog.jsonb_to_recordset($5::pg_catalog.text::pg_catalog.jsonb) AS h (high bigint, low bigint, mode pg_catalog.text, pid int, start pg_catalog.text, guard bigint)) AS met, $3::bigint AS changes FROM _wait WHERE limited),
_new AS MATERIALIZED (SELECT $4::pg_catalog.text::pg_catalog.jsonb AS doc),
_stored AS (
	INSERT INTO "app"."users" AS t ("email", "profile", "tenant", "revision", "changed")
	SELECT $1::pg_catalog.text::pg_catalog.text, _new.doc, $2::pg_catalog.text::pg_catalog.uuid, _condition.changes, pg_catalog.clock_timestamp() FROM _condition, _new WHERE _condition.met
	ON CONFLICT DO NOTHING
	RETURNING t."email"::pg_catalog.text OPERATOR(pg_catalog.=) $1::pg_catalog.text AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid AS done, coalesce(t."revision", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."changed"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."changed"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at,
		CASE WHEN t."profile" OPERATOR(pg_catalog.=) (SELECT doc FROM _new) THEN NULL ELSE coalesce(t."profile", '{}') END AS altered
)
SELECT _condition.met AND pg_catalog.set_config('lock_timeout', _wait.host, true) IS NOT NULL, coalesce(_stored.done, false), coalesce(_stored.version, 0), _stored.updated_at, _stored.altered
FROM _wait CROSS JOIN _condition LEFT JOIN _stored ON true

-- app.users: write under several holds: store
WITH _condition AS MATERIALIZED (SELECT (SELECT pg_catalog.bool_and(EXISTS (
		SELECT FROM pg_catalog.pg_locks AS l, pg_catalog.pg_stat_get_activity(h.pid::int) AS a
		WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.mode OPERATOR(pg_catalog.=) h.mode AND l.granted
			AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
			AND l.classid OPERATOR(pg_catalog.=) h.high::bigint::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) h.low::bigint::pg_catalog.oid AND l.objsubid OPERATOR(pg_catalog.=) 1
			AND l.pid OPERATOR(pg_catalog.=) h.pid::int
			AND (a.backend_start OPERATOR(pg_catalog.=) h.start::pg_catalog.text::pg_catalog.timestamptz) IS NOT FALSE))
		FROM pg_catalog.jsonb_to_recordset($5::pg_catalog.text::pg_catalog.jsonb) AS h (high bigint, low bigint, mode pg_catalog.text, pid int, start pg_catalog.text, guard bigint)) AS met, $3::bigint AS changes),
_stored AS (
	UPDATE "app"."users" AS t SET "profile" = new.doc, "revision" = coalesce(t."revision", 0) OPERATOR(pg_catalog.+) _condition.changes, "changed" = pg_catalog.clock_timestamp()
	FROM _condition, (SELECT $4::pg_catalog.text::pg_catalog.jsonb AS doc OFFSET 0) AS new
	WHERE t."email" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid AND _condition.met
	RETURNING coalesce(t."revision", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."changed"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."changed"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at,
		CASE WHEN t."profile" OPERATOR(pg_catalog.=) new.doc THEN NULL ELSE coalesce(t."profile", '{}') END AS altered
)
SELECT _condition.met, _stored.version IS NOT NULL, coalesce(_stored.version, 0), _stored.updated_at, _stored.altered
FROM _condition LEFT JOIN _stored ON true

-- app.users: Delete under several holds
WITH _condition AS MATERIALIZED (SELECT (SELECT pg_catalog.bool_and(EXISTS (
		SELECT FROM pg_catalog.pg_locks AS l, pg_catalog.pg_stat_get_activity(h.pid::int) AS a
		WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.mode OPERATOR(pg_catalog.=) h.mode AND l.granted
			AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
			AND l.classid OPERATOR(pg_catalog.=) h.high::bigint::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) h.low::bigint::pg_catalog.oid AND l.objsubid OPERATOR(pg_catalog.=) 1
			AND l.pid OPERATOR(pg_catalog.=) h.pid::int
			AND (a.backend_start OPERATOR(pg_catalog.=) h.start::pg_catalog.text::pg_catalog.timestamptz) IS NOT FALSE))
		FROM pg_catalog.jsonb_to_recordset($3::pg_catalog.text::pg_catalog.jsonb) AS h (high bigint, low bigint, mode pg_catalog.text, pid int, start pg_catalog.text, guard bigint)) AS met),
_removed AS (DELETE FROM "app"."users" AS t USING _condition WHERE t."email" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid AND _condition.met RETURNING 1)
SELECT _condition.met, EXISTS (SELECT FROM _removed), 0::bigint, NULL::bigint, NULL::pg_catalog.jsonb
FROM _condition

-- app.users: Watch: read
WITH _server AS MATERIALIZED (
	SELECT CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN (SELECT system_identifier::pg_catalog.text FROM pg_catalog.pg_control_system()) OPERATOR(pg_catalog.||) ' ' OPERATOR(pg_catalog.||) pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8) END AS timeline, extract(epoch FROM pg_catalog.pg_postmaster_start_time())::pg_catalog.text AS since
), _found AS (
	SELECT k.place, t."email" IS NOT NULL AS here, coalesce(_server.since OPERATOR(pg_catalog.||) ' ' OPERATOR(pg_catalog.||) t.xmin::pg_catalog.text OPERATOR(pg_catalog.||) ' ' OPERATOR(pg_catalog.||) t.ctid::pg_catalog.text OPERATOR(pg_catalog.||) ' ' OPERATOR(pg_catalog.||) coalesce(t."revision", 0)::bigint::pg_catalog.text, '-') AS mark, coalesce(t."profile", '{}') AS metadata, coalesce(t."revision", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."changed"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."changed"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at,
		pg_catalog.sum(coalesce(pg_catalog.pg_column_size(t."profile"), 0)) OVER (ORDER BY k.place) AS size
	FROM pg_catalog.unnest($1::pg_catalog.text[]::pg_catalog.text[]) WITH ORDINALITY AS k (id, place) CROSS JOIN _server LEFT JOIN "app"."users" AS t ON t."email" OPERATOR(pg_catalog.=) k.id AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid
)
SELECT _server.timeline, _found.place, _found.here, _found.mark, _found.metadata, _found.version, _found.updated_at
FROM _server LEFT JOIN _found ON _found.place OPERATOR(pg_catalog.=) 1::bigint OR _found.size OPERATOR(pg_catalog.<=) $3::bigint

-- app.users: Watch: compare
WITH _server AS MATERIALIZED (
	SELECT CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN (SELECT system_identifier::pg_catalog.text FROM pg_catalog.pg_control_system()) OPERATOR(pg_catalog.||) ' ' OPERATOR(pg_catalog.||) pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8) END AS timeline, extract(epoch FROM pg_catalog.pg_postmaster_start_time())::pg_catalog.text AS since
), _other AS (
	SELECT k.place
	FROM unnest($1::pg_catalog.text[]::pg_catalog.text[], $3::pg_catalog.text[]) WITH ORDINALITY AS k (id, mark, place) CROSS JOIN _server LEFT JOIN "app"."users" AS t ON t."email" OPERATOR(pg_catalog.=) k.id AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid
	WHERE coalesce(_server.since OPERATOR(pg_catalog.||) ' ' OPERATOR(pg_catalog.||) t.xmin::pg_catalog.text OPERATOR(pg_catalog.||) ' ' OPERATOR(pg_catalog.||) t.ctid::pg_catalog.text OPERATOR(pg_catalog.||) ' ' OPERATOR(pg_catalog.||) coalesce(t."revision", 0)::bigint::pg_catalog.text, '-') OPERATOR(pg_catalog.<>) k.mark
)
SELECT _server.timeline, coalesce(_other.place, 0) FROM _server LEFT JOIN _other ON true

-- app.users: Watch a view: compare
WITH _server AS MATERIALIZED (
	SELECT CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN (SELECT system_identifier::pg_catalog.text FROM pg_catalog.pg_control_system()) OPERATOR(pg_catalog.||) ' ' OPERATOR(pg_catalog.||) pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8) END AS timeline, extract(epoch FROM pg_catalog.pg_postmaster_start_time())::pg_catalog.text AS since
), _other AS (
	SELECT k.place
	FROM unnest($1::pg_catalog.text[]::pg_catalog.text[], $3::pg_catalog.text[]) WITH ORDINALITY AS k (id, mark, place) CROSS JOIN _server LEFT JOIN "app"."users" AS t ON t."email" OPERATOR(pg_catalog.=) k.id AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid
	WHERE coalesce(CASE WHEN t."email" IS NOT NULL THEN pg_catalog.hashtextextended(coalesce(t."profile", '{}')::pg_catalog.text COLLATE pg_catalog."C", 0::bigint)::pg_catalog.text
		OPERATOR(pg_catalog.||) ' ' OPERATOR(pg_catalog.||) coalesce(t."revision", 0)::bigint::pg_catalog.text OPERATOR(pg_catalog.||) ' ' OPERATOR(pg_catalog.||) coalesce((CASE WHEN pg_catalog.isfinite(t."changed"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."changed"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END)::pg_catalog.text, '') END, '-') OPERATOR(pg_catalog.<>) k.mark
)
SELECT _server.timeline, coalesce(_other.place, 0) FROM _server LEFT JOIN _other ON true

-- app.users: Once: look up
SELECT n.place, o.digest, o.version FROM pg_catalog.unnest($1::pg_catalog.text[]) WITH ORDINALITY AS n (token, place), LATERAL (
	SELECT pg_catalog.encode(pg_catalog.uuid_send(digest), 'hex') AS digest, version FROM "app"."tokens" WHERE token OPERATOR(pg_catalog.=) n.token::pg_catalog.uuid OFFSET 0) AS o

-- app.users: Once: Merge, alone
WITH _stored AS (
UPDATE "app"."users" AS t SET "profile" = CASE WHEN $5::boolean AND pg_catalog.jsonb_typeof(t."profile") OPERATOR(pg_catalog.=) 'object' THEN t."profile" OPERATOR(pg_catalog.||) $3::pg_catalog.text::pg_catalog.jsonb ELSE "app"."lockstore_merge_patch"(t."profile"::pg_catalog.jsonb, $3::pg_catalog.text::pg_catalog.jsonb) END, "revision" = coalesce(t."revision", 0) OPERATOR(pg_catalog.+) 1, "changed" = pg_catalog.clock_timestamp()
WHERE t."email" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid AND (SELECT pg_catalog.set_config('lock_timeout', (extract(epoch FROM GREATEST(LEAST('5000ms'::interval,
	CASE WHEN pg_catalog.current_setting('lock_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('lock_timeout', true)::interval END,
	CASE WHEN pg_catalog.current_setting('statement_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('statement_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END,
	CASE WHEN pg_catalog.current_setting('transaction_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('transaction_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL)
	AND pg_catalog.pg_try_advisory_xact_lock($4::bigint) AND (coalesce(pg_catalog.pg_column_size(t."profile" OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) LEAST(2147483647, 65536, $7::bigint OPERATOR(pg_catalog./) 90) OR coalesce(pg_catalog.pg_column_size(t."profile" OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) 2147483647 AND ($5::boolean OR coalesce(pg_catalog.pg_column_size(t."profile" OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) 65536)
		AND pg_catalog.octet_length(t."profile"::pg_catalog.text) OPERATOR(pg_catalog.<=) $7::bigint) AND ($6::boolean AND NOT t."profile" OPERATOR(pg_catalog.@>) $3::pg_catalog.text::pg_catalog.jsonb OR NOT CASE WHEN $5::boolean AND pg_catalog.jsonb_typeof(t."profile") OPERATOR(pg_catalog.=) 'object' THEN t."profile" OPERATOR(pg_catalog.||) $3::pg_catalog.text::pg_catalog.jsonb ELSE "app"."lockstore_merge_patch"(t."profile"::pg_catalog.jsonb, $3::pg_catalog.text::pg_catalog.jsonb) END OPERATOR(pg_catalog.=) coalesce(t."profile", '{}')) AND (SELECT true FROM "app"."tokens" AS o WHERE o.token OPERATOR(pg_catalog.=) ($8::pg_catalog.text[])[1]::pg_catalog.uuid) IS NULL
RETURNING coalesce(t."profile", '{}') AS metadata, coalesce(t."revision", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."changed"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."changed"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at),
_kept AS (
	INSERT INTO "app"."tokens" (token, digest, version, at)
	SELECT ($8::pg_catalog.text[])[1]::pg_catalog.uuid, ($9::pg_catalog.text[])[1]::pg_catalog.uuid, version OPERATOR(pg_catalog.-) ($10::bigint[])[1], pg_catalog.clock_timestamp() FROM _stored
)
SELECT metadata, version, updated_at FROM _stored

-- app.users: Once: Merge, alone, and old tokens go
WITH _stored AS (
UPDATE "app"."users" AS t SET "profile" = CASE WHEN $5::boolean AND pg_catalog.jsonb_typeof(t."profile") OPERATOR(pg_catalog.=) 'object' THEN t."profile" OPERATOR(pg_catalog.||) $3::pg_catalog.text::pg_catalog.jsonb ELSE "app"."lockstore_merge_patch"(t."profile"::pg_catalog.jsonb, $3::pg_catalog.text::pg_catalog.jsonb) END, "revision" = coalesce(t."revision", 0) OPERATOR(pg_catalog.+) 1, "changed" = pg_catalog.clock_timestamp()
WHERE t."email" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid AND (SELECT pg_catalog.set_config('lock_timeout', (extract(epoch FROM GREATEST(LEAST('5000ms'::interval,
	CASE WHEN pg_catalog.current_setting('lock_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('lock_timeout', true)::interval END,
	CASE WHEN pg_catalog.current_setting('statement_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('statement_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END,
	CASE WHEN pg_catalog.current_setting('transaction_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('transaction_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL)
	AND pg_catalog.pg_try_advisory_xact_lock($4::bigint) AND (coalesce(pg_catalog.pg_column_size(t."profile" OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) LEAST(2147483647, 65536, $7::bigint OPERATOR(pg_catalog./) 90) OR coalesce(pg_catalog.pg_column_size(t."profile" OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) 2147483647 AND ($5::boolean OR coalesce(pg_catalog.pg_column_size(t."profile" OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) 65536)
		AND pg_catalog.octet_length(t."profile"::pg_catalog.text) OPERATOR(pg_catalog.<=) $7::bigint) AND ($6::boolean AND NOT t."profile" OPERATOR(pg_catalog.@>) $3::pg_catalog.text::pg_catalog.jsonb OR NOT CASE WHEN $5::boolean AND pg_catalog.jsonb_typeof(t."profile") OPERATOR(pg_catalog.=) 'object' THEN t."profile" OPERATOR(pg_catalog.||) $3::pg_catalog.text::pg_catalog.jsonb ELSE "app"."lockstore_merge_patch"(t."profile"::pg_catalog.jsonb, $3::pg_catalog.text::pg_catalog.jsonb) END OPERATOR(pg_catalog.=) coalesce(t."profile", '{}')) AND (SELECT true FROM "app"."tokens" AS o WHERE o.token OPERATOR(pg_catalog.=) ($8::pg_catalog.text[])[1]::pg_catalog.uuid) IS NULL
RETURNING coalesce(t."profile", '{}') AS metadata, coalesce(t."revision", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."changed"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."changed"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at),
_kept AS (
	INSERT INTO "app"."tokens" (token, digest, version, at)
	SELECT ($8::pg_catalog.text[])[1]::pg_catalog.uuid, ($9::pg_catalog.text[])[1]::pg_catalog.uuid, version OPERATOR(pg_catalog.-) ($10::bigint[])[1], pg_catalog.clock_timestamp() FROM _stored
), _aged AS (
	DELETE FROM "app"."tokens" AS a WHERE (SELECT true FROM "app"."tokens" AS o WHERE o.token OPERATOR(pg_catalog.=) a.token) AND a.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND a.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
		SELECT o.ctid FROM "app"."tokens" AS o WHERE o.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND EXISTS (SELECT FROM _stored)
		ORDER BY o.at LIMIT (SELECT $11::bigint) FOR UPDATE SKIP LOCKED))
)
SELECT metadata, version, updated_at FROM _stored

-- app.users: Once: create
WITH _wait AS MATERIALIZED (
	SELECT old AS host, pg_catalog.set_config('lock_timeout', (extract(epoch FROM GREATEST(LEAST('5000ms'::interval,
	CASE WHEN pg_catalog.current_setting('lock_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('lock_timeout', true)::interval END,
	CASE WHEN pg_catalog.current_setting('statement_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('statement_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END,
	CASE WHEN pg_catalog.current_setting('transaction_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('transaction_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL AS limited FROM pg_catalog.current_setting('lock_timeout') AS old
), _condition AS MATERIALIZED (SELECT true AND NOT EXISTS (SELECT FROM pg_catalog.unnest((SELECT $5::pg_catalog.text[])) AS n (token)
	WHERE (SELECT true FROM "app"."tokens" AS o WHERE o.token OPERATOR(pg_catalog.=) n.token::pg_catalog.uuid)) AS met, $3::bigint AS changes FROM _wait WHERE limited),
_new AS MATERIALIZED (SELECT $4::pg_catalog.text::pg_catalog.jsonb AS doc),
_stored AS (
	INSERT INTO "app"."users" AS t ("email", "profile", "tenant", "revision", "changed")
	SELECT $1::pg_catalog.text::pg_catalog.text, _new.doc, $2::pg_catalog.text::pg_catalog.uuid, _condition.changes, pg_catalog.clock_timestamp() FROM _condition, _new WHERE _condition.met
	ON CONFLICT DO NOTHING
	RETURNING t."email"::pg_catalog.text OPERATOR(pg_catalog.=) $1::pg_catalog.text AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid AS done, coalesce(t."revision", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."changed"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."changed"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at,
		CASE WHEN t."profile" OPERATOR(pg_catalog.=) (SELECT doc FROM _new) THEN NULL ELSE coalesce(t."profile", '{}') END AS altered
),
_kept AS (
	INSERT INTO "app"."tokens" (token, digest, version, at)
	SELECT k.token::pg_catalog.uuid, k.digest::pg_catalog.uuid, _stored.version OPERATOR(pg_catalog.-) k.behind, pg_catalog.clock_timestamp()
	FROM _stored, unnest((SELECT $5::pg_catalog.text[]), (SELECT $6::pg_catalog.text[]), (SELECT $7::bigint[])) AS k (token, digest, behind)
), _aged AS (
	DELETE FROM "app"."tokens" AS a WHERE (SELECT true FROM "app"."tokens" AS o WHERE o.token OPERATOR(pg_catalog.=) a.token) AND a.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND a.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
		SELECT o.ctid FROM "app"."tokens" AS o WHERE o.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND EXISTS (SELECT FROM _stored)
		ORDER BY o.at LIMIT (SELECT $8::bigint) FOR UPDATE SKIP LOCKED))
)
SELECT _condition.met AND pg_catalog.set_config('lock_timeout', _wait.host, true) IS NOT NULL, coalesce(_stored.done, false), coalesce(_stored.version, 0), _stored.updated_at, _stored.altered
FROM _wait CROSS JOIN _condition LEFT JOIN _stored ON true

-- app.users: Once: store
WITH _condition AS MATERIALIZED (SELECT true AND NOT EXISTS (SELECT FROM pg_catalog.unnest((SELECT $5::pg_catalog.text[])) AS n (token)
	WHERE (SELECT true FROM "app"."tokens" AS o WHERE o.token OPERATOR(pg_catalog.=) n.token::pg_catalog.uuid)) AS met, $3::bigint AS changes),
_stored AS (
	UPDATE "app"."users" AS t SET "profile" = new.doc, "revision" = coalesce(t."revision", 0) OPERATOR(pg_catalog.+) _condition.changes, "changed" = pg_catalog.clock_timestamp()
	FROM _condition, (SELECT $4::pg_catalog.text::pg_catalog.jsonb AS doc OFFSET 0) AS new
	WHERE t."email" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid AND _condition.met
	RETURNING coalesce(t."revision", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."changed"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."changed"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at,
		CASE WHEN t."profile" OPERATOR(pg_catalog.=) new.doc THEN NULL ELSE coalesce(t."profile", '{}') END AS altered
),
_kept AS (
	INSERT INTO "app"."tokens" (token, digest, version, at)
	SELECT k.token::pg_catalog.uuid, k.digest::pg_catalog.uuid, _stored.version OPERATOR(pg_catalog.-) k.behind, pg_catalog.clock_timestamp()
	FROM _stored, unnest((SELECT $5::pg_catalog.text[]), (SELECT $6::pg_catalog.text[]), (SELECT $7::bigint[])) AS k (token, digest, behind)
), _aged AS (
	DELETE FROM "app"."tokens" AS a WHERE (SELECT true FROM "app"."tokens" AS o WHERE o.token OPERATOR(pg_catalog.=) a.token) AND a.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND a.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
		SELECT o.ctid FROM "app"."tokens" AS o WHERE o.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND EXISTS (SELECT FROM _stored)
		ORDER BY o.at LIMIT (SELECT $8::bigint) FOR UPDATE SKIP LOCKED))
)
SELECT _condition.met, _stored.version IS NOT NULL, coalesce(_stored.version, 0), _stored.updated_at, _stored.altered
FROM _condition LEFT JOIN _stored ON true

-- app.users: Once: store if it is the same still
WITH _condition AS MATERIALIZED (SELECT pg_catalog.set_config('lock_timeout', (extract(epoch FROM GREATEST(LEAST('5000ms'::interval,
	CASE WHEN pg_catalog.current_setting('lock_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('lock_timeout', true)::interval END,
	CASE WHEN pg_catalog.current_setting('statement_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('statement_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END,
	CASE WHEN pg_catalog.current_setting('transaction_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('transaction_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL AND pg_catalog.pg_try_advisory_xact_lock($5::bigint) AND NOT EXISTS (SELECT FROM pg_catalog.unnest((SELECT $8::pg_catalog.text[])) AS n (token)
	WHERE (SELECT true FROM "app"."tokens" AS o WHERE o.token OPERATOR(pg_catalog.=) n.token::pg_catalog.uuid)) AS met, $3::bigint AS changes),
_stored AS (
	UPDATE "app"."users" AS t SET "profile" = new.doc, "revision" = coalesce(t."revision", 0) OPERATOR(pg_catalog.+) _condition.changes, "changed" = pg_catalog.clock_timestamp()
	FROM _condition, (SELECT $4::pg_catalog.text::pg_catalog.jsonb AS doc OFFSET 0) AS new
	WHERE t."email" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid AND _condition.met AND coalesce(t."revision", 0)::bigint OPERATOR(pg_catalog.=) $6::bigint AND CASE WHEN coalesce(pg_catalog.pg_column_size(t."profile" OPERATOR(pg_catalog.||) '{}')::bigint, 0) OPERATOR(pg_catalog.<=) 262144 THEN pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(coalesce(t."profile", '{}')::pg_catalog.text, 'UTF8')), 'hex') OPERATOR(pg_catalog.=) $7::pg_catalog.text ELSE false END
	RETURNING coalesce(t."revision", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."changed"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."changed"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at,
		CASE WHEN t."profile" OPERATOR(pg_catalog.=) new.doc THEN NULL ELSE coalesce(t."profile", '{}') END AS altered
),
_kept AS (
	INSERT INTO "app"."tokens" (token, digest, version, at)
	SELECT k.token::pg_catalog.uuid, k.digest::pg_catalog.uuid, _stored.version OPERATOR(pg_catalog.-) k.behind, pg_catalog.clock_timestamp()
	FROM _stored, unnest((SELECT $8::pg_catalog.text[]), (SELECT $9::pg_catalog.text[]), (SELECT $10::bigint[])) AS k (token, digest, behind)
), _aged AS (
	DELETE FROM "app"."tokens" AS a WHERE (SELECT true FROM "app"."tokens" AS o WHERE o.token OPERATOR(pg_catalog.=) a.token) AND a.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND a.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
		SELECT o.ctid FROM "app"."tokens" AS o WHERE o.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND EXISTS (SELECT FROM _stored)
		ORDER BY o.at LIMIT (SELECT $11::bigint) FOR UPDATE SKIP LOCKED))
)
SELECT _condition.met, _stored.version IS NOT NULL, coalesce(_stored.version, 0), _stored.updated_at, _stored.altered
FROM _condition LEFT JOIN _stored ON true

-- app.users: Once: Delete
WITH _condition AS MATERIALIZED (SELECT true AND NOT EXISTS (SELECT FROM pg_catalog.unnest((SELECT $3::pg_catalog.text[])) AS n (token)
	WHERE (SELECT true FROM "app"."tokens" AS o WHERE o.token OPERATOR(pg_catalog.=) n.token::pg_catalog.uuid)) AS met),
_removed AS (DELETE FROM "app"."users" AS t USING _condition WHERE t."email" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid AND _condition.met RETURNING 1),
_kept AS (
	INSERT INTO "app"."tokens" (token, digest, version, at)
	SELECT k.token::pg_catalog.uuid, k.digest::pg_catalog.uuid, 0::bigint OPERATOR(pg_catalog.-) k.behind, pg_catalog.clock_timestamp()
	FROM _removed, unnest((SELECT $3::pg_catalog.text[]), (SELECT $4::pg_catalog.text[]), (SELECT $5::bigint[])) AS k (token, digest, behind)
), _aged AS (
	DELETE FROM "app"."tokens" AS a WHERE (SELECT true FROM "app"."tokens" AS o WHERE o.token OPERATOR(pg_catalog.=) a.token) AND a.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND a.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
		SELECT o.ctid FROM "app"."tokens" AS o WHERE o.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND EXISTS (SELECT FROM _removed)
		ORDER BY o.at LIMIT (SELECT $6::bigint) FOR UPDATE SKIP LOCKED))
)
SELECT _condition.met, EXISTS (SELECT FROM _removed), 0::bigint, NULL::bigint, NULL::pg_catalog.jsonb
FROM _condition

-- app.users: Once: no change
WITH _condition AS MATERIALIZED (SELECT true AND NOT EXISTS (SELECT FROM pg_catalog.unnest((SELECT $3::pg_catalog.text[])) AS n (token)
	WHERE (SELECT true FROM "app"."tokens" AS o WHERE o.token OPERATOR(pg_catalog.=) n.token::pg_catalog.uuid)) AS met),
_stored AS (SELECT coalesce((SELECT coalesce(t."revision", 0)::bigint FROM "app"."users" AS t WHERE t."email" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid), 0::bigint) AS version FROM _condition WHERE _condition.met),
_kept AS (
	INSERT INTO "app"."tokens" (token, digest, version, at)
	SELECT k.token::pg_catalog.uuid, k.digest::pg_catalog.uuid, _stored.version OPERATOR(pg_catalog.-) k.behind, pg_catalog.clock_timestamp()
	FROM _stored, unnest((SELECT $3::pg_catalog.text[]), (SELECT $4::pg_catalog.text[]), (SELECT $5::bigint[])) AS k (token, digest, behind)
), _aged AS (
	DELETE FROM "app"."tokens" AS a WHERE (SELECT true FROM "app"."tokens" AS o WHERE o.token OPERATOR(pg_catalog.=) a.token) AND a.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND a.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
		SELECT o.ctid FROM "app"."tokens" AS o WHERE o.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND EXISTS (SELECT FROM _stored)
		ORDER BY o.at LIMIT (SELECT $6::bigint) FOR UPDATE SKIP LOCKED))
)
SELECT _condition.met, _stored.version IS NOT NULL, coalesce(_stored.version, 0), NULL::bigint, NULL::pg_catalog.jsonb
FROM _condition LEFT JOIN _stored ON true

-- app.users: Once under a hold: create
WITH _wait AS MATERIALIZED (
	SELECT old AS host, pg_catalog.set_config('lock_timeout', (extract(epoch FROM GREATEST(LEAST('5000ms'::interval,
	CASE WHEN pg_catalog.current_setting('lock_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('lock_timeout', true)::interval END,
	CASE WHEN pg_catalog.current_setting('statement_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('statement_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END,
	CASE WHEN pg_catalog.current_setting('transaction_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('transaction_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL AS limited FROM pg_catalog.current_setting('lock_timeout') AS old
), _condition AS MATERIALIZED (SELECT EXISTS (
		SELECT FROM pg_catalog.pg_locks AS l, pg_catalog.pg_stat_get_activity($7::int) AS a
		WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.mode OPERATOR(pg_catalog.=) 'ExclusiveLock' AND l.granted
			AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
			AND l.classid OPERATOR(pg_catalog.=) $5::bigint::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) $6::bigint::pg_catalog.oid AND l.objsubid OPERATOR(pg_catalog.=) 1
			AND l.pid OPERATOR(pg_catalog.=) $7::int
			AND (a.backend_start OPERATOR(pg_catalog.=) $8::pg_catalog.text::pg_catalog.timestamptz) IS NOT FALSE) AND NOT EXISTS (SELECT FROM pg_catalog.unnest((SELECT $9::pg_catalog.text[])) AS n (token)
	WHERE (SELECT true FROM "app"."tokens" AS o WHERE o.token OPERATOR(pg_catalog.=) n.token::pg_catalog.uuid)) AS met, $3::bigint AS changes FROM _wait WHERE limited),
_new AS MATERIALIZED (SELECT $4::pg_catalog.text::pg_catalog.jsonb AS doc),
_stored AS (
	INSERT INTO "app"."users" AS t ("email", "profile", "tenant", "revision", "changed")
	SELECT $1::pg_catalog.text::pg_catalog.text, _new.doc, $2::pg_catalog.text::pg_catalog.uuid, _condition.changes, pg_catalog.clock_timestamp() FROM _condition, _new WHERE _condition.met
	ON CONFLICT DO NOTHING
	RETURNING t."email"::pg_catalog.text OPERATOR(pg_catalog.=) $1::pg_catalog.text AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid AS done, coalesce(t."revision", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."changed"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."changed"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at,
		CASE WHEN t."profile" OPERATOR(pg_catalog.=) (SELECT doc FROM _new) THEN NULL ELSE coalesce(t."profile", '{}') END AS altered
),
_kept AS (
	INSERT INTO "app"."tokens" (token, digest, version, at)
	SELECT k.token::pg_catalog.uuid, k.digest::pg_catalog.uuid, _stored.version OPERATOR(pg_catalog.-) k.behind, pg_catalog.clock_timestamp()
	FROM _stored, unnest((SELECT $9::pg_catalog.text[]), (SELECT $10::pg_catalog.text[]), (SELECT $11::bigint[])) AS k (token, digest, behind)
), _aged AS (
	DELETE FROM "app"."tokens" AS a WHERE (SELECT true FROM "app"."tokens" AS o WHERE o.token OPERATOR(pg_catalog.=) a.token) AND a.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND a.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
		SELECT o.ctid FROM "app"."tokens" AS o WHERE o.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND EXISTS (SELECT FROM _stored)
		ORDER BY o.at LIMIT (SELECT $12::bigint) FOR UPDATE SKIP LOCKED))
)
SELECT _condition.met AND pg_catalog.set_config('lock_timeout', _wait.host, true) IS NOT NULL, coalesce(_stored.done, false), coalesce(_stored.version, 0), _stored.updated_at, _stored.altered
FROM _wait CROSS JOIN _condition LEFT JOIN _stored ON true

-- app.users: Once under a hold: store
WITH _condition AS MATERIALIZED (SELECT EXISTS (
		SELECT FROM pg_catalog.pg_locks AS l, pg_catalog.pg_stat_get_activity($7::int) AS a
		WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.mode OPERATOR(pg_catalog.=) 'ExclusiveLock' AND l.granted
			AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
			AND l.classid OPERATOR(pg_catalog.=) $5::bigint::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) $6::bigint::pg_catalog.oid AND l.objsubid OPERATOR(pg_catalog.=) 1
			AND l.pid OPERATOR(pg_catalog.=) $7::int
			AND (a.backend_start OPERATOR(pg_catalog.=) $8::pg_catalog.text::pg_catalog.timestamptz) IS NOT FALSE) AND NOT EXISTS (SELECT FROM pg_catalog.unnest((SELECT $9::pg_catalog.text[])) AS n (token)
	WHERE (SELECT true FROM "app"."tokens" AS o WHERE o.token OPERATOR(pg_catalog.=) n.token::pg_catalog.uuid)) AS met, $3::bigint AS changes),
_stored AS (
	UPDATE "app"."users" AS t SET "profile" = new.doc, "revision" = coalesce(t."revision", 0) OPERATOR(pg_catalog.+) _condition.changes, "changed" = pg_catalog.clock_timestamp()
	FROM _condition, (SELECT $4::pg_catalog.text::pg_catalog.jsonb AS doc OFFSET 0) AS new
	WHERE t."email" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid AND _condition.met
	RETURNING coalesce(t."revision", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."changed"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."changed"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at,
		CASE WHEN t."profile" OPERATOR(pg_catalog.=) new.doc THEN NULL ELSE coalesce(t."profile", '{}') END AS altered
),
_kept AS (
	INSERT INTO "app"."tokens" (token, digest, version, at)
	SELECT k.token::pg_catalog.uuid, k.digest::pg_catalog.uuid, _stored.version OPERATOR(pg_catalog.-) k.behind, pg_catalog.clock_timestamp()
	FROM _stored, unnest((SELECT $9::pg_catalog.text[]), (SELECT $10::pg_catalog.text[]), (SELECT $11::bigint[])) AS k (token, digest, behind)
), _aged AS (
	DELETE FROM "app"."tokens" AS a WHERE (SELECT true FROM "app"."tokens" AS o WHERE o.token OPERATOR(pg_catalog.=) a.token) AND a.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND a.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
		SELECT o.ctid FROM "app"."tokens" AS o WHERE o.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND EXISTS (SELECT FROM _stored)
		ORDER BY o.at LIMIT (SELECT $12::bigint) FOR UPDATE SKIP LOCKED))
)
SELECT _condition.met, _stored.version IS NOT NULL, coalesce(_stored.version, 0), _stored.updated_at, _stored.altered
FROM _condition LEFT JOIN _stored ON true

-- app.users: Once under a hold: Delete
WITH _condition AS MATERIALIZED (SELECT EXISTS (
		SELECT FROM pg_catalog.pg_locks AS l, pg_catalog.pg_stat_get_activity($5::int) AS a
		WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.mode OPERATOR(pg_catalog.=) 'ExclusiveLock' AND l.granted
			AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
			AND l.classid OPERATOR(pg_catalog.=) $3::bigint::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) $4::bigint::pg_catalog.oid AND l.objsubid OPERATOR(pg_catalog.=) 1
			AND l.pid OPERATOR(pg_catalog.=) $5::int
			AND (a.backend_start OPERATOR(pg_catalog.=) $6::pg_catalog.text::pg_catalog.timestamptz) IS NOT FALSE) AND NOT EXISTS (SELECT FROM pg_catalog.unnest((SELECT $7::pg_catalog.text[])) AS n (token)
	WHERE (SELECT true FROM "app"."tokens" AS o WHERE o.token OPERATOR(pg_catalog.=) n.token::pg_catalog.uuid)) AS met),
_removed AS (DELETE FROM "app"."users" AS t USING _condition WHERE t."email" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid AND _condition.met RETURNING 1),
_kept AS (
	INSERT INTO "app"."tokens" (token, digest, version, at)
	SELECT k.token::pg_catalog.uuid, k.digest::pg_catalog.uuid, 0::bigint OPERATOR(pg_catalog.-) k.behind, pg_catalog.clock_timestamp()
	FROM _removed, unnest((SELECT $7::pg_catalog.text[]), (SELECT $8::pg_catalog.text[]), (SELECT $9::bigint[])) AS k (token, digest, behind)
), _aged AS (
	DELETE FROM "app"."tokens" AS a WHERE (SELECT true FROM "app"."tokens" AS o WHERE o.token OPERATOR(pg_catalog.=) a.token) AND a.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND a.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
		SELECT o.ctid FROM "app"."tokens" AS o WHERE o.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND EXISTS (SELECT FROM _removed)
		ORDER BY o.at LIMIT (SELECT $10::bigint) FOR UPDATE SKIP LOCKED))
)
SELECT _condition.met, EXISTS (SELECT FROM _removed), 0::bigint, NULL::bigint, NULL::pg_catalog.jsonb
FROM _condition

-- app.users: Once under a hold: no change
WITH _condition AS MATERIALIZED (SELECT EXISTS (
		SELECT FROM pg_catalog.pg_locks AS l, pg_catalog.pg_stat_get_activity($5::int) AS a
		WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.mode OPERATOR(pg_catalog.=) 'ExclusiveLock' AND l.granted
			AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
			AND l.classid OPERATOR(pg_catalog.=) $3::bigint::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) $4::bigint::pg_catalog.oid AND l.objsubid OPERATOR(pg_catalog.=) 1
			AND l.pid OPERATOR(pg_catalog.=) $5::int
			AND (a.backend_start OPERATOR(pg_catalog.=) $6::pg_catalog.text::pg_catalog.timestamptz) IS NOT FALSE) AND NOT EXISTS (SELECT FROM pg_catalog.unnest((SELECT $7::pg_catalog.text[])) AS n (token)
	WHERE (SELECT true FROM "app"."tokens" AS o WHERE o.token OPERATOR(pg_catalog.=) n.token::pg_catalog.uuid)) AS met),
_stored AS (SELECT coalesce((SELECT coalesce(t."revision", 0)::bigint FROM "app"."users" AS t WHERE t."email" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid), 0::bigint) AS version FROM _condition WHERE _condition.met),
_kept AS (
	INSERT INTO "app"."tokens" (token, digest, version, at)
	SELECT k.token::pg_catalog.uuid, k.digest::pg_catalog.uuid, _stored.version OPERATOR(pg_catalog.-) k.behind, pg_catalog.clock_timestamp()
	FROM _stored, unnest((SELECT $7::pg_catalog.text[]), (SELECT $8::pg_catalog.text[]), (SELECT $9::bigint[])) AS k (token, digest, behind)
), _aged AS (
	DELETE FROM "app"."tokens" AS a WHERE (SELECT true FROM "app"."tokens" AS o WHERE o.token OPERATOR(pg_catalog.=) a.token) AND a.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND a.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
		SELECT o.ctid FROM "app"."tokens" AS o WHERE o.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND EXISTS (SELECT FROM _stored)
		ORDER BY o.at LIMIT (SELECT $10::bigint) FOR UPDATE SKIP LOCKED))
)
SELECT _condition.met, _stored.version IS NOT NULL, coalesce(_stored.version, 0), NULL::bigint, NULL::pg_catalog.jsonb
FROM _condition LEFT JOIN _stored ON true

-- app.users: Once under several holds: create
WITH _wait AS MATERIALIZED (
	SELECT old AS host, pg_catalog.set_config('lock_timeout', (extract(epoch FROM GREATEST(LEAST('5000ms'::interval,
	CASE WHEN pg_catalog.current_setting('lock_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('lock_timeout', true)::interval END,
	CASE WHEN pg_catalog.current_setting('statement_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('statement_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END,
	CASE WHEN pg_catalog.current_setting('transaction_timeout', true) OPERATOR(pg_catalog.<>) '0' THEN pg_catalog.current_setting('transaction_timeout', true)::interval OPERATOR(pg_catalog./) 4::double precision END), interval '1ms')) OPERATOR(pg_catalog.*) 1000::numeric)::int::pg_catalog.text, true) IS NOT NULL AS limited FROM pg_catalog.current_setting('lock_timeout') AS old
), _condition AS MATERIALIZED (SELECT (SELECT pg_catalog.bool_and(EXISTS (
		SELECT FROM pg_catalog.pg_locks AS l, pg_catalog.pg_stat_get_activity(h.pid::int) AS a
		WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.mode OPERATOR(pg_catalog.=) h.mode AND l.granted
			AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
			AND l.classid OPERATOR(pg_catalog.=) h.high::bigint::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) h.low::bigint::pg_catalog.oid AND l.objsubid OPERATOR(pg_catalog.=) 1
			AND l.pid OPERATOR(pg_catalog.=) h.pid::int
			AND (a.backend_start OPERATOR(pg_catalog.=) h.start::pg_catalog.text::pg_catalog.timestamptz) IS NOT FALSE))
		FROM pg_catalog.jsonb_to_recordset($5::pg_catalog.text::pg_catalog.jsonb) AS h (high bigint, low bigint, mode pg_catalog.text, pid int, start pg_catalog.text, guard bigint)) AND NOT EXISTS (SELECT FROM pg_catalog.unnest((SELECT $6::pg_catalog.text[])) AS n (token)
	WHERE (SELECT true FROM "app"."tokens" AS o WHERE o.token OPERATOR(pg_catalog.=) n.token::pg_catalog.uuid)) AS met, $3::bigint AS changes FROM _wait WHERE limited),
_new AS MATERIALIZED (SELECT $4::pg_catalog.text::pg_catalog.jsonb AS doc),
_stored AS (
	INSERT INTO "app"."users" AS t ("email", "profile", "tenant", "revision", "changed")
	SELECT $1::pg_catalog.text::pg_catalog.text, _new.doc, $2::pg_catalog.text::pg_catalog.uuid, _condition.changes, pg_catalog.clock_timestamp() FROM _condition, _new WHERE _condition.met
	ON CONFLICT DO NOTHING
	RETURNING t."email"::pg_catalog.text OPERATOR(pg_catalog.=) $1::pg_catalog.text AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid AS done, coalesce(t."revision", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."changed"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."changed"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at,
		CASE WHEN t."profile" OPERATOR(pg_catalog.=) (SELECT doc FROM _new) THEN NULL ELSE coalesce(t."profile", '{}') END AS altered
),
_kept AS (
	INSERT INTO "app"."tokens" (token, digest, version, at)
	SELECT k.token::pg_catalog.uuid, k.digest::pg_catalog.uuid, _stored.version OPERATOR(pg_catalog.-) k.behind, pg_catalog.clock_timestamp()
	FROM _stored, unnest((SELECT $6::pg_catalog.text[]), (SELECT $7::pg_catalog.text[]), (SELECT $8::bigint[])) AS k (token, digest, behind)
), _aged AS (
	DELETE FROM "app"."tokens" AS a WHERE (SELECT true FROM "app"."tokens" AS o WHERE o.token OPERATOR(pg_catalog.=) a.token) AND a.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND a.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
		SELECT o.ctid FROM "app"."tokens" AS o WHERE o.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND EXISTS (SELECT FROM _stored)
		ORDER BY o.at LIMIT (SELECT $9::bigint) FOR UPDATE SKIP LOCKED))
)
SELECT _condition.met AND pg_catalog.set_config('lock_timeout', _wait.host, true) IS NOT NULL, coalesce(_stored.done, false), coalesce(_stored.version, 0), _stored.updated_at, _stored.altered
FROM _wait CROSS JOIN _condition LEFT JOIN _stored ON true

-- app.users: Once under several holds: store
WITH _condition AS MATERIALIZED (SELECT (SELECT pg_catalog.bool_and(EXISTS (
		SELECT FROM pg_catalog.pg_locks AS l, pg_catalog.pg_stat_get_activity(h.pid::int) AS a
		WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.mode OPERATOR(pg_catalog.=) h.mode AND l.granted
			AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
			AND l.classid OPERATOR(pg_catalog.=) h.high::bigint::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) h.low::bigint::pg_catalog.oid AND l.objsubid OPERATOR(pg_catalog.=) 1
			AND l.pid OPERATOR(pg_catalog.=) h.pid::int
			AND (a.backend_start OPERATOR(pg_catalog.=) h.start::pg_catalog.text::pg_catalog.timestamptz) IS NOT FALSE))
		FROM pg_catalog.jsonb_to_recordset($5::pg_catalog.text::pg_catalog.jsonb) AS h (high bigint, low bigint, mode pg_catalog.text, pid int, start pg_catalog.text, guard bigint)) AND NOT EXISTS (SELECT FROM pg_catalog.unnest((SELECT $6::pg_catalog.text[])) AS n (token)
	WHERE (SELECT true FROM "app"."tokens" AS o WHERE o.token OPERATOR(pg_catalog.=) n.token::pg_catalog.uuid)) AS met, $3::bigint AS changes),
_stored AS (
	UPDATE "app"."users" AS t SET "profile" = new.doc, "revision" = coalesce(t."revision", 0) OPERATOR(pg_catalog.+) _condition.changes, "changed" = pg_catalog.clock_timestamp()
	FROM _condition, (SELECT $4::pg_catalog.text::pg_catalog.jsonb AS doc OFFSET 0) AS new
	WHERE t."email" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid AND _condition.met
	RETURNING coalesce(t."revision", 0)::bigint AS version, CASE WHEN pg_catalog.isfinite(t."changed"::pg_catalog.timestamptz) THEN ((extract(epoch FROM t."changed"::pg_catalog.timestamptz) OPERATOR(pg_catalog.-) 946684800::numeric) OPERATOR(pg_catalog.*) 1000000::numeric)::bigint END AS updated_at,
		CASE WHEN t."profile" OPERATOR(pg_catalog.=) new.doc THEN NULL ELSE coalesce(t."profile", '{}') END AS altered
),
_kept AS (
	INSERT INTO "app"."tokens" (token, digest, version, at)
	SELECT k.token::pg_catalog.uuid, k.digest::pg_catalog.uuid, _stored.version OPERATOR(pg_catalog.-) k.behind, pg_catalog.clock_timestamp()
	FROM _stored, unnest((SELECT $6::pg_catalog.text[]), (SELECT $7::pg_catalog.text[]), (SELECT $8::bigint[])) AS k (token, digest, behind)
), _aged AS (
	DELETE FROM "app"."tokens" AS a WHERE (SELECT true FROM "app"."tokens" AS o WHERE o.token OPERATOR(pg_catalog.=) a.token) AND a.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND a.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
		SELECT o.ctid FROM "app"."tokens" AS o WHERE o.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND EXISTS (SELECT FROM _stored)
		ORDER BY o.at LIMIT (SELECT $9::bigint) FOR UPDATE SKIP LOCKED))
)
SELECT _condition.met, _stored.version IS NOT NULL, coalesce(_stored.version, 0), _stored.updated_at, _stored.altered
FROM _condition LEFT JOIN _stored ON true

-- app.users: Once under several holds: Delete
WITH _condition AS MATERIALIZED (SELECT (SELECT pg_catalog.bool_and(EXISTS (
		SELECT FROM pg_catalog.pg_locks AS l, pg_catalog.pg_stat_get_activity(h.pid::int) AS a
		WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.mode OPERATOR(pg_catalog.=) h.mode AND l.granted
			AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
			AND l.classid OPERATOR(pg_catalog.=) h.high::bigint::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) h.low::bigint::pg_catalog.oid AND l.objsubid OPERATOR(pg_catalog.=) 1
			AND l.pid OPERATOR(pg_catalog.=) h.pid::int
			AND (a.backend_start OPERATOR(pg_catalog.=) h.start::pg_catalog.text::pg_catalog.timestamptz) IS NOT FALSE))
		FROM pg_catalog.jsonb_to_recordset($3::pg_catalog.text::pg_catalog.jsonb) AS h (high bigint, low bigint, mode pg_catalog.text, pid int, start pg_catalog.text, guard bigint)) AND NOT EXISTS (SELECT FROM pg_catalog.unnest((SELECT $4::pg_catalog.text[])) AS n (token)
	WHERE (SELECT true FROM "app"."tokens" AS o WHERE o.token OPERATOR(pg_catalog.=) n.token::pg_catalog.uuid)) AS met),
_removed AS (DELETE FROM "app"."users" AS t USING _condition WHERE t."email" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid AND _condition.met RETURNING 1),
_kept AS (
	INSERT INTO "app"."tokens" (token, digest, version, at)
	SELECT k.token::pg_catalog.uuid, k.digest::pg_catalog.uuid, 0::bigint OPERATOR(pg_catalog.-) k.behind, pg_catalog.clock_timestamp()
	FROM _removed, unnest((SELECT $4::pg_catalog.text[]), (SELECT $5::pg_catalog.text[]), (SELECT $6::bigint[])) AS k (token, digest, behind)
), _aged AS (
	DELETE FROM "app"."tokens" AS a WHERE (SELECT true FROM "app"."tokens" AS o WHERE o.token OPERATOR(pg_catalog.=) a.token) AND a.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND a.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
		SELECT o.ctid FROM "app"."tokens" AS o WHERE o.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND EXISTS (SELECT FROM _removed)
		ORDER BY o.at LIMIT (SELECT $7::bigint) FOR UPDATE SKIP LOCKED))
)
SELECT _condition.met, EXISTS (SELECT FROM _removed), 0::bigint, NULL::bigint, NULL::pg_catalog.jsonb
FROM _condition

-- app.users: Once under several holds: no change
WITH _condition AS MATERIALIZED (SELECT (SELECT pg_catalog.bool_and(EXISTS (
		SELECT FROM pg_catalog.pg_locks AS l, pg_catalog.pg_stat_get_activity(h.pid::int) AS a
		WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.mode OPERATOR(pg_catalog.=) h.mode AND l.granted
			AND l.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
			AND l.classid OPERATOR(pg_catalog.=) h.high::bigint::pg_catalog.oid AND l.objid OPERATOR(pg_catalog.=) h.low::bigint::pg_catalog.oid AND l.objsubid OPERATOR(pg_catalog.=) 1
			AND l.pid OPERATOR(pg_catalog.=) h.pid::int
			AND (a.backend_start OPERATOR(pg_catalog.=) h.start::pg_catalog.text::pg_catalog.timestamptz) IS NOT FALSE))
		FROM pg_catalog.jsonb_to_recordset($3::pg_catalog.text::pg_catalog.jsonb) AS h (high bigint, low bigint, mode pg_catalog.text, pid int, start pg_catalog.text, guard bigint)) AND NOT EXISTS (SELECT FROM pg_catalog.unnest((SELECT $4::pg_catalog.text[])) AS n (token)
	WHERE (SELECT true FROM "app"."tokens" AS o WHERE o.token OPERATOR(pg_catalog.=) n.token::pg_catalog.uuid)) AS met),
_stored AS (SELECT coalesce((SELECT coalesce(t."revision", 0)::bigint FROM "app"."users" AS t WHERE t."email" OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.text AND t."tenant" OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.uuid), 0::bigint) AS version FROM _condition WHERE _condition.met),
_kept AS (
	INSERT INTO "app"."tokens" (token, digest, version, at)
	SELECT k.token::pg_catalog.uuid, k.digest::pg_catalog.uuid, _stored.version OPERATOR(pg_catalog.-) k.behind, pg_catalog.clock_timestamp()
	FROM _stored, unnest((SELECT $4::pg_catalog.text[]), (SELECT $5::pg_catalog.text[]), (SELECT $6::bigint[])) AS k (token, digest, behind)
), _aged AS (
	DELETE FROM "app"."tokens" AS a WHERE (SELECT true FROM "app"."tokens" AS o WHERE o.token OPERATOR(pg_catalog.=) a.token) AND a.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND a.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
		SELECT o.ctid FROM "app"."tokens" AS o WHERE o.at OPERATOR(pg_catalog.<=) (pg_catalog.now() OPERATOR(pg_catalog.-) '604800000ms'::interval) AND EXISTS (SELECT FROM _stored)
		ORDER BY o.at LIMIT (SELECT $7::bigint) FOR UPDATE SKIP LOCKED))
)
SELECT _condition.met, _stored.version IS NOT NULL, coalesce(_stored.version, 0), NULL::bigint, NULL::pg_catalog.jsonb
FROM _condition LEFT JOIN _stored ON true

