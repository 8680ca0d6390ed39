DO {do} BEGIN -- IF NOT EXISTS would need the right to create it even if it exists
	IF pg_catalog.to_regnamespace({namespace}) IS NULL THEN
		CREATE SCHEMA {schema};
	END IF;
END {do};

