DO {do} BEGIN -- as above
	IF pg_catalog.to_regclass({keeps}) IS NULL THEN
		CREATE TABLE {tokens} (
			token   pg_catalog.uuid PRIMARY KEY,
			digest  pg_catalog.uuid NOT NULL,
			version bigint NOT NULL,
			at      pg_catalog.timestamptz NOT NULL
		);
		CREATE INDEX ON {tokens} (at);
	END IF;
END {do};
