CREATE TABLE IF NOT EXISTS {table} (
	id         text COLLATE "C" PRIMARY KEY,
	metadata   jsonb NOT NULL DEFAULT '{}',
	version    bigint NOT NULL DEFAULT 0,
	updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 70); -- room for a document's next version beside it (PostgreSQL documentation, 73.7 Heap-Only Tuples)

