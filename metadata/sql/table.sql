CREATE TABLE IF NOT EXISTS {table} (
	id         text COLLATE "C" PRIMARY KEY,
	metadata   jsonb NOT NULL DEFAULT '{}',
	version    bigint NOT NULL DEFAULT 0,
	updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

