CREATE TABLE users (
	id       text PRIMARY KEY,
	email    text NOT NULL,
	metadata jsonb NOT NULL DEFAULT '{}',
	revision bigint NOT NULL DEFAULT 0,
	CONSTRAINT known_plan CHECK (metadata->>'plan' IN ('free', 'pro'))
);
