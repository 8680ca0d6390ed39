DO {do} BEGIN -- as above
	IF pg_catalog.to_regclass({keeps}) IS NULL THEN
		CREATE TABLE {tokens} (
			document pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
			token    pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
			digest   pg_catalog.bytea NOT NULL,
			version  bigint NOT NULL,
			at       pg_catalog.timestamptz NOT NULL,
			PRIMARY KEY (document, token)
		);
		CREATE INDEX ON {tokens} (at);
	END IF;
END {do};
