DO {do} BEGIN -- IF NOT EXISTS would need the right to create it even if it exists
	IF pg_catalog.to_regclass({relation}) IS NULL THEN
		CREATE TABLE {table} (
			id         pg_catalog.text COLLATE pg_catalog."C" PRIMARY KEY,
			metadata   pg_catalog.jsonb NOT NULL DEFAULT '{}',
			version    bigint NOT NULL DEFAULT 0,
			updated_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
		) WITH (fillfactor = 70); -- room for a document's next version beside it (PostgreSQL documentation, 73.7 Heap-Only Tuples)
	END IF;
END {do};

