-- The host's own table, with a column for the metadata and one that counts its changes.
CREATE TABLE IF NOT EXISTS users (
	id         text PRIMARY KEY,
	metadata   jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata -> 'age') IS NULL OR jsonb_typeof(metadata -> 'age') = 'number'),
	version    bigint NOT NULL DEFAULT 0,
	updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX IF NOT EXISTS users_handle ON users ((metadata ->> 'handle'));
INSERT INTO users (id) VALUES ('ann'), ('bob'), ('cal') ON CONFLICT DO NOTHING;
