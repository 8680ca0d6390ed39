DO {do} BEGIN -- as below
	IF pg_catalog.to_regnamespace({namespace}) IS NULL THEN
		CREATE SCHEMA {schema};
	END IF;
END {do};

