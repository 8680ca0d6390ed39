DROP FUNCTION IF EXISTS {function}(pg_catalog.jsonb, pg_catalog.jsonb);
